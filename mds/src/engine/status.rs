//! What the engine's tasks and its users tell each other.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::error::Poison;

/// Shared by all tasks of one engine.
#[derive(Debug)]
pub(super) struct Status {
    /// Last command that readers see.
    pub(super) applied: AtomicU64,
    /// Last command of the last checkpoint of the store.
    pub(super) checkpointed: AtomicU64,
    /// Something was written to the log.
    pub(super) dirty: Notify,
    /// Somebody waits for the disk.
    pub(super) demand: Notify,
    /// Raised after every sync of the log, and when the engine fails.
    pub(super) synced: watch::Sender<u64>,
    /// Set once.
    poison: OnceLock<Arc<Poison>>,
    /// Cancelled when the engine has failed.
    pub(super) failed: CancellationToken,
    /// Cancelled when the applier has ended.
    pub(super) finished: CancellationToken,
}

impl Status {
    pub(super) fn new(applied: u64) -> Self {
        Self {
            applied: AtomicU64::new(applied),
            checkpointed: AtomicU64::new(0),
            dirty: Notify::new(),
            demand: Notify::new(),
            synced: watch::Sender::new(applied),
            poison: OnceLock::new(),
            failed: CancellationToken::new(),
            finished: CancellationToken::new(),
        }
    }

    /// The engine serves no more. The first cause is kept.
    pub(super) fn poison(&self, cause: Arc<Poison>) {
        if self.poison.set(cause).is_ok() {
            let cause = self.poison.get().map(|cause| &**cause as &dyn std::error::Error);
            tracing::error!(error = cause, "metadata engine failed");
            self.failed.cancel();
            self.synced.send_modify(|_| {});
        }
    }

    pub(super) fn poisoned(&self) -> Option<Arc<Poison>> {
        self.poison.get().cloned()
    }

    /// Says that the applier has ended, however it ends.
    pub(super) fn finish_on_drop(self: &Arc<Self>) -> impl Drop + use<> {
        Finish(Arc::clone(self))
    }
}

struct Finish(Arc<Status>);

impl Drop for Finish {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(Arc::new(Poison::Gone));
        }
        self.0.finished.cancel();
    }
}
