//! Open files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nacre_model::{Errno, Fid};
use parking_lot::Mutex;

use crate::inode::Inode;
use crate::journal::Entry;
use crate::readahead::Ahead;
use crate::types::OpenFlags;
use crate::{ClientError, Result};

/// One open file. Give it to [`crate::Client::release`] when the last descriptor is gone.
#[derive(Debug)]
pub struct OpenFile {
    pub(crate) inode: Arc<Inode>,
    handle: u64,
    flags: OpenFlags,
    /// Life of the MDS in which the file's objects were known to be its own.
    boot: AtomicU64,
    /// Errors of written data that this handle has been told of.
    errors_seen: Mutex<u64>,
    pub(crate) ahead: Mutex<Ahead>,
    /// For the process that may have to go on with it.
    note: Mutex<Option<Entry>>,
}

impl OpenFile {
    pub(crate) fn new(inode: Arc<Inode>, handle: u64, flags: OpenFlags, boot: u64) -> Self {
        let errors = inode.state.lock().error_count();
        Self {
            inode,
            handle,
            flags,
            boot: AtomicU64::new(boot),
            errors_seen: Mutex::new(errors),
            ahead: Mutex::default(),
            note: Mutex::default(),
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

    pub(crate) fn keep_note(&self, note: Entry) {
        *self.note.lock() = Some(note);
    }

    /// It is about to be closed: nobody need go on with it.
    pub(crate) fn drop_note(&self) {
        drop(self.note.lock().take());
    }

    /// Whether the MDS has been restarted since this was asked last, or since the open.
    pub(crate) fn is_new_boot(&self, boot: u64) -> bool {
        self.boot.swap(boot, Ordering::AcqRel) != boot
    }

    pub(crate) fn check_errors(&self) -> Result<()> {
        self.inode.check_errors(&mut self.errors_seen.lock())
    }

    /// An error that `fsync` or `close` will tell. The kernel may cut one `write` into several
    /// requests, and what the later ones say never reaches the application then.
    pub(crate) fn peek_errors(&self) -> Result<()> {
        let mut seen = *self.errors_seen.lock();
        self.inode.check_errors(&mut seen)
    }

    /// See [`Inode::close_over`].
    pub(crate) fn close_over(&self) -> Result<()> {
        self.inode.close_over(&mut self.errors_seen.lock())
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
}
