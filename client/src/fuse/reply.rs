//! Answers to the kernel: exactly one for each request.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use nacre_model::Errno;
use zerocopy::IntoBytes;

use super::abi::output::OutHeader;
use super::answer::Body;
use super::device::Transport;

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

    /// Answers. Whether the kernel took it: not if nobody waits any more.
    pub(super) fn send(mut self, answer: Result<Body, Errno>) -> bool {
        self.answered = true;
        match answer {
            Ok(body) => self.write(0, &body.head, &body.data),
            Err(errno) => self.write(errno.0.saturating_neg(), &[], &[]),
        }
    }

    fn write(&self, error: i32, head: &[u8], data: &[Bytes]) -> bool {
        let body = data.iter().map(Bytes::len).fold(head.len(), usize::saturating_add);
        let len = size_of::<OutHeader>().saturating_add(body);
        let Ok(len) = u32::try_from(len) else {
            tracing::error!(body, "answer longer than the protocol can say");
            self.write(Errno::EIO.0.saturating_neg(), &[], &[]);
            return false;
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
            return false;
        }
        true
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.write(Errno::EIO.0.saturating_neg(), &[], &[]);
        }
    }
}
