//! Locks of the file system in memory: whole files only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use nacre_client::{LockHold, LockKind, LockMode, LockOwner};
use nacre_model::{Errno, Fid};
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct MemLocks {
    held: Mutex<HashMap<Fid, Vec<LockHold>>>,
    unlocked: Notify,
    /// Told when somebody begins to wait.
    pub(crate) waits: Notify,
    /// How many wait.
    pub(crate) waiting: AtomicUsize,
}

fn clash(held: &LockHold, wish: &LockHold) -> bool {
    held.kind == wish.kind
        && held.owner.owner != wish.owner.owner
        && (held.mode == LockMode::Write || wish.mode == LockMode::Write)
}

impl MemLocks {
    pub(crate) fn in_the_way(&self, fid: Fid, wish: LockHold) -> Option<LockHold> {
        self.held.lock().get(&fid)?.iter().find(|held| clash(held, &wish)).copied()
    }

    fn try_lock(&self, fid: Fid, wish: LockHold) -> bool {
        let mut held = self.held.lock();
        let held = held.entry(fid).or_default();
        let free = !held.iter().any(|held| clash(held, &wish));
        if free {
            held.push(wish);
        }
        free
    }

    pub(crate) async fn lock(&self, fid: Fid, wish: LockHold, wait: bool) -> Result<(), Errno> {
        loop {
            let unlocked = self.unlocked.notified();
            if self.try_lock(fid, wish) {
                return Ok(());
            }
            if !wait {
                return Err(Errno::EAGAIN);
            }
            let waiting = Waiting::begin(&self.waiting);
            self.waits.notify_one();
            unlocked.await;
            drop(waiting);
        }
    }

    pub(crate) fn unlock(&self, fid: Fid, kind: LockKind, owner: LockOwner) {
        let mut held = self.held.lock();
        let held = held.entry(fid).or_default();
        held.retain(|lock| lock.kind != kind || lock.owner.owner != owner.owner);
        self.unlocked.notify_waiters();
    }
}

/// Counts a waiting lock request, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
