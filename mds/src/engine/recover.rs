//! Bringing store and log together at the start.

use std::sync::Arc;

use nacre_node::Disk;

use super::core::Core;
use super::error::OpenError;
use super::head::{Head, is_rebuilding};
use super::machine::StateMachine;
use crate::log::{Log, LogConfig, LogReader, Record};
use crate::snapshot::{self, SnapshotWriter};
use crate::store::{Batch, MetaStore, Txn};

/// Commands replayed as one batch.
const REPLAY_GROUP: usize = 256;

/// Where recovery finds things.
pub(super) struct Places {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: Arc<dyn MetaStore>,
    pub(super) log: LogConfig,
    pub(super) snapshots: std::path::PathBuf,
}

/// Rebuilds the store from a snapshot if it must be, replays the log over it, and opens the log
/// behind. Blocks.
pub(super) fn recover<M: StateMachine>(
    places: &Places,
    machine: M,
) -> Result<Core<M>, OpenError<M::Error>> {
    let Places { disk, store, log, snapshots } = places;
    let reader = LogReader::open(Arc::clone(disk), log.clone())?;
    let head = begin(places, reader.first_index())?;
    let mut replay =
        Replay { machine, store: Arc::clone(store), head, batch: Batch::new(), count: 0 };
    let mut log = reader.recover(head.applied + 1, &mut |record| replay.one(&record))?;
    replay.flush()?;
    let Replay { machine, head, .. } = replay;
    if log.last_index() < head.applied {
        log = go_on_behind_store(log, places, head)?;
    }
    tracing::info!(applied = head.applied, hash = head.hash, snapshots = %snapshots.display(), "metadata recovered");
    Ok(Core { machine, store: Arc::clone(store), log, head, tap: None, scratch: Vec::new() })
}

/// The state from which the log goes on.
fn begin<E>(places: &Places, oldest: Option<u64>) -> Result<Head, OpenError<E>> {
    let Places { disk, store, snapshots, .. } = places;
    let rebuilding = is_rebuilding(&**store)?;
    let head = if rebuilding { Head::default() } else { Head::load(&**store)? };
    let oldest_index = oldest.unwrap_or(head.applied + 1);
    let gap = oldest_index > head.applied + 1;
    if !rebuilding && !gap && head.applied > 0 {
        return Ok(head);
    }
    // Also for a new store beside a long log: it is quicker.
    let from_min = oldest.map_or(0, |oldest| oldest.saturating_sub(1));
    if let Some(head) = snapshot::restore(&**disk, snapshots, &**store, from_min)? {
        tracing::warn!(applied = head.applied, "metadata store rebuilt from a snapshot");
        return Ok(head);
    }
    if gap || rebuilding {
        return Err(OpenError::Unrecoverable { applied: head.applied, oldest: oldest_index });
    }
    Ok(head)
}

/// A power cut took the end of the log, though the store had it: what the store holds is then
/// made the beginning, and the log goes on behind it.
fn go_on_behind_store<E>(log: Log, places: &Places, head: Head) -> Result<Log, OpenError<E>> {
    let Places { disk, store, snapshots, .. } = places;
    tracing::warn!(applied = head.applied, log = log.last_index(), "the store is ahead of the log");
    store.checkpoint()?;
    let mut writer = SnapshotWriter::create(Arc::clone(disk), snapshots)?;
    while writer.copy_some(&**store)? {}
    writer.finish(head)?;
    Ok(log.restart_at(head.applied + 1)?)
}

struct Replay<M> {
    machine: M,
    store: Arc<dyn MetaStore>,
    head: Head,
    batch: Batch,
    count: usize,
}

impl<M: StateMachine> Replay<M> {
    fn one(&mut self, record: &Record<'_>) -> Result<(), OpenError<M::Error>> {
        let at = |source| OpenError::Replay { index: record.index, source };
        let command = self.machine.decode(record.payload).map_err(at)?;
        let mut txn = Txn::with_batch(&*self.store, std::mem::take(&mut self.batch));
        txn.mark();
        self.machine.apply(&mut txn, &command).map_err(at)?;
        self.head = self.head.advance(record.index, record.term, &txn);
        self.batch = txn.into_batch();
        self.count += 1;
        if self.count == REPLAY_GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), OpenError<M::Error>> {
        if self.count > 0 {
            let mut batch = std::mem::take(&mut self.batch);
            self.head.store_in(&mut batch);
            self.store.apply(&batch)?;
            self.count = 0;
        }
        Ok(())
    }
}
