//! Open files.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Errno, Fid};
use parking_lot::Mutex;

use crate::inode::Inode;
use crate::readahead::Ahead;
use crate::types::OpenFlags;
use crate::{ClientError, Result};

/// One open file. Give it to [`crate::Client::release`] when the last descriptor is gone.
#[derive(Debug)]
pub struct OpenFile {
    pub(crate) inode: Arc<Inode>,
    handle: u64,
    flags: OpenFlags,
    /// Errors of written data that this handle has been told of.
    errors_seen: Mutex<u64>,
    /// Content of a small file, as of the open.
    fresh: Mutex<Option<Fresh>>,
    pub(crate) ahead: Mutex<Ahead>,
}

/// Bytes that came with the open: each is given out once, since later reads must see what others
/// wrote meanwhile.
#[derive(Debug)]
struct Fresh {
    bytes: Bytes,
    next: u64,
    data_version: u64,
}

impl OpenFile {
    pub(crate) fn new(
        inode: Arc<Inode>,
        handle: u64,
        flags: OpenFlags,
        content: Option<Bytes>,
    ) -> Self {
        let (errors, data_version) = {
            let state = inode.state.lock();
            (state.error_count(), state.data_version)
        };
        let fresh = content.map(|bytes| Fresh { bytes, next: 0, data_version });
        Self {
            inode,
            handle,
            flags,
            errors_seen: Mutex::new(errors),
            fresh: Mutex::new(fresh),
            ahead: Mutex::default(),
        }
    }

    /// The inode.
    pub fn fid(&self) -> Fid {
        self.inode.fid
    }

    /// Number of the handle in the session, never 0.
    pub fn number(&self) -> u64 {
        self.handle
    }

    /// How it was opened.
    pub fn flags(&self) -> OpenFlags {
        self.flags
    }

    pub(crate) fn check_errors(&self) -> Result<()> {
        self.inode.check_errors(&mut self.errors_seen.lock())
    }

    pub(crate) fn must_read(&self) -> Result<()> {
        if self.flags.contains(OpenFlags::READ) {
            return Ok(());
        }
        Err(ClientError::refused(Errno::EBADF, "file is not open for reading"))
    }

    pub(crate) fn must_write(&self) -> Result<()> {
        if self.flags.contains(OpenFlags::WRITE) {
            return Ok(());
        }
        Err(ClientError::refused(Errno::EBADF, "file is not open for writing"))
    }

    /// Content of a small file from `offset` on, if it came with the open, is still true here, and
    /// was not given out before.
    pub(crate) fn take_fresh(&self, offset: u64, len: u64, data_version: u64) -> Option<Bytes> {
        let mut slot = self.fresh.lock();
        let fresh = slot.as_mut()?;
        let total = fresh.bytes.len() as u64;
        if fresh.data_version != data_version || offset < fresh.next || offset >= total {
            *slot = None;
            return None;
        }
        let end = offset.saturating_add(len).min(total);
        fresh.next = end;
        let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        Some(fresh.bytes.slice(cut(offset)..cut(end)))
    }
}
