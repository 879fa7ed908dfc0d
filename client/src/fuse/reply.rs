//! Answers to the kernel: exactly one for each request.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use nacre_model::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::abi::output::OutHeader;
use super::device::Transport;

/// The kernel's own bound on segments of one write.
const SEGMENTS_MAX: usize = 1024;

/// What a request is answered with when it succeeds.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Structures, one after the other.
    head: Vec<u8>,
    /// Data behind them, sent from where it lies.
    data: Vec<Bytes>,
}

impl Answer {
    /// Nothing but success.
    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// One structure.
    pub(super) fn of<T: IntoBytes + Immutable>(value: &T) -> Self {
        Self { head: value.as_bytes().to_vec(), data: Vec::new() }
    }

    /// One more structure.
    #[must_use]
    pub(super) fn and<T: IntoBytes + Immutable>(mut self, value: &T) -> Self {
        self.head.extend_from_slice(value.as_bytes());
        self
    }

    /// Bytes that were put together already.
    pub(super) const fn packed(head: Vec<u8>) -> Self {
        Self { head, data: Vec::new() }
    }

    /// Data as it lies, in order.
    pub(super) fn data(mut data: Vec<Bytes>) -> Self {
        if data.len() >= SEGMENTS_MAX {
            data = vec![Bytes::from(data.concat())];
        }
        Self { head: Vec::new(), data }
    }
}

/// The right, and the duty, to answer one request. Dropped without an answer, it answers `EIO`:
/// so the caller of a task that panicked does not hang.
#[derive(Debug)]
#[must_use = "dropping answers EIO"]
pub(super) struct Reply {
    queue: Arc<dyn Transport>,
    unique: u64,
    answered: bool,
}

impl Reply {
    /// To the request `unique` that came by `queue`.
    pub(super) const fn new(queue: Arc<dyn Transport>, unique: u64) -> Self {
        Self { queue, unique, answered: false }
    }

    /// For a request that has no answer, such as FORGET.
    pub(super) fn none(mut self) {
        self.answered = true;
    }

    /// Answers.
    pub(super) fn send(mut self, answer: Result<Answer, Errno>) {
        self.answered = true;
        match answer {
            Ok(answer) => self.write(0, &answer.head, &answer.data),
            Err(errno) => self.write(errno.0.saturating_neg(), &[], &[]),
        }
    }

    fn write(&self, error: i32, head: &[u8], data: &[Bytes]) {
        let body = data.iter().map(Bytes::len).fold(head.len(), usize::saturating_add);
        let len = size_of::<OutHeader>().saturating_add(body);
        let Ok(len) = u32::try_from(len) else {
            tracing::error!(body, "answer longer than the protocol can say");
            return self.write(Errno::EIO.0.saturating_neg(), &[], &[]);
        };
        let header = OutHeader { len, error, unique: self.unique };
        let mut segments = Vec::with_capacity(data.len().saturating_add(2));
        segments.push(IoSlice::new(header.as_bytes()));
        segments.push(IoSlice::new(head));
        segments.extend(data.iter().map(|part| IoSlice::new(part)));
        if let Err(error) = self.queue.send(&segments) {
            // ENOENT: whoever asked was killed meanwhile. ENODEV: unmounted meanwhile.
            if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) {
                tracing::warn!(unique = self.unique, len, %error, "the kernel refused an answer");
                if body > 0 {
                    self.write(Errno::EIO.0.saturating_neg(), &[], &[]);
                }
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.write(Errno::EIO.0.saturating_neg(), &[], &[]);
        }
    }
}
