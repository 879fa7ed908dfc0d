//! Cutting objects: a truncate is answered after the OSTs have done it.
//!
//! A cut that cannot be made now stays a record. It must never be made late, over bytes written
//! since: so before anything else is done with a file's size or data, its pending cuts are made,
//! and a cut that is done is forgotten before its request is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{Fid, ObjectId, OstIndex};
use nacre_node::Scope;
use nacre_proto::v1;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::command::{Op, Work};
use crate::error::{MdsError, OstFailure};
use crate::namespace::{NsError, read};
use crate::osts::{Osts, within};
use crate::placement::PlacementError;
use crate::shared::Shared;
use crate::store::View;

/// A request waits so long for the OSTs; then it gives EIO.
const CUT_DEADLINE: Duration = Duration::from_secs(4);
/// Between two attempts at a cut that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Records read from the store at a time.
const PAGE: usize = 1024;

type Objects = Vec<(ObjectId, OstIndex, u64)>;

/// Files whose objects are being cut, or still have to be.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// Records not done, by file and in order.
    pending: Mutex<BTreeMap<Fid, BTreeMap<u64, Objects>>>,
    /// One at a time for each file, or a late cut could undo a later one.
    turns: Mutex<BTreeMap<Fid, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to change a file's size.
#[must_use = "dropping it lets the next truncate begin"]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    fid: Fid,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.shared.cuts.turns.lock();
        if turns.get(&self.fid).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.fid);
        }
    }
}

impl Cuts {
    /// With the cuts that the last life of the server has left.
    pub(crate) fn load(view: &dyn View) -> Result<Self, NsError> {
        let cuts = Self::default();
        let mut after = 0;
        loop {
            let page = read::pending_work(view, after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(cuts) };
            after = *last;
            for (record, work) in page {
                cuts.note(record, work);
            }
        }
    }

    /// Remembers a cut to be made.
    pub(crate) fn note(&self, record: u64, work: Work) {
        if let Work::Truncate { objects } = work
            && let Some((id, ..)) = objects.first()
        {
            self.pending.lock().entry(id.fid).or_default().insert(record, objects);
        }
    }

    fn has(&self, fid: Fid) -> bool {
        self.pending.lock().contains_key(&fid)
    }

    fn oldest(&self, fid: Fid) -> Option<(u64, Objects)> {
        let pending = self.pending.lock();
        let (record, objects) = pending.get(&fid)?.first_key_value()?;
        Some((*record, objects.clone()))
    }

    fn done(&self, fid: Fid, record: u64) {
        let mut pending = self.pending.lock();
        if let Some(records) = pending.get_mut(&fid) {
            records.remove(&record);
            if records.is_empty() {
                pending.remove(&fid);
            }
        }
    }
}

/// Waits for the right to change a file's size.
pub(crate) async fn turn(shared: &Arc<Shared>, fid: Fid) -> Turn {
    let mutex = Arc::clone(shared.cuts.turns.lock().entry(fid).or_default());
    let guard = mutex.lock_owned().await;
    Turn { shared: Arc::clone(shared), fid, guard: Some(guard) }
}

/// Makes pending cuts of the file before it is served; without any, costs a look into a map.
pub(crate) async fn settle(shared: &Arc<Shared>, fid: Fid) -> Result<(), MdsError> {
    if !shared.cuts.has(fid) {
        return Ok(());
    }
    let turn = turn(shared, fid).await;
    make(&turn).await
}

/// Makes all pending cuts of the file, oldest first.
pub(crate) async fn make(turn: &Turn) -> Result<(), MdsError> {
    let (shared, fid) = (&turn.shared, turn.fid);
    if !shared.cuts.has(fid) {
        return Ok(());
    }
    if shared.osts.map().is_none() {
        // Nobody is dead, it is just not known yet where they are.
        return Err(PlacementError::NoMap.into());
    }
    let until = Instant::now() + CUT_DEADLINE;
    // What is cut must not come back with its old size after a loss of power.
    shared.engine.sync().await?;
    while let Some((record, objects)) = shared.cuts.oldest(fid) {
        cut(&shared.osts, objects, until).await.map_err(|cause| MdsError::NotCut { fid, cause })?;
        shared.submit(Op::ForgetWork { records: vec![record] }).await?;
        shared.cuts.done(fid, record);
    }
    Ok(())
}

async fn cut(osts: &Osts, objects: Objects, until: Instant) -> Result<(), OstFailure> {
    let mut calls = JoinSet::new();
    for (object, ost, size) in objects {
        let mut client = osts.client(ost)?;
        let header = Some(osts.header(ost));
        let request = v1::TruncateRequest { header, object: Some(object.into()), size };
        let left = until.saturating_duration_since(Instant::now());
        calls.spawn(async move { within(ost, left, client.truncate(request)).await });
    }
    let mut failed = None;
    while let Some(call) = calls.join_next().await {
        if let Ok(Err(error)) = call {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Tries again what failed, as long as the server lives.
pub(crate) fn start(shared: &Arc<Shared>, scope: &Scope) {
    let shared = Arc::clone(shared);
    scope.spawn("cut-retry", async move {
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            let fids: Vec<Fid> = shared.cuts.pending.lock().keys().copied().collect();
            for fid in fids {
                // A dead OST would cost the others their turn.
                let hopeless = shared.cuts.oldest(fid).is_some_and(|(_, objects)| {
                    objects.iter().any(|(_, ost, _)| !shared.osts.answers(*ost))
                });
                if !hopeless && let Err(error) = settle(&shared, fid).await {
                    tracing::debug!(%fid, %error, "objects are not cut yet");
                }
            }
        }
    });
}
