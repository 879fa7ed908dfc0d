//! A metadata server as a process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::Timestamp;
use nacre_node::net::{self, Net};
use nacre_node::register::{self, JoinError, TargetId};
use nacre_node::tasks::Blocking;
use nacre_node::{Clock, Disk, Identity, MapWatch, Membership, Peers, Scope, mgc};
use nacre_proto::MESSAGE_BYTES_MAX;
use nacre_proto::v1::mds_server::MdsServer;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::service::Routes;

use crate::command::{Command, Op};
use crate::coordinator::Coordinator;
use crate::cuts::{self, Cuts};
use crate::engine::{Applier, Engine, EngineConfig, EngineError, OpenError, Poison};
use crate::error::Refusal;
use crate::fences::{self, Fences};
use crate::format::{self, Format, FormatError};
use crate::leases::LeaseTable;
use crate::locks::LockTable;
use crate::machine::Machine;
use crate::namespace::{INLINE_BYTES_MAX, NsError, read};
use crate::opens::OpenTable;
use crate::osts::Osts;
use crate::placement::Placer;
use crate::promotions::Promotions;
use crate::sequences::{self, Asker};
use crate::service::{self, Service};
use crate::session::SessionTable;
use crate::shared::{MdtSpace, Shared};
use crate::store::{MetaStore, View};
use crate::sweeps::Sweeps;
use crate::worker;

/// How long a client may be silent, unless it is said otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(10);
/// Between two listings of a linked bucket.
const SWEEP_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// Between two looks at the free space of the disk.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Requests in flight when the server is asked to stop have so long to end.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Between two looks for the first fids.
const STOCK_PAUSE: Duration = Duration::from_millis(10);
/// More fids than the end of the log can have given out that a loss of power takes: it is on the
/// disk after a tenth of a second.
const FIDS_SKIPPED: u32 = 1 << 20;
/// Orphans read from the store at a time.
const ORPHANS_PAGE: usize = 4096;

/// What an MDS is run with.
pub struct MdsConfig {
    /// Name of the process, for people.
    pub server: String,
    /// Of the MDT's folder.
    pub identity: Identity,
    /// `host:port` to listen on.
    pub listen: String,
    /// What peers are told, `host:port`; empty: the address listened on.
    pub advertise: Vec<String>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// Where time stamps come from.
    pub clock: Arc<dyn Clock>,
    /// The MDT's folder, where log and snapshots are.
    pub disk: Arc<dyn Disk>,
    /// The store, which may be empty.
    pub store: Arc<dyn MetaStore>,
    /// Where disk calls run.
    pub blocking: Blocking,
    /// Where commands are carried out.
    pub applier: Applier,
    /// How long a client may be silent before it is evicted.
    pub lease: Duration,
    /// Bytes of a file that live in its inode, at most [`INLINE_BYTES_MAX`].
    pub inline_max: u32,
    /// Whoever changes the names of a directory, and is alone on it, has it exclusively.
    pub exclusive_directories: bool,
    /// Between two listings of a repository's bucket.
    pub sweep_interval: Duration,
    /// Of everything random: boot id, placement, the name hash of a new file system.
    pub seed: [u8; 32],
    /// The cluster map, from elsewhere than the MGS; for tests.
    pub map: Option<MapWatch>,
}

impl MdsConfig {
    /// With the usual lease, threads and a random seed.
    pub fn new(
        identity: Identity,
        listen: &str,
        net: Arc<dyn Net>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        store: Arc<dyn MetaStore>,
    ) -> Self {
        Self {
            server: "mds".to_owned(),
            identity,
            listen: listen.to_owned(),
            advertise: Vec::new(),
            net,
            clock,
            disk,
            store,
            blocking: Blocking::threads(4),
            applier: Applier::Thread,
            lease: LEASE_DEFAULT,
            inline_max: INLINE_BYTES_MAX,
            exclusive_directories: false,
            sweep_interval: SWEEP_INTERVAL_DEFAULT,
            seed: rand::random(),
            map: None,
        }
    }
}

