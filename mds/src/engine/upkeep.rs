//! What goes on beside the applier: syncing the log, checkpoints, snapshots, purging.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nacre_node::tasks::Blocking;
use tokio::time::Instant;

use super::error::Poison;
use super::status::Status;
use crate::log::{LogError, LogSync};
use crate::store::MetaStore;

/// Syncs the log when somebody waits for it, and else at most `interval` after the oldest record
/// that is not durable yet; a last time when the applier has ended.
pub(super) async fn sync_log(
    log: LogSync,
    blocking: Blocking,
    status: Arc<Status>,
    interval: Duration,
) {
    loop {
        let last = tokio::select! {
            biased;
            () = status.failed.cancelled() => return,
            () = status.finished.cancelled() => true,
            () = status.demand.notified() => false,
            () = status.dirty.notified() => tokio::select! {
                biased;
                () = status.finished.cancelled() => true,
                () = status.demand.notified() => false,
                () = tokio::time::sleep(interval) => false,
            },
        };
        if log.written() > log.durable() && sync(&log, &blocking, &status).await.is_err() {
            return;
        }
        // Also for those who came when there was nothing left to do.
        status.synced.send_replace(log.durable());
        if last {
            return;
        }
    }
}

async fn sync(log: &LogSync, blocking: &Blocking, status: &Status) -> Result<(), LogError> {
    let begun = Instant::now();
    let syncer = log.clone();
    let done = blocking.run(move || syncer.sync()).await;
    metrics::histogram!("nacre_mds_log_sync_seconds").record(begun.elapsed().as_secs_f64());
    match done {
        Ok(_) => Ok(()),
        Err(error) => {
            status.poison(Arc::new(Poison::Log(error)));
            Err(LogError::Poisoned)
        }
    }
}

/// The log first, then the store, so that what a checkpoint holds is in the log, too.
pub(super) async fn checkpoint(
    log: &LogSync,
    store: &Arc<dyn MetaStore>,
    blocking: &Blocking,
    status: &Status,
) -> Result<(), Arc<Poison>> {
    let applied = status.applied.load(Ordering::Acquire);
    if applied == status.checkpointed.load(Ordering::Acquire) {
        return Ok(());
    }
    let (log, store) = (log.clone(), Arc::clone(store));
    let done = blocking.run(move || {
        if log.written() > log.durable() {
            log.sync().map_err(Poison::Log)?;
        }
        store.checkpoint().map_err(Poison::Store)
    });
    if let Err(cause) = done.await {
        let cause = Arc::new(cause);
        status.poison(Arc::clone(&cause));
        return Err(cause);
    }
    status.checkpointed.store(applied, Ordering::Release);
    Ok(())
}
