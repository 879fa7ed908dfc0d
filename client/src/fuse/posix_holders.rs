//! Which processes may hold POSIX locks, so that closing a file costs a request to the server
//! only then.

use std::collections::HashSet;

use nacre_model::Fid;
use parking_lot::Mutex;

/// Files and lock owners that took a POSIX lock through this mount since they last closed the
/// file. The kernel sends FLUSH for every close, which takes the pair out again.
#[derive(Debug, Default)]
pub(super) struct PosixHolders(Mutex<HashSet<(Fid, u64)>>);

impl PosixHolders {
    /// Those who are known to hold some.
    pub(super) fn of(holders: impl IntoIterator<Item = (Fid, u64)>) -> Self {
        Self(Mutex::new(holders.into_iter().collect()))
    }

    /// To be called before the lock is asked for: it may be had though the answer is lost.
    pub(super) fn may_hold(&self, fid: Fid, owner: u64) {
        self.0.lock().insert((fid, owner));
    }

    /// Whether `owner` closing `fid` has locks to drop.
    pub(super) fn closes(&self, fid: Fid, owner: u64) -> bool {
        self.0.lock().remove(&(fid, owner))
    }
}
