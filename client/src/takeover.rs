//! Going on with the mount of a process that is gone.
//!
//! The servers say what the session holds, the journal what was open and what was half done. What
//! the process had written and not yet sent is lost: the open files are told.

use std::sync::Arc;
use std::time::Duration;

use nacre_model::Fid;

use crate::Client;
use crate::handle::OpenFile;
use crate::join::join_all;
use crate::journal::{Entry, Record};
use crate::types::{LockHold, LockKind, LockMode, LockOwner, OpenFlags};
use crate::write::{append_lock, is_append_lock};

/// Files that are opened again at a time.
const FILES: usize = 64;
/// Requests that are to come again come at once. What was noted for others is given up after this.
const SENT_AGAIN: Duration = Duration::from_secs(10);

/// What the mount goes on with.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Open files, with the number of the request that opened them.
    pub(crate) files: Vec<(u64, Arc<OpenFile>)>,
    /// Owners of POSIX locks.
    pub(crate) posix_holders: Vec<(Fid, u64)>,
    /// Files whose pages in the kernel need not be what the servers have.
    pub(crate) doubtful: Vec<Fid>,
    /// Whether names that the kernel keeps are covered by leases.
    pub(crate) names_stand: bool,
}

/// An open file of the process before.
struct Left {
    handle: u64,
    fid: Fid,
    flags: OpenFlags,
    request: u64,
    note: Entry,
}

impl Client {
    /// Takes over what the process before has left, if there was one.
    pub(crate) async fn take_over(&self, before: Vec<(Record, Entry)>) {
        if self.inner.config.journal.inherited().is_none() {
            return;
        }
        let estate = self.inner.mdc.take_estate();
        let (mut left, mut lost) = (Vec::new(), Vec::new());
        for (record, note) in before {
            match record {
                Record::Open { handle, fid, flags, request } => {
                    left.push(Left { handle, fid, flags, request, note });
                }
                Record::Dirty { fid } => lost.push((fid, note)),
                Record::Change { .. } | Record::Append { .. } => drop(note),
            }
        }
        let mut inherited = Inherited { names_stand: estate.whole, ..Inherited::default() };
        inherited.doubtful = left.iter().map(|one| one.fid).collect();
        inherited.doubtful.extend(lost.iter().map(|(fid, _)| *fid));
        while !left.is_empty() {
            let some = left.split_off(left.len().saturating_sub(FILES));
            let opening = some.into_iter().map(|one| self.open_left(one));
            inherited.files.extend(join_all(opening).await.into_iter().flatten());
        }
        for (fid, note) in lost {
            tracing::error!(%fid, "written data is lost: the process that had it is gone");
            crate::metrics::lost_write();
            if let Some(inode) = self.inner.inodes.get(fid) {
                inode.state.lock().lost_with_process(note);
            }
        }
        self.settle_locks(estate.locks, &mut inherited).await;
        for handle in estate.unknown {
            self.close_handle(handle).await;
        }
        tracing::info!(files = inherited.files.len(), "going on with the mount");
        *self.inner.inherited.lock() = Some(inherited);
        self.start_giving_up();
    }

    async fn open_left(&self, left: Left) -> Option<(u64, Arc<OpenFile>)> {
        let Left { handle, fid, flags, request, note } = left;
        match self.open_inherited(fid, handle, flags).await {
            Ok(file) => {
                file.keep_note(note);
                Some((request, file))
            }
            Err(error) => {
                tracing::warn!(%fid, %error, "an open file is not taken over");
                self.inner.mdc.held.lock().gone(handle);
                None
            }
        }
    }

    /// Locks of the client's own are given up, but for those under which something is half done.
    async fn settle_locks(&self, locks: Vec<(Fid, LockHold)>, inherited: &mut Inherited) {
        let under_way = self.inner.config.journal.of_requests();
        let under_way: Vec<u64> = under_way.iter().filter_map(appender).collect();
        for (fid, lock) in locks {
            let owner = lock.owner.owner;
            if !is_append_lock(fid) {
                if lock.kind == LockKind::Posix {
                    inherited.posix_holders.push((fid, owner));
                }
            } else if !under_way.contains(&owner) {
                self.give_up_lock(fid, lock).await;
            }
        }
    }

    async fn give_up_lock(&self, fid: Fid, lock: LockHold) {
        if let Err(error) = self.unlock(fid, lock.kind, lock.owner, lock.start, lock.end).await {
            tracing::warn!(%fid, %error, "a lock of the process before is not given up");
        }
    }

    /// Whoever does not ask again is gone.
    fn start_giving_up(&self) {
        let client = self.clone();
        self.inner.config.scope.spawn("give-up-requests", async move {
            tokio::time::sleep(SENT_AGAIN).await;
            let session = client.inner.mdc.session();
            for (record, note) in client.inner.config.journal.take_of_requests() {
                drop(note);
                session.give_up(&record);
                if let Record::Append { fid, owner, .. } = record
                    && owner != 0
                {
                    let owner = LockOwner { owner, pid: 0 };
                    let (kind, mode) = (LockKind::Posix, LockMode::Write);
                    let lock = LockHold { kind, mode, owner, start: 0, end: 0 };
                    client.give_up_lock(append_lock(fid), lock).await;
                }
            }
        });
    }

    /// What [`Client::disconnect`] does, but that the session stays for the next process: what was
    /// written is on the disks.
    ///
    /// # Errors
    /// What could not be written is lost, and the next process will say so.
    pub async fn hand_over(&self) -> crate::Result<()> {
        self.sync_all().await
    }
}

/// Whose lock a request appends under.
fn appender(record: &Record) -> Option<u64> {
    match record {
        Record::Append { owner, .. } => Some(*owner).filter(|owner| *owner != 0),
        Record::Change { .. } | Record::Open { .. } | Record::Dirty { .. } => None,
    }
}
