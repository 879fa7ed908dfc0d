//! Who waits for whom.

use std::collections::BTreeSet;

use super::{Lock, LockKind, LockTable, Owner};

impl LockTable {
    /// Whether the owner of `lock`, if it waited, would wait for itself through others.
    ///
    /// Owners whose threads wait for several locks at once may be refused though one of them
    /// could go on, as on Linux.
    pub(super) fn would_deadlock(&self, lock: &Lock) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = self.blocking(lock);
        while let Some(owner) = todo.pop() {
            if owner == lock.owner {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            for (fid, cookie) in self.waits.get(&owner).into_iter().flatten() {
                let file = self.files.get(&(*fid, LockKind::Posix));
                if let Some(waiter) = file.and_then(|file| file.waiting(owner.session, *cookie)) {
                    todo.append(&mut self.blocking(&waiter.lock));
                }
            }
        }
        false
    }

    fn blocking(&self, lock: &Lock) -> Vec<Owner> {
        let file = self.files.get(&(lock.fid, lock.kind));
        file.into_iter().flat_map(|file| file.blockers(lock)).map(|held| held.owner).collect()
    }
}
