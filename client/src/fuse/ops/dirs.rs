//! Listing directories.
//!
//! Offsets: 1 stands behind `.`, 2 behind `..`, everything above is the cookie of the entry that it
//! stands behind.

use nacre_model::{Errno, FileKind};

use super::super::abi::input as wire;
use super::super::abi::output::{EntryOut, OpenOut};
use super::super::dirents::{Packer, Record};
use super::super::dirstream::{DirStream, Window};
use super::super::encode;
use super::super::fs::{Filesystem, Validity};
use super::super::reply::Answer;
use super::super::session::{Call, Session};
use crate::types::DirEntry;

/// Behind `..`.
const OFFSET_ENTRIES: u64 = 2;

/// The server's cookie for a place in the kernel's listing.
const fn cookie(at: u64) -> u64 {
    if at <= OFFSET_ENTRIES { 0 } else { at }
}

impl<F: Filesystem> Session<F> {
    pub(in super::super) fn opendir(&self) -> Answer {
        let fh = self.dirs.insert(DirStream::default());
        Answer::of(&OpenOut { fh, open_flags: 0, padding: 0 })
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
        let stream = self.dirs.get(args.fh)?;
        let with_attrs = plus && self.fs.grants_validity();
        let mut packer = Packer::new(args.size);
        let mut at = args.offset;
        loop {
            let window = stream.take(&self.fs, call.fid, cookie(at), with_attrs).await?;
            let before = at;
            let outcome = self.pack(&mut packer, call, &window, &mut at, plus);
            // A server that says neither "more" nor "end" is not asked again.
            let is_last = window.is_last() || at == before;
            stream.put(window);
            if outcome == Packed::Full || is_last || !packer.is_empty() {
                break;
            }
        }
        Ok(Answer::packed(packer.into_bytes()))
    }

    /// Packs what of `window` stands behind `at`, and moves `at`.
    fn pack(
        &self,
        packer: &mut Packer,
        call: &Call,
        window: &Window,
        at: &mut u64,
        plus: bool,
    ) -> Packed {
        let dots = [(&b"."[..], call.fid, 1), (&b".."[..], window.parent(), OFFSET_ENTRIES)];
        let entry = plus.then(encode::no_entry);
        for (name, fid, next) in dots {
            if next <= *at {
                continue;
            }
            let kind = encode::dirent_kind(FileKind::Directory);
            if !packer.push(&Record { name, ino: fid.ino(), kind, next, entry }) {
                return Packed::Full;
            }
            *at = next;
        }
        for listed in window.behind(cookie(*at)) {
            let record = Record {
                name: listed.name.as_bytes(),
                ino: listed.fid.ino(),
                kind: encode::dirent_kind(listed.kind),
                next: listed.cookie,
                entry: plus.then(|| self.plus_entry(listed)),
            };
            if !packer.push(&record) {
                return Packed::Full;
            }
            *at = listed.cookie;
        }
        Packed::All
    }

    /// With attributes only when the kernel may keep them, and when their size is certain: taking
    /// a lower bound for the size would make the kernel cut what it has cached of the file.
    fn plus_entry(&self, listed: &DirEntry) -> EntryOut {
        let validity = self.fs.validity(listed.fid);
        match &listed.attr {
            Some(attr) if validity != Validity::NONE && !attr.size_lazy => {
                encode::entry_out(self.nodes, attr, validity)
            }
            _ => encode::no_entry(),
        }
    }
}

/// Whether everything went into the kernel's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    All,
    Full,
}
