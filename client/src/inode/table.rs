//! The inodes of a mount by fid.

use std::collections::HashMap;
use std::sync::Arc;

use nacre_model::Fid;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Inode, State};

/// All inodes that have an open handle, data that is not written, or that are known under a lease.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    by_fid: Mutex<HashMap<Fid, Arc<Inode>>>,
}

impl Inodes {
    pub(crate) fn get(&self, fid: Fid) -> Option<Arc<Inode>> {
        self.by_fid.lock().get(&fid).cloned()
    }

    /// Counts a handle in; makes the inode if this is the first.
    pub(crate) fn opened(
        &self,
        fid: Fid,
        write: bool,
        make: impl FnOnce() -> State,
    ) -> (Arc<Inode>, bool) {
        let mut by_fid = self.by_fid.lock();
        let mut new = false;
        let inode = by_fid.entry(fid).or_insert_with(|| {
            new = true;
            Arc::new(Inode {
                fid,
                state: Mutex::new(make()),
                landed: Notify::new(),
                sender: tokio::sync::Mutex::default(),
                gate: tokio::sync::RwLock::default(),
            })
        });
        let mut state = inode.state.lock();
        state.handles = state.handles.saturating_add(1);
        state.writers = state.writers.saturating_add(write.into());
        drop(state);
        (Arc::clone(inode), new)
    }

    /// Counts a handle in, of an inode that is known well enough to be used without asking.
    pub(crate) fn reopened(&self, fid: Fid, write: bool, evictions: u64) -> Option<Arc<Inode>> {
        let by_fid = self.by_fid.lock();
        let inode = by_fid.get(&fid)?;
        let mut state = inode.state.lock();
        if state.layout_stale || state.evictions != evictions {
            return None;
        }
        state.handles = state.handles.saturating_add(1);
        state.writers = state.writers.saturating_add(write.into());
        drop(state);
        Some(Arc::clone(inode))
    }

    /// Counts a handle out; with the last the inode is forgotten, unless it shall be kept.
    pub(crate) fn closed(&self, inode: &Arc<Inode>, write: bool, keep: bool) {
        let mut state = inode.state.lock();
        state.handles = state.handles.saturating_sub(1);
        state.writers = state.writers.saturating_sub(write.into());
        drop(state);
        if !keep {
            self.forget_idle(inode);
        }
    }

    /// Forgets an inode that nobody has open and that has nothing to write. True if it is gone.
    pub(crate) fn forget_idle(&self, inode: &Arc<Inode>) -> bool {
        let mut by_fid = self.by_fid.lock();
        let state = inode.state.lock();
        let idle = state.handles == 0 && !state.pending() && state.settling.is_empty();
        let same = by_fid.get(&inode.fid).is_some_and(|known| Arc::ptr_eq(known, inode));
        if idle && same {
            by_fid.remove(&inode.fid);
        }
        idle
    }

    /// Every inode for which `which` holds.
    pub(crate) fn select(&self, which: impl Fn(&State) -> bool) -> Vec<Arc<Inode>> {
        let by_fid = self.by_fid.lock();
        let mut found: Vec<_> =
            by_fid.values().filter(|inode| which(&inode.state.lock())).cloned().collect();
        // By fid, so that a simulation does the same each time.
        found.sort_by_key(|inode| inode.fid);
        found
    }
}
