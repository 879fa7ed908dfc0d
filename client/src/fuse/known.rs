//! Which inodes the kernel knows, and how long it takes their files to be.
//!
//! Each answer that names an inode counts as one lookup of it, and FORGET takes some of them back.
//! As long as there are any, the kernel knows the inode or is about to learn of it: an answer may
//! be written to the device and not yet taken up by the process that asked. Then the kernel says
//! of a notification that there is no such inode, and believes the answer a moment later.
//!
//! The kernel passes over attributes that it asked for before it was told to forget something of
//! the inode. So what it was told of a size counts only if nothing came between.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use nacre_model::Fid;
use parking_lot::Mutex;

/// So that readers seldom wait for each other. A power of two.
const SHARDS: usize = 32;

/// Inodes that the kernel knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    shards: [Mutex<HashMap<Fid, Inode>>; SHARDS],
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct Inode {
    lookups: u64,
    /// If it is certain.
    size: Option<u64>,
    /// When the kernel was last told to forget something of it.
    overtaken: u64,
}

impl Known {
    fn shard(&self, fid: Fid) -> &Mutex<HashMap<Fid, Inode>> {
        // Consecutive inodes are asked for together.
        let index = usize::try_from(fid.oid).unwrap_or_default() % SHARDS;
        self.shards.get(index).expect("a remainder is less than its divisor")
    }

    fn with<T>(&self, fid: Fid, act: impl FnOnce(&mut Inode) -> T) -> Option<T> {
        self.shard(fid).lock().get_mut(&fid).map(act)
    }

    /// The moment at which a question comes in.
    pub(super) fn now(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// One more lookup. To be counted before the answer is written.
    pub(super) fn learn(&self, fid: Fid) {
        let mut shard = self.shard(fid).lock();
        let inode = shard.entry(fid).or_default();
        inode.lookups = inode.lookups.saturating_add(1);
    }

    /// So many lookups less: taken back by the kernel, or never taken up by it. Whether they were
    /// the last.
    #[must_use]
    pub(super) fn forget(&self, fid: Fid, lookups: u64) -> bool {
        let mut shard = self.shard(fid).lock();
        let Entry::Occupied(mut inode) = shard.entry(fid) else { return false };
        inode.get_mut().lookups = inode.get().lookups.saturating_sub(lookups);
        let is_last = inode.get().lookups == 0;
        if is_last {
            inode.remove();
        }
        is_last
    }

    /// Whether there are any lookups.
    pub(super) fn knows(&self, fid: Fid) -> bool {
        self.shard(fid).lock().contains_key(&fid)
    }

    /// The kernel is about to be told a size, upon a question that came in at `asked`.
    pub(super) fn told(&self, fid: Fid, asked: u64, size: u64) {
        self.with(fid, |inode| {
            if inode.overtaken <= asked {
                inode.size = Some(size);
            }
        });
    }

    /// The kernel made the file as long as this, if it was shorter.
    pub(super) fn grown(&self, fid: Fid, end: u64) {
        self.with(fid, |inode| inode.size = inode.size.map(|size| size.max(end)));
    }

    /// The kernel learned that the file ends here, if it thought it longer.
    pub(super) fn ended(&self, fid: Fid, end: u64) {
        self.with(fid, |inode| inode.size = inode.size.filter(|size| *size <= end));
    }

    /// The kernel is about to forget something of the inode.
    pub(super) fn overtaken(&self, fid: Fid) {
        let now = self.clock.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.with(fid, |inode| (inode.overtaken, inode.size) = (now, None));
    }

    /// The same, of an inode that it knows to be so long.
    pub(super) fn overtaken_with(&self, fid: Fid, size: u64) {
        self.overtaken(fid);
        self.with(fid, |inode| inode.size = Some(size));
    }

    /// How long the kernel takes the file to be, if that is certain.
    pub(super) fn size(&self, fid: Fid) -> Option<u64> {
        self.with(fid, |inode| inode.size).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_forgotten_with_its_last_lookup() {
        let known = Known::default();
        let fid = Fid::from_ino(0x1234_5678_9abc);
        assert!(!known.knows(fid) && !known.forget(fid, 1), "never heard of");
        known.learn(fid);
        known.learn(fid);
        assert!(!known.forget(fid, 1) && known.knows(fid));
        assert!(known.forget(fid, 1) && !known.knows(fid));
    }

    #[test]
    fn a_size_is_certain_only_if_nothing_overtook_it() {
        let known = Known::default();
        let fid = Fid::from_ino(0x1234_5678_9abc);
        known.learn(fid);
        let asked = known.now();
        known.told(fid, asked, 5);
        known.grown(fid, 9);
        known.grown(fid, 3);
        known.ended(fid, 9);
        assert_eq!(known.size(fid), Some(9));
        known.ended(fid, 8);
        assert_eq!(known.size(fid), None, "it may or may not have been cut");
        known.overtaken(fid);
        known.told(fid, asked, 5);
        assert_eq!(known.size(fid), None, "the kernel passes over it");
        known.told(fid, known.now(), 5);
        assert_eq!(known.size(fid), Some(5));
        known.overtaken_with(fid, 5);
        known.told(fid, asked, 7);
        assert_eq!(known.size(fid), Some(5));
    }
}
