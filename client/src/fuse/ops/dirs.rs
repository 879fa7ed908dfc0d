//! Listing directories.
//!
//! Offsets: 1 stands behind `.`, 2 behind `..`, everything above is the cookie of the entry that it
//! stands behind.

use nacre_model::{Errno, Fid};

use super::super::abi::input as wire;
use super::super::answer::{Answer, Listing};
use super::super::dirstream::{DirStream, Window};
use super::super::fs::Filesystem;
use super::super::listing::cookie;
use super::super::session::{Call, Session};

impl<F: Filesystem> Session<F> {
    pub(in super::super) fn opendir(&self, dir: Fid) -> Answer {
        Answer::OpenedDir { dir, fh: self.dirs.insert(DirStream::default()) }
    }

    pub(in super::super) fn releasedir(&self, args: &wire::ReleaseIn) -> Answer {
        drop(self.dirs.remove(args.fh));
        Answer::empty()
    }

    pub(in super::super) async fn fsyncdir(&self, call: &Call) -> Result<Answer, Errno> {
        self.fs.fsyncdir(call.fid).await?;
        Ok(Answer::empty())
    }

    pub(in super::super) async fn readdir(
        &self,
        call: &Call,
        args: &wire::ReadIn,
        plus: bool,
    ) -> Result<Answer, Errno> {
        let (dir, at, bytes_max) = (call.fid, args.offset, args.size);
        let stream = self.dirs.get_or(args.fh, DirStream::default);
        let (window, stream) = if plus {
            (Window::with_attrs(&self.fs, dir, cookie(at), bytes_max).await?, None)
        } else {
            (stream.take(&self.fs, dir, cookie(at)).await?, Some(stream))
        };
        Ok(Answer::Listing(Listing { dir, window, stream, at, bytes_max, plus }))
    }
}
