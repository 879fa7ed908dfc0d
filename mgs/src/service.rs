//! The gRPC service: validates, runs the registry, saves, publishes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{ClusterMap, MdtIndex, OstIndex, TargetKind};
use nacre_node::Scope;
use nacre_node::tasks::Blocking;
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::status::to_status;
use nacre_proto::v1;
use nacre_proto::v1::mgs_server::Mgs;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::error::MgsError;
use crate::registry::{self, Heard, PoolChange, Registration};
use crate::state::{State, TargetKey};
use crate::store::Store;

/// Most streams of the map at one time.
const WATCHERS_MAX: usize = 10_000;

/// The MGS's state and who follows it. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    core: Arc<Core>,
}

struct Core {
    store: Arc<dyn Store>,
    blocking: Blocking,
    scope: Scope,
    started: Instant,
    /// Held while a change is saved: changes are rare and come one after the other.
    current: Mutex<Current>,
    map: watch::Sender<Arc<ClusterMap>>,
    watchers: Arc<Semaphore>,
}

struct Current {
    state: State,
    heard: Heard,
}

impl Service {
    /// Over what the store holds, or a new file system.
    pub async fn open(
        fsname: &str,
        store: Arc<dyn Store>,
        blocking: Blocking,
        scope: Scope,
    ) -> Result<Self, MgsError> {
        let (reader, name) = (Arc::clone(&store), fsname.to_owned());
        let load = move || {
            if let Some(state) = reader.load()? {
                return Ok::<_, MgsError>(state);
            }
            let state = State::new(&name);
            reader.save(&state)?;
            Ok(state)
        };
        let state = blocking.run(load).await?;
        if state.map.fsname != fsname {
            let own = state.map.fsname;
            return Err(MgsError::OtherFsname { own, asked: fsname.to_owned() });
        }
        let (map, _) = watch::channel(Arc::new(state.map.clone()));
        let current = Mutex::new(Current { state, heard: Heard::new() });
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        let started = Instant::now();
        let core = Core { store, blocking, scope, started, current, map, watchers };
        Ok(Self { core: Arc::new(core) })
    }

    /// Calls silent servers down. To be called a few times a second.
    pub async fn expire(&self) -> Result<(), MgsError> {
        let mut current = self.core.current.lock().await;
        let now = self.core.started.elapsed();
        let next = registry::expire(&current.state, &current.heard, now);
        self.adopt(&mut current, next).await
    }

    /// Makes `next` the state: durable first, then seen.
    async fn adopt(&self, current: &mut Current, next: State) -> Result<(), MgsError> {
        if next == current.state {
            return Ok(());
        }
        let (store, saved) = (Arc::clone(&self.core.store), next.clone());
        self.core.blocking.run(move || store.save(&saved)).await?;
        log_changes(&current.state.map, &next.map);
        metrics::counter!("nacre_mgs_map_changes_total").absolute(next.map.version);
        self.core.map.send_if_modified(|map| {
            let newer = map.version != next.map.version;
            if newer {
                *map = Arc::new(next.map.clone());
            }
            newer
        });
        current.state = next;
        Ok(())
    }

    fn check_fsname(state: &State, asked: &str) -> Result<(), MgsError> {
        if state.map.fsname == asked {
            return Ok(());
        }
        let own = state.map.fsname.clone();
        Err(MgsError::OtherFsname { own, asked: asked.to_owned() })
    }

    async fn do_register(&self, request: v1::RegisterRequest) -> Result<ClusterMap, MgsError> {
        let targets = keys(&request.targets)?;
        let mut current = self.core.current.lock().await;
        Self::check_fsname(&current.state, &request.fsname)?;
        let uuids = request.targets.into_iter().map(|target| target.uuid);
        let registration = Registration {
            addresses: request.addresses,
            targets: targets.iter().copied().zip(uuids).collect(),
            boot_id: request.boot_id,
        };
        let next = registry::register(&current.state, &registration)?;
        self.adopt(&mut current, next).await?;
        let now = self.core.started.elapsed();
        current.heard.extend(targets.into_iter().map(|key| (key, now)));
        tracing::info!(server = %request.server, addresses = ?registration.addresses, "registered");
        Ok(current.state.map.clone())
    }

