//! Destroys objects of files that are gone, in the background, until every OST has confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{ObjectId, OstIndex};
use nacre_node::Scope;
use nacre_proto::v1;
use tokio::task::JoinSet;

use crate::command::{Op, Work};
use crate::error::{MdsError, OstFailure};
use crate::metrics;
use crate::namespace::read;
use crate::osts::{Osts, within};
use crate::shared::Shared;

/// After the first of several unlinks, so long is waited for more: they share a call.
const GATHER: Duration = Duration::from_millis(10);
/// Records looked at, and forgotten, at a time.
const PAGE: usize = 1024;
/// Objects in one call.
const OBJECTS_PER_CALL: usize = 1024;
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at what is left of earlier passes.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Where the worker stands.
#[derive(Debug, Default)]
struct Pass {
    /// Last record looked at.
    cursor: u64,
    /// Records that were passed over, and the OSTs they wait for.
    left_count: usize,
    waits_for: BTreeSet<OstIndex>,
}

/// Starts the worker; its first pass takes up what the last life of the server has left.
pub(crate) fn start(shared: &Arc<Shared>, scope: &Scope) {
    let shared = Arc::clone(shared);
    scope.spawn("destroy-objects", async move {
        let mut pass = Pass::default();
        loop {
            if let Err(error) = run(&shared, &mut pass).await {
                tracing::warn!(%error, "destroying objects is put off");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            metrics::work_records(pass.left_count);
            tokio::select! {
                () = shared.work.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(RETRY_PAUSE), if pass.left_count > 0 => {
                    // Going through all records again is worth it only if somebody is back.
                    if pass.waits_for.iter().any(|ost| shared.osts.answers(*ost)) {
                        pass = Pass::default();
                    }
                }
            }
        }
    });
}

/// From the cursor to the end of the records.
async fn run(shared: &Arc<Shared>, pass: &mut Pass) -> Result<(), MdsError> {
    loop {
        let page = read::pending_work(shared.view(), pass.cursor, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        let last = *last;
        // An unlink that a loss of power takes back must find its objects.
        shared.engine.sync().await?;
        destroy_page(shared, page, pass).await?;
        pass.cursor = last;
    }
}

async fn destroy_page(
    shared: &Arc<Shared>,
    page: Vec<(u64, Work)>,
    pass: &mut Pass,
) -> Result<(), MdsError> {
    let mut wanted: BTreeMap<(OstIndex, bool), Vec<ObjectId>> = BTreeMap::new();
    let mut records: Vec<(u64, BTreeSet<OstIndex>)> = Vec::new();
    for (record, work) in page {
        // Truncates belong to the requests that wait for them.
        let Work::Destroy { objects, tombstone } = work else { continue };
        let osts = objects.iter().map(|(_, ost)| *ost).collect();
        records.push((record, osts));
        for (object, ost) in objects {
            wanted.entry((ost, tombstone)).or_default().push(object);
        }
    }
    let failed = destroy(&shared.osts, wanted).await;
    let (left, done): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|(_, osts)| !osts.is_disjoint(&failed));
    pass.left_count = pass.left_count.saturating_add(left.len());
    for (_, osts) in left {
        pass.waits_for.extend(osts.intersection(&failed));
    }
    let records: Vec<u64> = done.into_iter().map(|(record, _)| record).collect();
    if !records.is_empty() {
        shared.submit(Op::ForgetWork { records }).await?;
    }
    Ok(())
}

/// Calls all OSTs at a time; returns those that have not done all.
async fn destroy(
    osts: &Osts,
    wanted: BTreeMap<(OstIndex, bool), Vec<ObjectId>>,
) -> BTreeSet<OstIndex> {
    let mut calls = JoinSet::new();
    let mut failed = BTreeSet::new();
    for ((ost, tombstone), objects) in wanted {
        if !osts.answers(ost) {
            failed.insert(ost);
            continue;
        }
        let osts = osts.clone();
        calls.spawn(async move { (ost, destroy_on(&osts, ost, objects, tombstone).await) });
    }
    while let Some(call) = calls.join_next().await {
        match call {
            Ok((_, Ok(count))) => metrics::destroyed(count),
            Ok((ost, Err(error))) => {
                tracing::info!(%ost, %error, "objects are not destroyed yet");
                failed.insert(ost);
            }
            Err(error) => tracing::error!(%error, "destroy call"),
        }
    }
    failed
}

async fn destroy_on(
    osts: &Osts,
    ost: OstIndex,
    objects: Vec<ObjectId>,
    tombstone: bool,
) -> Result<usize, OstFailure> {
    let mut client = osts.client(ost)?;
    for chunk in objects.chunks(OBJECTS_PER_CALL) {
        let request = v1::DestroyRequest {
            header: Some(osts.header(ost)),
            objects: chunk.iter().map(|id| (*id).into()).collect(),
            tombstone,
        };
        within(ost, CALL_DEADLINE, client.destroy(request)).await?;
    }
    Ok(objects.len())
}