/// Why an MDS does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder is not an MDT's.
    #[error("format")]
    Format(#[from] FormatError),
    /// Log, snapshot or store cannot be read.
    #[error("open")]
    Open(#[from] OpenError<Refusal>),
    /// The metadata cannot be read.
    #[error("metadata")]
    Namespace(#[from] NsError),
    /// The address is taken, or not ours.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log takes nothing.
    #[error("log")]
    Engine(#[from] EngineError<Refusal>),
    /// The MGS does not let it in.
    #[error("join")]
    Join(#[from] JoinError),
    /// Serving broke.
    #[error("serve")]
    Serve(#[from] tonic::transport::Error),
    /// Log or store failed while serving; a restart reads them again.
    #[error("serve")]
    Failed(#[source] Arc<Poison>),
}

/// Serves until the scope stops, then finishes what was begun and makes it durable.
pub async fn run(config: MdsConfig, scope: Scope) -> Result<(), RunError> {
    let mut random = StdRng::from_seed(config.seed);
    let fresh = Format { hash_key: [random.random(), random.random()], born: config.clock.now() };
    let (disk, store) = (Arc::clone(&config.disk), Arc::clone(&config.store));
    let fsname = config.identity.fsname.clone();
    let prepare = move || format::prepare(&*disk, &*store, &fsname, fresh);
    config.blocking.run(prepare).await?;

    // Stops last: whoever submits must find it.
    let engine_scope = Scope::new();
    let mut engine_config = EngineConfig::new(
        Arc::clone(&config.disk),
        Arc::clone(&config.store),
        config.blocking.clone(),
        engine_scope.clone(),
    );
    engine_config.applier = config.applier;
    let engine = Engine::open(engine_config, Machine).await?;
    skip_fids(&config, &engine).await?;
    // Of its own, so that its end can be waited for here.
    let own = Scope::new();
    let (outer, inner) = (scope, own.clone());
    own.spawn("stop", async move {
        outer.stopped().await;
        inner.stop();
    });
    let served = serve(config, random, engine, &own).await;
    own.join().await;
    engine_scope.join().await;
    served
}

async fn serve(
    config: MdsConfig,
    random: StdRng,
    engine: Engine<Machine>,
    scope: &Scope,
) -> Result<(), RunError> {
    let address = config.listen.clone();
    let listen_error = |source| RunError::Listen { address: address.clone(), source };
    let listener = config.net.listen(&address).await.map_err(listen_error)?;
    let local = listener.local_addr().map_err(listen_error)?;
    let shared = shared(&config, random, engine, scope)?;
    service::hsm::recover(&shared)?;
    let (boot_id, name) = (shared.boot_id, config.identity.name());
    tracing::info!(address = %local, mdt = %name, boot_id, "mds ready");

    start(&shared, &config, scope);
    let service = MdsServer::new(Service::new(Arc::clone(&shared)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    // Served from the first moment: a client that knows the address need not wait for the MGS.
    let serving = net::serve(listener, Routes::new(service), scope.clone());
    let serving = async {
        tokio::select! {
            served = serving => served,
            () = drain(&shared, scope) => Ok(()),
        }
    };
    let joining = async {
        let advertise = match config.advertise.as_slice() {
            [] => vec![local.to_string()],
            given => given.to_vec(),
        };
        match join(&config, advertise, boot_id, scope).await {
            Ok(()) => {
                stocked(&shared, &config, scope).await;
                nacre_node::telemetry::set_ready(true);
            }
            Err(error) => {
                scope.stop();
                return Err(error);
            }
        }
        Ok(())
    };
    let failing = async {
        tokio::select! {
            () = scope.stopped() => Ok(()),
            cause = shared.engine.failed() => {
                scope.stop();
                Err(RunError::Failed(cause))
            }
        }
    };
    let (served, joined, failed) = tokio::join!(serving, joining, failing);
    failed.and(joined).and(served.map_err(RunError::from))
}

/// A fid whose inode was lost with the end of the log may be known to clients, and its objects may
/// hold data: whoever were given it again would share both.
async fn skip_fids(config: &MdsConfig, engine: &Engine<Machine>) -> Result<(), RunError> {
    if read::statistics(engine.view())?.fids_left == 0 {
        return Ok(());
    }
    let op = Op::SkipFids { count: FIDS_SKIPPED };
    let command = Command { time: config.clock.now(), origin: None, op };
    // On the disk before the next one is given out, or the same would be skipped the next time.
    engine.submit(command, true).await?;
    Ok(())
}

/// Waits until files can be made.
async fn stocked(shared: &Shared, config: &MdsConfig, scope: &Scope) {
    let empty = || read::statistics(shared.view()).is_ok_and(|counts| counts.fids_left == 0);
    while !config.identity.mgs_nodes.is_empty() && empty() && !scope.is_stopped() {
        tokio::time::sleep(STOCK_PAUSE).await;
    }
}

/// Ends the streams, which would keep connections open for ever, and returns when clients have had
/// their time to take the last answers.
async fn drain(shared: &Shared, scope: &Scope) {
    scope.stopped().await;
    shared.streams.lock().clear();
    tokio::time::sleep(DRAIN_MAX).await;
    tracing::info!("clients have not let go of their connections, cutting them");
}

fn shared(
    config: &MdsConfig,
    mut random: StdRng,
    engine: Engine<Machine>,
    scope: &Scope,
) -> Result<Arc<Shared>, RunError> {
    let view = engine.view();
    let durable = read::sessions(view)?;
    let waits = durable.iter().any(|(_, session)| session.leases);
    let sessions = SessionTable::new(config.lease, durable.into_iter().map(|(id, _)| id));
    let leases = LeaseTable::new(lease_numbers(config.clock.now()), waits);
    let opens = orphans(view)?;
    let cuts = Cuts::load(view)?;
    let map = if let Some(map) = &config.map {
        map.clone()
    } else {
        let nodes = config.identity.mgs_nodes.clone();
        let fsname = config.identity.fsname.clone();
        mgc::watch(Arc::clone(&config.net), nodes, fsname, scope)
    };
    let peers = Peers::new(Arc::clone(&config.net), map);
    Ok(Arc::new(Shared {
        clock: Arc::clone(&config.clock),
        fsname: config.identity.fsname.clone(),
        boot_id: random.random(),
        lease: config.lease,
        inline_max: config.inline_max.min(INLINE_BYTES_MAX),
        sessions: Mutex::new(sessions),
        opens: Mutex::new(opens),
        left: Notify::new(),
        locks: Mutex::new(LockTable::recovering()),
        leases: Mutex::new(leases),
        returned: Notify::new(),
        exclusive_directories: config.exclusive_directories,
        streams: Mutex::default(),
        placer: Mutex::new(Placer::new(random)),
        osts: Osts::new(peers),
        cuts,
        promotions: Promotions::default(),
        fences: Fences::default(),
        hsm: Coordinator::default(),
        sweeps: Sweeps::default(),
        sweep_interval: config.sweep_interval,
        work: Notify::new(),
        space: MdtSpace::default(),
        scope: scope.clone(),
        started: Instant::now(),
        engine,
    }))
}

/// Where the numbers of leases begin: above those of the last life, which gave fewer than one in
/// a nanosecond.
fn lease_numbers(now: Timestamp) -> u64 {
    let secs = u64::try_from(now.secs).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(now.nanos.into())
}

/// An open table in which the orphans of the last life wait for those who may have them open.
fn orphans(view: &dyn View) -> Result<OpenTable, NsError> {
    let mut opens = OpenTable::recovering();
    let mut after = None;
    loop {
        let page = read::orphans(view, after, ORPHANS_PAGE)?;
        let Some(last) = page.last() else { return Ok(opens) };
        after = Some(*last);
        for fid in page {
            // Nothing is reaped while recovering.
            let none = opens.orphaned(fid);
            debug_assert_eq!(none, None, "the table is recovering");
        }
    }
}

fn start(shared: &Arc<Shared>, config: &MdsConfig, scope: &Scope) {
    let asker = Asker {
        net: Arc::clone(&config.net),
        mgs_nodes: config.identity.mgs_nodes.clone(),
        index: config.identity.index,
        uuid: config.identity.uuid.clone(),
    };
    sequences::start(shared, asker, scope);
    shared.osts.start(scope);
    service::evict::start(shared, scope);
    worker::start(shared, scope);
    cuts::start(shared, scope);
    fences::start(shared, scope);
    let (own, disk, blocking) =
        (Arc::clone(shared), Arc::clone(&config.disk), config.blocking.clone());
    scope.spawn("mdt-space", async move {
        loop {
            let disk = Arc::clone(&disk);
            match blocking.run(move || disk.space()).await {
                Ok(space) => own.space.set(space.bytes_total, space.bytes_available),
                Err(error) => tracing::warn!(%error, "free space of the mdt is not known"),
            }
            tokio::time::sleep(SPACE_INTERVAL).await;
        }
    });
}

/// Brings the MDT into the map.
async fn join(
    config: &MdsConfig,
    addresses: Vec<String>,
    boot_id: u64,
    scope: &Scope,
) -> Result<(), RunError> {
    if config.identity.mgs_nodes.is_empty() {
        return Ok(());
    }
    let member = Membership {
        mgs_nodes: config.identity.mgs_nodes.clone(),
        fsname: config.identity.fsname.clone(),
        server: config.server.clone(),
        addresses,
        targets: TargetId::of(&config.identity).into_iter().collect(),
        boot_id,
    };
    match register::join(Arc::clone(&config.net), member, scope).await {
        // The map is followed already.
        Ok(_) | Err(JoinError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