    async fn do_heartbeat(
        &self,
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, MgsError> {
        let targets = keys(&request.targets)?;
        let mut current = self.core.current.lock().await;
        Self::check_fsname(&current.state, &request.fsname)?;
        let next = registry::heartbeat(&current.state, &targets, request.boot_id, request.stopping);
        let unknown = next.is_none();
        if let Some(next) = next {
            self.adopt(&mut current, next).await?;
            let now = self.core.started.elapsed();
            current.heard.extend(targets.into_iter().map(|key| (key, now)));
        }
        Ok(v1::HeartbeatResponse { map_version: current.state.map.version, unknown })
    }

    async fn do_allocate(
        &self,
        request: v1::AllocateSequencesRequest,
    ) -> Result<v1::AllocateSequencesResponse, MgsError> {
        let mdt = MdtIndex(index("mdt_index", request.mdt_index)?);
        let mut current = self.core.current.lock().await;
        Self::check_fsname(&current.state, &request.fsname)?;
        let uuid = &request.mdt_uuid;
        let (next, range) = registry::allocate_sequences(&current.state, mdt, uuid, request.count)?;
        self.adopt(&mut current, next).await?;
        Ok(v1::AllocateSequencesResponse { first: range.first, count: request.count })
    }

    async fn do_change_pool(&self, request: v1::ChangePoolRequest) -> Result<ClusterMap, MgsError> {
        let change = match request.op() {
            v1::PoolOp::New => PoolChange::New,
            v1::PoolOp::Add => PoolChange::Add,
            v1::PoolOp::Remove => PoolChange::Remove,
            v1::PoolOp::Destroy => PoolChange::Destroy,
            v1::PoolOp::Unspecified => {
                return Err(BadMessage::UnknownEnum { field: "op", value: request.op }.into());
            }
        };
        if !ClusterMap::valid_pool(&request.pool) {
            return Err(BadMessage::Text { field: "pool", value: request.pool }.into());
        }
        let osts = request.osts.iter().map(|ost| Ok(OstIndex(index("osts", *ost)?)));
        let osts = osts.collect::<Result<Vec<_>, BadMessage>>()?;
        let mut current = self.core.current.lock().await;
        Self::check_fsname(&current.state, &request.fsname)?;
        let next = registry::change_pool(&current.state, change, &request.pool, &osts)?;
        self.adopt(&mut current, next).await?;
        Ok(current.state.map.clone())
    }

    async fn do_change_target(
        &self,
        request: v1::ChangeTargetRequest,
    ) -> Result<ClusterMap, MgsError> {
        let key = (TargetKind::try_from(request.kind())?, index("index", request.index)?);
        let no_create = required("no_create", request.no_create)?;
        let mut current = self.core.current.lock().await;
        Self::check_fsname(&current.state, &request.fsname)?;
        let next = registry::set_no_create(&current.state, key, no_create)?;
        self.adopt(&mut current, next).await?;
        Ok(current.state.map.clone())
    }

    async fn do_watch(&self, request: v1::WatchRequest) -> Result<MapStream, MgsError> {
        if !request.fsname.is_empty() {
            Self::check_fsname(&self.core.current.lock().await.state, &request.fsname)?;
        }
        let full = MgsError::Limit { what: "watchers", max: WATCHERS_MAX };
        let permit = Arc::clone(&self.core.watchers).try_acquire_owned().map_err(|_| full)?;
        let mut map = self.core.map.subscribe();
        map.mark_changed();
        let (tx, rx) = mpsc::channel(1);
        // Ends with the scope, so that a stopping server does not wait for its watchers.
        self.core.scope.spawn("map-stream", async move {
            while map.changed().await.is_ok() {
                let newest = ClusterMap::clone(&map.borrow_and_update());
                if tx.send(Ok(v1::WatchResponse { map: Some(newest.into()) })).await.is_err() {
                    break;
                }
            }
            drop(permit);
        });
        Ok(Box::pin(ReceiverStream::new(rx)))
    }
}

fn log_changes(before: &ClusterMap, after: &ClusterMap) {
    for (key, target) in &after.targets {
        let old = before.targets.get(key).map(|target| (target.state, target.epoch));
        if old != Some((target.state, target.epoch)) {
            let (kind, index) = key;
            tracing::info!(
                ?kind, index, state = ?target.state, epoch = target.epoch,
                addresses = ?target.addresses, map_version = after.version, "target changed"
            );
        }
    }
}

fn index(field: &'static str, value: u32) -> Result<u16, BadMessage> {
    u16::try_from(value).map_err(|_| BadMessage::Range { field, value: value.into() })
}

fn keys(targets: &[v1::TargetIdentity]) -> Result<Vec<TargetKey>, BadMessage> {
    if targets.len() > registry::SERVER_TARGETS_MAX {
        let value = u64::try_from(targets.len()).unwrap_or(u64::MAX);
        return Err(BadMessage::Range { field: "targets", value });
    }
    let key = |target: &v1::TargetIdentity| {
        Ok((TargetKind::try_from(target.kind())?, index("index", target.index)?))
    };
    targets.iter().map(key).collect()
}

fn answer<T>(operation: &'static str, result: Result<T, MgsError>) -> Result<Response<T>, Status> {
    let outcome = if result.is_ok() { "ok" } else { "error" };
    metrics::counter!("nacre_mgs_requests_total", "op" => operation, "outcome" => outcome)
        .increment(1);
    result.map(Response::new).map_err(|error| {
        tracing::info!(operation, error = %nacre_node::register::Chain(&error), "refused");
        to_status(&error)
    })
}

type MapStream =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

#[async_trait::async_trait]
impl Mgs for Service {
    type WatchStream = MapStream;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let map = self.do_register(request.into_inner()).await;
        answer("register", map.map(|map| v1::RegisterResponse { map: Some(map.into()) }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        answer("heartbeat", self.do_heartbeat(request.into_inner()).await)
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<MapStream>, Status> {
        answer("watch", self.do_watch(request.into_inner()).await)
    }

    async fn allocate_sequences(
        &self,
        request: Request<v1::AllocateSequencesRequest>,
    ) -> Result<Response<v1::AllocateSequencesResponse>, Status> {
        answer("allocate_sequences", self.do_allocate(request.into_inner()).await)
    }

    async fn change_pool(
        &self,
        request: Request<v1::ChangePoolRequest>,
    ) -> Result<Response<v1::ChangePoolResponse>, Status> {
        let map = self.do_change_pool(request.into_inner()).await;
        answer("change_pool", map.map(|map| v1::ChangePoolResponse { map: Some(map.into()) }))
    }

    async fn change_target(
        &self,
        request: Request<v1::ChangeTargetRequest>,
    ) -> Result<Response<v1::ChangeTargetResponse>, Status> {
        let map = self.do_change_target(request.into_inner()).await;
        answer("change_target", map.map(|map| v1::ChangeTargetResponse { map: Some(map.into()) }))
    }
}

/// Runs [`Service::expire`] for as long as the scope lives.
pub fn spawn_expiry(service: Service, scope: &Scope) {
    const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);
    scope.spawn("expiry", async move {
        let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = service.expire().await {
                let chain = nacre_node::register::Chain(&error);
                tracing::error!(error = %chain, "marking silent servers down");
            }
        }
    });
}
