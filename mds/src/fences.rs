//! Evicted sessions are fenced at the OSTs: a write of theirs that is still under way must not
//! land after others were given what they held.
//!
//! Told before anything of the session is released. An OST that is down, or does not answer within
//! [`TELL_DEADLINE`], is passed over and told as soon as it answers. Until then, a client that
//! reaches it though the metadata server does not could still write there: that window is the
//! price of not letting one dead OST stop everybody. OSTs remember fences over their restarts; who
//! has not been told yet is forgotten when the metadata server itself restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nacre_model::OstIndex;
use nacre_node::Scope;
use nacre_proto::v1;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::error::OstFailure;
use crate::osts::{Osts, within};
use crate::shared::Shared;

/// An eviction waits so long for an OST.
const TELL_DEADLINE: Duration = Duration::from_secs(2);
/// Between two attempts to tell who was passed over.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Most sessions that wait to be told to one OST; the highest stay.
const UNTOLD_MAX: usize = 4096;

/// What OSTs still have to be told.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    untold: Mutex<BTreeMap<OstIndex, BTreeSet<u64>>>,
}

impl Fences {
    fn note(&self, osts: impl Iterator<Item = OstIndex>, sessions: &[u64]) {
        let mut untold = self.untold.lock();
        for ost in osts {
            let waiting = untold.entry(ost).or_default();
            waiting.extend(sessions);
            while waiting.len() > UNTOLD_MAX {
                waiting.pop_first();
            }
        }
    }

    fn next(&self, ost: OstIndex) -> Option<u64> {
        self.untold.lock().get(&ost)?.first().copied()
    }

    fn told(&self, ost: OstIndex, session: u64) {
        let mut untold = self.untold.lock();
        if let Some(waiting) = untold.get_mut(&ost) {
            waiting.remove(&session);
            if waiting.is_empty() {
                untold.remove(&ost);
            }
        }
    }

    fn waiting(&self) -> Vec<OstIndex> {
        self.untold.lock().keys().copied().collect()
    }
}

/// From the return on nothing of these sessions is carried out, at any OST that answers.
pub(crate) async fn fence(shared: &Arc<Shared>, sessions: &[u64]) {
    let Some(map) = shared.osts.map() else { return };
    shared.fences.note(map.osts().map(|(ost, _)| ost), sessions);
    let up: Vec<OstIndex> =
        map.osts().map(|(ost, _)| ost).filter(|ost| shared.osts.answers(*ost)).collect();
    tell_all(shared, up).await;
}

/// Tells OSTs, all at a time, whatever waits for them.
async fn tell_all(shared: &Arc<Shared>, osts: Vec<OstIndex>) {
    let mut calls = JoinSet::new();
    for ost in osts {
        let shared = Arc::clone(shared);
        calls.spawn(async move {
            let told = tokio::time::timeout(TELL_DEADLINE, tell(&shared, ost)).await;
            let silent = OstFailure::Silent { ost, after: TELL_DEADLINE };
            if let Err(error) = told.unwrap_or(Err(silent)) {
                tracing::warn!(%ost, %error, "ost does not know yet who was evicted");
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        if let Err(error) = call {
            tracing::error!(%error, "fence call");
        }
    }
}

async fn tell(shared: &Shared, ost: OstIndex) -> Result<(), OstFailure> {
    let osts: &Osts = &shared.osts;
    while let Some(session) = shared.fences.next(ost) {
        let mut client = osts.client(ost)?;
        let request = v1::FenceRequest { header: Some(osts.header(ost)), session };
        within(ost, TELL_DEADLINE, client.fence(request)).await?;
        shared.fences.told(ost, session);
    }
    Ok(())
}

/// Tells who was passed over, as long as the scope lives.
pub(crate) fn start(shared: &Arc<Shared>, scope: &Scope) {
    let shared = Arc::clone(shared);
    scope.spawn("fence-retry", async move {
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            let mut waiting = shared.fences.waiting();
            waiting.retain(|ost| shared.osts.answers(*ost));
            if !waiting.is_empty() {
                tell_all(&shared, waiting).await;
            }
        }
    });
}
