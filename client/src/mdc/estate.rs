//! What the process before has left in the session that this one goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use nacre_model::Fid;
use nacre_proto::v1;

use super::Mdc;
use super::held::{Held, Told};
use crate::Result;
use crate::cache::Mode;
use crate::journal::Record;
use crate::lock::from_wire;
use crate::types::{LockHold, OpenFlags};

/// What the server said that the session holds, but for leases.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    /// Files that it has open under handles which nobody here knows.
    pub(crate) unknown: Vec<u64>,
    pub(crate) locks: Vec<(Fid, LockHold)>,
    /// Nothing was lost: what the kernel keeps is covered by leases that stand.
    pub(crate) whole: bool,
}

/// The files that were open. The server is told of all of them when the session is opened.
pub(super) fn open_files(before: &[Record]) -> Held {
    let mut held = Held::default();
    for record in before {
        if let Record::Open { handle, fid, flags, .. } = record {
            held.opened(*handle, *fid, flags.contains(OpenFlags::WRITE), Told::Yes);
        }
    }
    held
}

impl Mdc {
    /// Takes in what the server says that the session holds. Returns the slots of changes that may
    /// have been made, and their xids.
    pub(super) fn take_over(
        &self,
        response: &v1::OpenSessionResponse,
    ) -> Result<BTreeMap<u32, u64>> {
        let mut leases = Vec::with_capacity(response.leases_held.len());
        for held in &response.leases_held {
            let fid = nacre_proto::convert::required("fid", held.fid)?.into();
            leases.push((fid, Mode::from(held.mode()), held.number));
        }
        self.cache.inherit(response.session, leases);
        let mut locks = Vec::with_capacity(response.locks.len());
        for lock in &response.locks {
            locks.push(from_wire(lock)?);
        }
        let (mut left, mut coming) = (BTreeMap::new(), BTreeSet::new());
        for record in self.journal.of_requests() {
            if let Record::Change { slot, xid, handle, .. } = record {
                left.insert(slot, xid);
                coming.insert(handle);
            }
        }
        let mut held = self.held.lock();
        for (fid, lock) in &locks {
            held.locked(*fid, *lock);
        }
        let known = |handle: &u64| held.knows(*handle) || coming.contains(handle);
        let unknown = response.handles.iter().copied().filter(|handle| !known(handle)).collect();
        drop(held);
        let before = self.journal.header().unwrap_or_default().boot;
        let whole = before == response.mds_boot_id;
        if !whole {
            tracing::error!("mds was restarted while nobody served the mount: its locks are lost");
        }
        *self.estate.lock() = Estate { unknown, locks, whole };
        self.inherits.store(false, Ordering::Release);
        Ok(left)
    }

    /// What was left. Once.
    pub(crate) fn take_estate(&self) -> Estate {
        std::mem::take(&mut self.estate.lock())
    }
}
