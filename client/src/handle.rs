//! Open files.

use nacre_model::Fid;

use crate::types::OpenFlags;

/// One open file. Give it to [`crate::Client::release`] when the last descriptor is gone.
#[derive(Debug)]
pub struct OpenFile {
    fid: Fid,
    handle: u64,
    flags: OpenFlags,
}

impl OpenFile {
    /// The inode.
    pub fn fid(&self) -> Fid {
        self.fid
    }

    /// Number of the handle in the session, never 0.
    pub fn number(&self) -> u64 {
        self.handle
    }

    /// How it was opened.
    pub fn flags(&self) -> OpenFlags {
        self.flags
    }
}
