//! The engine: carries commands through state machine, log and store, in groups.
//!
//! ```text
//! submit ─► queue ─► applier: apply to an overlay ─► one write to the log ─► one batch ─► reply
//!                                                        │
//!                                syncer: one fdatasync for all who wait, or 100 ms later
//! ```
//!
//! A reply says that the command is with the operating system (it survives kill -9) and that
//! every reader sees it; [`Engine::sync`] that it is on the disk. There is one applier, and
//! readers see the store only, so nobody ever sees what is not in the log.

mod applier;
mod core;
mod error;
mod head;
mod keeper;
mod machine;
mod recover;
mod status;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nacre_node::Disk;
use nacre_node::tasks::{Blocking, Scope};
use tokio::sync::{mpsc, oneshot};

use self::core::{ErrorOf, Job, Submit};
pub use self::error::{EngineError, OpenError, Poison};
pub use self::head::{Head, RESERVED_PREFIX};
pub(crate) use self::head::{is_rebuilding, set_rebuilding};
use self::keeper::{Keeper, SnapshotRequest};
pub use self::machine::StateMachine;
use self::recover::Places;
use self::status::Status;
use crate::log::{LogConfig, LogSync};
use crate::snapshot::SnapshotError;
use crate::store::{MetaStore, View};

/// Where the applier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applier {
    /// On a thread of its own: it blocks on the store.
    Thread,
    /// As a task: for a simulator, whose store does not block.
    Task,
}

/// What an engine is made of.
pub struct EngineConfig {
    /// Where log and snapshots lie.
    pub disk: Arc<dyn Disk>,
    /// The store; an empty one is filled from snapshot and log.
    pub store: Arc<dyn MetaStore>,
    /// Where syncs, checkpoints and snapshots run.
    pub blocking: Blocking,
    /// Owns the tasks. When it stops, what was accepted is finished and made durable; nothing
    /// new is accepted. Stop it after whoever submits.
    pub scope: Scope,
    /// Where commands are carried out.
    pub applier: Applier,
    /// A record is on the disk so long after it was written, at the latest.
    pub sync_interval: Duration,
    /// Time between checkpoints of the store.
    pub checkpoint_interval: Duration,
    /// Commands that wait to be carried out; beyond it, submitting waits.
    pub queue_max: usize,
    /// The log.
    pub log: LogConfig,
    /// Folder of the snapshots.
    pub snapshots: PathBuf,
    /// A snapshot is taken when so much log stands behind the last one.
    pub snapshot_log_bytes: u64,
}

impl EngineConfig {
    /// The usual times and limits, the applier on a thread.
    pub fn new(
        disk: Arc<dyn Disk>,
        store: Arc<dyn MetaStore>,
        blocking: Blocking,
        scope: Scope,
    ) -> Self {
        Self {
            disk,
            store,
            blocking,
            scope,
            applier: Applier::Thread,
            sync_interval: Duration::from_millis(100),
            checkpoint_interval: Duration::from_secs(5),
            queue_max: 1024,
            log: LogConfig::default(),
            snapshots: PathBuf::from("snapshots"),
            snapshot_log_bytes: 256 << 20,
        }
    }
}

/// A running engine. Clones are the same one.
pub struct Engine<M: StateMachine> {
    jobs: mpsc::Sender<Job<M>>,
    snapshots: mpsc::Sender<SnapshotRequest>,
    store: Arc<dyn MetaStore>,
    log: LogSync,
    status: Arc<Status>,
}

impl<M: StateMachine> Clone for Engine<M> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            snapshots: self.snapshots.clone(),
            store: Arc::clone(&self.store),
            log: self.log.clone(),
            status: Arc::clone(&self.status),
        }
    }
}

