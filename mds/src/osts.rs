//! What the OSTs say of their space, asked once a second, never waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{ClusterMap, OstIndex, TargetState};
use nacre_node::{Peers, Scope};
use nacre_proto::v1;
use parking_lot::Mutex;

use crate::error::OstFailure;
use crate::placement::Candidate;

/// Between two questions to the same OST.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// An OST that does not answer within this gets no new objects until it does.
const POLL_DEADLINE: Duration = Duration::from_secs(2);

/// The OSTs as the MDS sees them.
#[derive(Debug, Clone)]
pub(crate) struct Osts {
    peers: Peers,
    seen: Arc<Mutex<BTreeMap<OstIndex, Seen>>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// The last answer.
    space: Option<v1::OstStatfsResponse>,
    /// The last question was not answered.
    silent: bool,
}

impl Osts {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers, seen: Arc::default() }
    }

    pub(crate) fn map(&self) -> Option<Arc<ClusterMap>> {
        self.peers.map()
    }

    /// Candidates for new objects, ascending.
    pub(crate) fn candidates(&self, map: &ClusterMap) -> Vec<Candidate> {
        let seen = self.seen.lock();
        let candidate = |(index, target): (OstIndex, &nacre_model::Target)| {
            let seen = seen.get(&index);
            let space = seen.and_then(|seen| seen.space.as_ref());
            let silent = seen.is_some_and(|seen| seen.silent);
            Candidate {
                index,
                open: target.state == TargetState::Up && !target.no_create && !silent,
                bytes_available: space.map(|space| space.bytes_available),
                objects_free: space.map(|space| space.objects_free),
            }
        };
        map.osts().map(candidate).collect()
    }

    /// Whether requests to the OST have a chance.
    pub(crate) fn answers(&self, ost: OstIndex) -> bool {
        let map = self.map();
        let target = map.as_ref().and_then(|map| map.ost(ost));
        let up = target.is_some_and(|target| target.state == TargetState::Up);
        up && !self.seen.lock().get(&ost).is_some_and(|seen| seen.silent)
    }

    /// Of every OST of the map, from its last answer.
    pub(crate) fn statfs(&self) -> Vec<v1::OstStatfs> {
        let Some(map) = self.map() else { return Vec::new() };
        let seen = self.seen.lock();
        map.osts()
            .map(|(index, target)| {
                let seen = seen.get(&index).cloned().unwrap_or_default();
                let space = seen.space.unwrap_or_default();
                v1::OstStatfs {
                    index: index.0.into(),
                    up: target.state == TargetState::Up && !seen.silent,
                    bytes_total: space.bytes_total,
                    bytes_free: space.bytes_free,
                    bytes_available: space.bytes_available,
                    objects_used: space.objects_used,
                    objects_free: space.objects_free,
                }
            })
            .collect()
    }

    /// The header of a request to an OST.
    pub(crate) fn header(&self, ost: OstIndex) -> v1::ObjectHeader {
        let map = self.map();
        let epoch = map.as_ref().and_then(|map| map.ost(ost)).map_or(0, |target| target.epoch);
        v1::ObjectHeader {
            ost_index: ost.0.into(),
            target_epoch: epoch,
            map_version: map.map_or(0, |map| map.version),
            session: 0,
            capability: bytes::Bytes::new(),
        }
    }

    /// Asks every OST of the map once a second, and at once when the map changes.
    pub(crate) fn start(&self, scope: &Scope) {
        let (osts, own) = (self.clone(), scope.clone());
        scope.spawn("ost-statfs", async move {
            let asked: Arc<Mutex<BTreeSet<OstIndex>>> = Arc::default();
            let mut map = osts.peers.watch();
            let mut tick = tokio::time::interval(POLL_INTERVAL);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut following = true;
            loop {
                osts.ask_all(&own, &asked);
                tokio::select! {
                    _ = tick.tick() => {}
                    changed = map.changed(), if following => following = changed.is_ok(),
                }
            }
        });
    }

    fn ask_all(&self, scope: &Scope, asked: &Arc<Mutex<BTreeSet<OstIndex>>>) {
        let Some(map) = self.map() else { return };
        self.seen.lock().retain(|index, _| map.ost(*index).is_some());
        for (index, _) in map.osts() {
            // One question at a time: a silent OST must not gather them.
            if !asked.lock().insert(index) {
                continue;
            }
            let (osts, asked) = (self.clone(), Arc::clone(asked));
            scope.spawn("ost-statfs-one", async move {
                let answer = osts.ask(index).await;
                osts.note(index, answer);
                asked.lock().remove(&index);
            });
        }
    }

    async fn ask(&self, ost: OstIndex) -> Result<v1::OstStatfsResponse, OstFailure> {
        let request = v1::OstStatfsRequest { header: Some(self.header(ost)) };
        let mut client = self.client(ost)?;
        within(ost, POLL_DEADLINE, client.ost_statfs(request)).await
    }

    fn note(&self, ost: OstIndex, answer: Result<v1::OstStatfsResponse, OstFailure>) {
        let mut seen = self.seen.lock();
        let seen = seen.entry(ost).or_default();
        match answer {
            Ok(space) => {
                if seen.silent {
                    tracing::info!(%ost, "ost answers again");
                }
                *seen = Seen { space: Some(space), silent: false };
            }
            Err(error) => {
                if !seen.silent {
                    tracing::info!(%ost, %error, "ost does not answer: no new objects there");
                }
                seen.silent = true;
            }
        }
    }

    /// A client of the OST's server.
    pub(crate) fn client(
        &self,
        ost: OstIndex,
    ) -> Result<v1::oss_client::OssClient<nacre_node::net::Channel>, OstFailure> {
        let unreachable = |error: nacre_node::peers::NoPeer| OstFailure::Unreachable {
            ost,
            reason: error.to_string(),
        };
        self.peers.oss(ost).map_err(unreachable)
    }
}

/// A call with a deadline, its failure naming the OST.
pub(crate) async fn within<T>(
    ost: OstIndex,
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, OstFailure> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            let source = nacre_proto::status::from_status(&status);
            Err(OstFailure::Answer { ost, source })
        }
        Err(_) => Err(OstFailure::Silent { ost, after: deadline }),
    }
}
