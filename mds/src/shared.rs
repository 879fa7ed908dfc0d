//! What all requests of one MDS share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nacre_model::Fid;
use nacre_node::{Clock, Scope};
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tonic::Status;

use crate::command::{Command, Op, Origin, Outcome};
use crate::coordinator::Coordinator;
use crate::cuts::Cuts;
use crate::engine::{Engine, EngineError};
use crate::error::Refusal;
use crate::fences::Fences;
use crate::leases::{LeaseTable, Touch};
use crate::locks::{Grant, LockTable};
use crate::machine::Machine;
use crate::opens::OpenTable;
use crate::osts::Osts;
use crate::placement::Placer;
use crate::promotions::Promotions;
use crate::recalls;
use crate::session::{SessionError, SessionTable};
use crate::store::View;
use crate::sweeps::Sweeps;

/// Messages that wait for a client to take them; a client that lets it fill is cut off and asks
/// again when it comes back.
pub(crate) const DOWN_QUEUE_MAX: usize = 1024;

pub(crate) type Down = Result<v1::SessionDown, Status>;

/// The server's state beside the namespace.
///
/// Each table has a lock of its own; none is taken while another is held, but for `opens` under
/// `leases`: a grant looks at who has the file open.
pub(crate) struct Shared {
    pub(crate) engine: Engine<Machine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fsname: String,
    pub(crate) boot_id: u64,
    pub(crate) lease: Duration,
    pub(crate) inline_max: u32,
    pub(crate) sessions: Mutex<SessionTable>,
    pub(crate) opens: Mutex<OpenTable>,
    /// An inode has left the open table's list of those that are losing their last name.
    pub(crate) left: Notify,
    pub(crate) locks: Mutex<LockTable>,
    pub(crate) leases: Mutex<LeaseTable>,
    /// Somebody has given leases back, or nobody need be waited for any more.
    pub(crate) returned: Notify,
    /// Whoever changes names of a directory alone has it exclusively.
    pub(crate) exclusive_directories: bool,
    pub(crate) streams: Mutex<BTreeMap<u64, mpsc::Sender<Down>>>,
    pub(crate) placer: Mutex<Placer<StdRng>>,
    pub(crate) osts: Osts,
    pub(crate) cuts: Cuts,
    pub(crate) promotions: Promotions,
    pub(crate) fences: Fences,
    pub(crate) hsm: Coordinator,
    /// Who lists which bucket.
    pub(crate) sweeps: Sweeps,
    /// Between two sweeps of a repository.
    pub(crate) sweep_interval: Duration,
    /// There may be new work for OSTs.
    pub(crate) work: Notify,
    pub(crate) space: MdtSpace,
    pub(crate) scope: Scope,
    pub(crate) started: Instant,
}

/// Space of the disk below the MDT, as last seen.
#[derive(Debug, Default)]
pub(crate) struct MdtSpace {
    total: AtomicU64,
    available: AtomicU64,
}

impl MdtSpace {
    pub(crate) fn set(&self, total: u64, available: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.available.store(available, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(crate) fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// Whether only what frees space should be done. Log segments, snapshots and the store's own
    /// housekeeping need the rest.
    pub(crate) fn nearly_full(&self) -> bool {
        let (total, available) = (self.total(), self.available());
        total > 0 && available < (total / 100).min(64 << 20)
    }
}

impl Shared {
    pub(crate) fn view(&self) -> &dyn View {
        self.engine.view()
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The check that every request of a session begins with; it also counts as a heartbeat.
    pub(crate) fn heard(&self, session: u64) -> Result<(), SessionError> {
        self.sessions.lock().heard(session, self.now())
    }

    /// A command of the server's own.
    pub(crate) fn command(&self, op: Op) -> Command {
        Command { time: self.clock.now(), origin: None::<Origin>, op }
    }

    /// Carries out a command of the server's own.
    pub(crate) async fn submit(&self, op: Op) -> Result<Outcome, EngineError<Refusal>> {
        let outcome = self.engine.submit(self.command(op), false).await?;
        self.note(&outcome);
        Ok(outcome)
    }

    /// Sees to what a command has left for others.
    pub(crate) fn note(&self, outcome: &Outcome) {
        self.note_exports(outcome);
        if !outcome.work.is_empty() {
            self.work.notify_one();
        }
    }

    /// Tells the coordinator of exports that a command has queued.
    pub(crate) fn note_exports(&self, outcome: &Outcome) {
        if !outcome.exports.is_empty() {
            self.hsm.exports(&outcome.exports, self.now());
        }
    }

    /// Tells clients that their locks were granted.
    pub(crate) fn deliver(&self, grants: Vec<Grant>) {
        for Grant { session, cookie } in grants {
            self.send(session, Event::LockGranted(v1::LockGranted { cookie }));
        }
    }

    /// Sends down a session's stream, if it has one. A stream whose client does not read is cut:
    /// when the client comes back it is told again what it has missed.
    pub(crate) fn send(&self, session: u64, event: Event) {
        let mut streams = self.streams.lock();
        let Some(stream) = streams.get(&session) else { return };
        if stream.try_send(Ok(self.down(event))).is_err() {
            streams.remove(&session);
        }
    }

    pub(crate) fn down(&self, event: Event) -> v1::SessionDown {
        v1::SessionDown { mds_boot_id: self.boot_id, event: Some(event) }
    }

    /// Frees orphans that nobody has open any more, without keeping anybody waiting.
    pub(crate) fn reap(self: &Arc<Self>, orphans: impl IntoIterator<Item = Fid>) {
        let orphans: Vec<Fid> = orphans.into_iter().collect();
        if orphans.is_empty() {
            return;
        }
        let shared = Arc::clone(self);
        self.scope.spawn_to_end("reap", async move {
            for fid in orphans {
                shared.reap_one(fid).await;
            }
        });
    }

    /// An open by fid may come between the last close and this: looked at once more on the
    /// applier, as for an unlink.
    ///
    /// Whoever has a lease on it may have it open without the server's knowledge, and says so when
    /// it gives it back.
    async fn reap_one(self: &Arc<Self>, fid: Fid) {
        let guard = match recalls::need(self, 0, &[Touch::change(fid)]).await {
            Ok(guard) => guard,
            Err(error) => {
                tracing::debug!(%fid, %error, "reap orphan");
                return;
            }
        };
        let shared = Arc::clone(self);
        let marked = Arc::new(Mutex::new(false));
        let mark = Arc::clone(&marked);
        let done = self.engine.submit_with(false, move |_| {
            if shared.opens.lock().held_or_leaving(fid) {
                return Err(Refusal::InUse(fid));
            }
            *mark.lock() = true;
            Ok(shared.command(Op::ReapOrphan { fid }))
        });
        let done = done.await;
        drop(guard);
        if *marked.lock() {
            self.opens.lock().left(fid);
            self.left.notify_waiters();
        }
        if done.is_ok() {
            self.leases.lock().gone(fid);
        }
        match done {
            Ok(outcome) => self.note(&outcome),
            Err(EngineError::Refused(Refusal::InUse(_))) => {
                let again = self.opens.lock().orphaned(fid);
                if again.is_some() {
                    // Closed in this very moment: the next start reaps it if this does not.
                    let retry = self.command(Op::ReapOrphan { fid });
                    drop(self.engine.submit(retry, false).await);
                }
            }
            Err(error) if self.scope.is_stopped() => tracing::debug!(%fid, %error, "reap orphan"),
            Err(error) => tracing::warn!(%fid, %error, "orphan is not reaped until the next start"),
        }
    }
}