impl<M: StateMachine> Engine<M> {
    /// Recovers (rebuilds the store if it must be, replays the log over it) and starts.
    pub async fn open(config: EngineConfig, machine: M) -> Result<Self, OpenError<M::Error>> {
        let places = Places {
            disk: Arc::clone(&config.disk),
            store: Arc::clone(&config.store),
            log: config.log.clone(),
            snapshots: config.snapshots.clone(),
        };
        let core = config.blocking.run(move || recover::recover(&places, machine)).await?;
        let (jobs, queue) = mpsc::channel(config.queue_max);
        let (snapshots, requests) = mpsc::channel(1);
        let status = Arc::new(Status::new(core.head.applied));
        let log = core.log.syncer();
        let engine = Self {
            jobs,
            snapshots,
            store: Arc::clone(&config.store),
            log: log.clone(),
            status: Arc::clone(&status),
        };
        let keeper = Keeper {
            disk: config.disk,
            store: config.store,
            log: log.clone(),
            blocking: config.blocking.clone(),
            status: Arc::clone(&status),
            jobs: engine.jobs.downgrade(),
            requests,
            checkpoint_interval: config.checkpoint_interval,
            snapshots: config.snapshots,
            snapshot_log_bytes: config.snapshot_log_bytes,
        };
        let scope = config.scope;
        let stop = scope.clone();
        let stopped = async move { stop.stopped().await };
        let applier = applier::run(core, queue, Arc::clone(&status), stopped);
        match config.applier {
            Applier::Task => scope.spawn_to_end("mds applier", applier),
            Applier::Thread => {
                scope.spawn_thread("mds applier", applier).map_err(OpenError::Thread)?;
            }
        }
        let sync = upkeep::sync_log(log, config.blocking, status, config.sync_interval);
        scope.spawn_to_end("mds log syncer", sync);
        scope.spawn_to_end("mds keeper", keeper.run());
        Ok(engine)
    }

    /// Carries a command out. With `sync` the answer waits for the disk.
    ///
    /// # Cancel safety
    /// Once it was accepted, the command is carried out though nobody waits any more.
    pub async fn submit(&self, command: M::Command, sync: bool) -> Result<M::Outcome, ErrorOf<M>> {
        self.submit_with(sync, move |_| Ok(command)).await
    }

    /// Carries out the command that `build` makes of the newest state, which holds everything
    /// that was submitted before. `build` runs on the applier: it must be short and not block.
    ///
    /// # Cancel safety
    /// As [`Engine::submit`].
    pub async fn submit_with<F>(&self, sync: bool, build: F) -> Result<M::Outcome, ErrorOf<M>>
    where
        F: FnOnce(&dyn View) -> Result<M::Command, M::Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let submit = Submit { build: Box::new(build), reply };
        if self.jobs.send(Job::Submit(submit)).await.is_err() {
            return Err(self.why(EngineError::Stopped));
        }
        let gone = || self.why(EngineError::Poisoned(Arc::new(Poison::Gone)));
        let outcome = answer.await.map_err(|_| gone())??;
        if sync {
            self.sync().await?;
        }
        Ok(outcome)
    }

    /// The committed state. A read that begins after an answer sees what was answered.
    pub fn view(&self) -> &dyn View {
        &*self.store
    }

    /// The store under it.
    pub fn store(&self) -> &Arc<dyn MetaStore> {
        &self.store
    }

    /// Last command that readers see.
    pub fn applied(&self) -> u64 {
        self.status.applied.load(Ordering::Acquire)
    }

    /// Waits until everything that was answered before is on the disk. All who wait at a time
    /// share one `fdatasync`.
    ///
    /// # Cancel safety
    /// Safe: nothing but the waiting ends.
    pub async fn sync(&self) -> Result<(), ErrorOf<M>> {
        let wanted = self.log.written();
        let mut synced = self.status.synced.subscribe();
        if *synced.borrow() >= wanted {
            return self.healthy();
        }
        self.status.demand.notify_one();
        let reached = |synced: &u64| *synced >= wanted || self.status.poisoned().is_some();
        let end = tokio::select! {
            seen = synced.wait_for(reached) => seen.map_or(0, |synced| *synced),
            () = self.status.failed.cancelled() => 0,
        };
        if end >= wanted { Ok(()) } else { self.healthy() }
    }

    /// Takes a snapshot now and purges what it makes superfluous; its state.
    pub async fn snapshot(&self) -> Result<Head, SnapshotError> {
        let (reply, answer) = oneshot::channel();
        self.snapshots.send(reply).await.map_err(|_| SnapshotError::Stopped)?;
        answer.await.map_err(|_| SnapshotError::Stopped)?
    }

    /// Resolves when the engine has failed and only a restart helps.
    pub async fn failed(&self) -> Arc<Poison> {
        self.status.failed.cancelled().await;
        self.status.poisoned().unwrap_or_else(|| Arc::new(Poison::Gone))
    }

    /// Space of the log, in bytes.
    pub fn log_bytes(&self) -> u64 {
        self.log.disk_bytes()
    }

    fn healthy(&self) -> Result<(), ErrorOf<M>> {
        self.status.poisoned().map_or(Ok(()), |cause| Err(EngineError::Poisoned(cause)))
    }

    fn why(&self, otherwise: ErrorOf<M>) -> ErrorOf<M> {
        self.status.poisoned().map_or(otherwise, EngineError::Poisoned)
    }
}

#[cfg(test)]
mod tests;
