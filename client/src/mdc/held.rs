//! What this client holds on the metadata server: claimed again after the server restarted.

use std::collections::BTreeMap;

use nacre_model::Fid;
use nacre_proto::v1;

use crate::types::{LockHold, LockKind, LockMode, LockOwner};

/// Open handles and locks.
#[derive(Debug, Default)]
pub(crate) struct Held {
    handles: BTreeMap<u64, Handle>,
    /// Ranges that do not overlap, ascending, of each holder.
    locks: BTreeMap<(Fid, LockKind, u64), Vec<LockHold>>,
}

/// An open file.
#[derive(Debug)]
struct Handle {
    fid: Fid,
    write: bool,
    told: Told,
}

/// Whether the server knows of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was opened under a lease.
    No,
    /// It is being told; `closed`: and has been closed here meanwhile.
    Asking {
        closed: bool,
    },
    Yes,
}

impl Held {
    pub(crate) fn opened(&mut self, handle: u64, fid: Fid, write: bool, told: Told) {
        self.handles.insert(handle, Handle { fid, write, told });
    }

    pub(super) fn knows(&self, handle: u64) -> bool {
        self.handles.contains_key(&handle)
    }

    /// The file is closed here. True if the server must be told, and [`Held::gone`] called then.
    pub(crate) fn closed(&mut self, handle: u64) -> bool {
        let Some(open) = self.handles.get_mut(&handle) else { return false };
        match &mut open.told {
            Told::No => {
                self.handles.remove(&handle);
                false
            }
            Told::Asking { closed } => {
                *closed = true;
                false
            }
            Told::Yes => true,
        }
    }

    /// The server has been told that it is closed.
    pub(crate) fn gone(&mut self, handle: u64) {
        self.handles.remove(&handle);
    }

    /// Files that the server does not know to be open, of these inodes or of all: it is being
    /// told of them now.
    pub(crate) fn ask(&mut self, of: Option<&[Fid]>) -> Vec<v1::OpenHandle> {
        let mut asking = Vec::new();
        for (handle, open) in &mut self.handles {
            if open.told == Told::No && of.is_none_or(|fids| fids.contains(&open.fid)) {
                open.told = Told::Asking { closed: false };
                asking.push(wire_handle(*handle, open));
            }
        }
        asking
    }

    /// The server has been told, or, unless `known`, has not. Returns what was closed meanwhile,
    /// for which it must be told that too.
    pub(crate) fn told(&mut self, handles: &[u64], known: bool) -> Vec<u64> {
        let mut closed = Vec::new();
        for handle in handles {
            let Some(open) = self.handles.get_mut(handle) else { continue };
            let Told::Asking { closed: over } = open.told else { continue };
            open.told = if known { Told::Yes } else { Told::No };
            match (over, known) {
                (true, true) => closed.push(*handle),
                (true, false) => drop(self.handles.remove(handle)),
                (false, _) => {}
            }
        }
        closed
    }

    /// Whether the inode is open in a way that the server does not know of.
    pub(crate) fn untold(&self, fid: Fid) -> bool {
        self.handles.values().any(|open| open.fid == fid && open.told != Told::Yes)
    }

    pub(crate) fn locked(&mut self, fid: Fid, lock: LockHold) {
        self.unlocked(fid, lock.kind, lock.owner, lock.start, lock.end);
        let ranges = self.locks.entry((fid, lock.kind, lock.owner.owner)).or_default();
        let at = ranges.partition_point(|range| range.start < lock.start);
        ranges.insert(at, lock);
    }

    /// Cuts `start..=end` out of what the owner holds.
    pub(crate) fn unlocked(
        &mut self,
        fid: Fid,
        kind: LockKind,
        owner: LockOwner,
        start: u64,
        end: u64,
    ) {
        let key = (fid, kind, owner.owner);
        let Some(ranges) = self.locks.remove(&key) else { return };
        let mut left = Vec::with_capacity(ranges.len().saturating_add(1));
        for range in ranges {
            if range.end < start || range.start > end {
                left.push(range);
                continue;
            }
            if range.start < start {
                left.push(LockHold { end: start.saturating_sub(1), ..range });
            }
            if range.end > end {
                left.push(LockHold { start: end.saturating_add(1), ..range });
            }
        }
        if !left.is_empty() {
            self.locks.insert(key, left);
        }
    }

    /// After an eviction no lock is held any more, and the server knows of no open file.
    pub(crate) fn forget(&mut self) {
        self.locks.clear();
        for open in self.handles.values_mut() {
            open.told = Told::No;
        }
    }

    /// What the server knows of open files.
    pub(crate) fn wire_handles(&self) -> Vec<v1::OpenHandle> {
        let told = self.handles.iter().filter(|(_, open)| open.told != Told::No);
        told.map(|(handle, open)| wire_handle(*handle, open)).collect()
    }

    pub(crate) fn wire_locks(&self) -> Vec<v1::HeldLock> {
        let all = self.locks.iter();
        all.flat_map(|((fid, _, _), ranges)| ranges.iter().map(|lock| wire_lock(*fid, *lock)))
            .collect()
    }
}

fn wire_handle(handle: u64, open: &Handle) -> v1::OpenHandle {
    v1::OpenHandle { handle, fid: Some(open.fid.into()), write: open.write }
}

/// A lock as the wire has it.
pub(crate) fn wire_lock(fid: Fid, lock: LockHold) -> v1::HeldLock {
    v1::HeldLock {
        fid: Some(fid.into()),
        kind: match lock.kind {
            LockKind::Posix => v1::LockKind::Posix,
            LockKind::Flock => v1::LockKind::Flock,
        } as i32,
        mode: match lock.mode {
            LockMode::Read => v1::LockMode::Read,
            LockMode::Write => v1::LockMode::Write,
        } as i32,
        owner: lock.owner.owner,
        start: lock.start,
        end: lock.end,
        pid: lock.owner.pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(mode: LockMode, start: u64, end: u64) -> LockHold {
        let owner = LockOwner { owner: 7, pid: 1 };
        LockHold { kind: LockKind::Posix, mode, owner, start, end }
    }

    #[test]
    fn a_lock_replaces_what_it_overlaps_and_unlock_cuts_holes() {
        let mut held = Held::default();
        let fid = Fid::ROOT;
        held.locked(fid, hold(LockMode::Read, 0, 99));
        held.locked(fid, hold(LockMode::Write, 40, 59));
        held.unlocked(fid, LockKind::Posix, LockOwner { owner: 7, pid: 1 }, 50, 79);
        let left: Vec<_> = held.wire_locks().iter().map(|l| (l.start, l.end, l.mode)).collect();
        let (read, write) = (v1::LockMode::Read as i32, v1::LockMode::Write as i32);
        assert_eq!(left, [(0, 39, read), (40, 49, write), (80, 99, read)]);
        held.unlocked(fid, LockKind::Posix, LockOwner { owner: 7, pid: 1 }, 0, u64::MAX);
        assert!(held.wire_locks().is_empty());
    }
}
