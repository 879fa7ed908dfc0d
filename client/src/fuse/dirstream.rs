//! Listing a directory: the kernel asks for a page at a time, the server is asked for more.

use nacre_model::{Errno, Fid};
use parking_lot::Mutex;

use super::fs::Filesystem;
use crate::types::{DirEntry, DirPage};

/// Asked of the server at a time, in bytes.
const FETCH_BYTES: u32 = 128 << 10;

/// An open directory, and what was fetched ahead for it.
///
/// Entries made or removed behind the reader's back may be seen or not, as POSIX has it; going
/// back to the start fetches afresh.
#[derive(Debug, Default)]
pub(super) struct DirStream(Mutex<Option<Window>>);

/// Entries behind the cookie `from`, up to the last one.
#[derive(Debug)]
pub(super) struct Window {
    from: u64,
    page: DirPage,
}

impl Window {
    /// With attributes, as they are now: for one answer, not to be kept. The kernel takes them for
    /// newer than whatever this machine changed before it asked.
    pub(super) async fn with_attrs<F: Filesystem>(
        fs: &F,
        dir: Fid,
        cookie: u64,
        bytes_max: u32,
    ) -> Result<Self, Errno> {
        let page = fs.readdir(dir, cookie, bytes_max, true).await?;
        Ok(Self { from: cookie, page })
    }

    /// Whether the entry behind `cookie` is here, or known not to exist.
    fn covers(&self, cookie: u64) -> bool {
        let last = self.page.entries.last().map_or(self.from, |entry| entry.cookie);
        cookie >= self.from && (cookie < last || self.page.eof)
    }

    /// The entries behind `cookie`.
    pub(super) fn behind(&self, cookie: u64) -> &[DirEntry] {
        let first = self.page.entries.partition_point(|entry| entry.cookie <= cookie);
        self.page.entries.get(first..).unwrap_or_default()
    }

    /// The directory above.
    pub(super) const fn parent(&self) -> Fid {
        self.page.parent
    }
}

impl DirStream {
    /// Takes the entries behind `cookie` out; [`DirStream::put`] gives them back. Two readers of
    /// one descriptor fetch each for itself.
    pub(super) async fn take<F: Filesystem>(
        &self,
        fs: &F,
        dir: Fid,
        cookie: u64,
    ) -> Result<Window, Errno> {
        let kept = self.0.lock().take();
        match kept {
            Some(window) if cookie != 0 && window.covers(cookie) => Ok(window),
            _ => {
                let page = fs.readdir(dir, cookie, FETCH_BYTES, false).await?;
                Ok(Window { from: cookie, page })
            }
        }
    }

    /// Keeps entries for the next request.
    pub(super) fn put(&self, window: Window) {
        *self.0.lock() = Some(window);
    }
}
