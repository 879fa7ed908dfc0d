//! Checkpoints, snapshots and the purging of what they make superfluous.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nacre_node::Disk;
use nacre_node::tasks::Blocking;
use tokio::sync::{mpsc, oneshot};

use super::core::Job;
use super::head::Head;
use super::machine::StateMachine;
use super::status::Status;
use super::upkeep::checkpoint;
use crate::log::LogSync;
use crate::snapshot::{self, SnapshotError, SnapshotWriter};
use crate::store::{Batch, MetaStore};

/// Groups that may wait for a snapshot to write them.
const TAP_GROUPS_MAX: usize = 64;

pub(super) type SnapshotRequest = oneshot::Sender<Result<Head, SnapshotError>>;

pub(super) struct Keeper<M: StateMachine> {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: Arc<dyn MetaStore>,
    pub(super) log: LogSync,
    pub(super) blocking: Blocking,
    pub(super) status: Arc<Status>,
    /// Weak: keeping the engine's house must not keep it alive.
    pub(super) jobs: mpsc::WeakSender<Job<M>>,
    pub(super) requests: mpsc::Receiver<SnapshotRequest>,
    pub(super) checkpoint_interval: Duration,
    pub(super) snapshots: PathBuf,
    pub(super) snapshot_log_bytes: u64,
}

enum Action {
    Last,
    Tick,
    Snapshot(Option<SnapshotRequest>),
}

impl<M: StateMachine> Keeper<M> {
    /// Runs until the applier has ended, and makes a last checkpoint then.
    pub(super) async fn run(mut self) {
        loop {
            // Cancel safe: a request that was received is always acted upon.
            let action = tokio::select! {
                biased;
                () = self.status.failed.cancelled() => return,
                () = self.status.finished.cancelled() => Action::Last,
                Some(request) = self.requests.recv() => Action::Snapshot(Some(request)),
                () = tokio::time::sleep(self.checkpoint_interval) => Action::Tick,
            };
            let saved = checkpoint(&self.log, &self.store, &self.blocking, &self.status).await;
            if saved.is_err() || matches!(action, Action::Last) {
                return;
            }
            match action {
                Action::Snapshot(reply) => self.snapshot(reply).await,
                Action::Tick => match self.is_snapshot_due() {
                    Ok(true) => self.snapshot(None).await,
                    Ok(false) => {}
                    Err(error) => warn(&error),
                },
                Action::Last => {}
            }
        }
    }

    fn is_snapshot_due(&self) -> Result<bool, SnapshotError> {
        let newest = snapshot::list(&*self.disk, &self.snapshots)?.last().copied();
        Ok(self.log.bytes_after(newest.unwrap_or(0)) >= self.snapshot_log_bytes)
    }

    async fn snapshot(&mut self, reply: Option<SnapshotRequest>) {
        let done = self.take().await;
        match &done {
            Ok(head) => tracing::info!(applied = head.applied, "metadata snapshot taken"),
            Err(SnapshotError::Stopped) => {}
            // The engine goes on; the log is kept until the next attempt succeeds.
            Err(error) => warn(error),
        }
        if let Err(error) = self.purge().await {
            warn(&error);
        }
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            drop(reply.send(done));
        }
    }

    async fn take(&self) -> Result<Head, SnapshotError> {
        let jobs = self.jobs.upgrade().ok_or(SnapshotError::Stopped)?;
        let (sink, mut tap) = mpsc::channel(TAP_GROUPS_MAX);
        ask(&jobs, |head| Job::Tap { sink, head }).await?;
        let (disk, dir) = (Arc::clone(&self.disk), self.snapshots.clone());
        let mut writer = self.blocking.run(move || SnapshotWriter::create(disk, &dir)).await?;
        loop {
            let (back, more) = self.step(writer, drain(&mut tap)).await?;
            writer = back;
            if !more {
                break;
            }
        }
        // The applier may be waiting for room in the tap before it sees this.
        let mut rest = Vec::new();
        let end = ask(&jobs, |head| Job::Untap { head });
        tokio::pin!(end);
        let head = loop {
            // Cancel safe: `recv` loses nothing, and `end` is kept.
            tokio::select! {
                head = &mut end => break head?,
                Some(batch) = tap.recv() => rest.push(batch),
            }
        };
        rest.extend(drain(&mut tap));
        let (log, status) = (self.log.clone(), Arc::clone(&self.status));
        let finish = self.blocking.run(move || {
            for batch in rest {
                writer.add_changes(&batch)?;
            }
            // It must not hold what a power cut could still take from the log.
            if let Err(error) = log.sync() {
                status.poison(Arc::new(error.into()));
                return Err(SnapshotError::Stopped);
            }
            writer.finish(head)
        });
        finish.await?;
        Ok(head)
    }

    async fn step(
        &self,
        mut writer: SnapshotWriter,
        changes: Vec<Arc<Batch>>,
    ) -> Result<(SnapshotWriter, bool), SnapshotError> {
        let store = Arc::clone(&self.store);
        let step = move || {
            let more = writer.copy_some(&*store)?;
            for batch in changes {
                writer.add_changes(&batch)?;
            }
            Ok((writer, more))
        };
        self.blocking.run(step).await
    }

    /// Removes log that neither the checkpoint nor the older snapshot needs.
    async fn purge(&self) -> Result<(), SnapshotError> {
        let snapshots = snapshot::list(&*self.disk, &self.snapshots)?;
        let Some(older) = snapshots.iter().rev().nth(snapshot::KEPT - 1) else { return Ok(()) };
        let checkpointed = self.status.checkpointed.load(std::sync::atomic::Ordering::Acquire);
        let (log, upto) = (self.log.clone(), checkpointed.min(*older));
        Ok(self.blocking.run(move || log.purge(upto)).await?)
    }
}

fn drain(tap: &mut mpsc::Receiver<Arc<Batch>>) -> Vec<Arc<Batch>> {
    std::iter::from_fn(|| tap.try_recv().ok()).take(TAP_GROUPS_MAX).collect()
}

async fn ask<M: StateMachine>(
    jobs: &mpsc::Sender<Job<M>>,
    job: impl FnOnce(oneshot::Sender<Head>) -> Job<M>,
) -> Result<Head, SnapshotError> {
    let (reply, answer) = oneshot::channel();
    jobs.send(job(reply)).await.map_err(|_| SnapshotError::Stopped)?;
    answer.await.map_err(|_| SnapshotError::Stopped)
}

fn warn(error: &SnapshotError) {
    tracing::warn!(error = error as &dyn std::error::Error, "no metadata snapshot this time");
}
