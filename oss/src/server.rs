//! An object storage server as a process: several OSTs, one address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{OstIndex, TargetKind};
use nacre_node::net::{self, Listener, Net};
use nacre_node::register::{self, JoinError, TargetId};
use nacre_node::tasks::Blocking;
use nacre_node::{Clock, Disk, FolderKind, Identity, MapWatch, Membership, Scope};
use nacre_proto::MESSAGE_BYTES_MAX;
use nacre_proto::v1::oss_server::OssServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tonic::service::Routes;

use crate::error::OssError;
use crate::fences::Fences;
use crate::object::{ObjectStore, StoreOptions};
use crate::service::{Ost, Osts, Service};
use crate::upkeep;

/// Open files that are left to connections, logs and the rest.
const FILES_BESIDE: usize = 512;
const FILES_PER_OBJECT: usize = 2;

/// What an OSS is run with.
pub struct OssConfig {
    /// Name of the process, for people.
    pub server: String,
    /// `host:port` to listen on.
    pub listen: String,
    /// What peers are told, `host:port`; empty: the address listened on.
    pub advertise: Vec<String>,
    /// The OSTs; one at least, all of one file system.
    pub osts: Vec<OstFolder>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// Where time stamps come from.
    pub clock: Arc<dyn Clock>,
    /// Where disk calls run: for each OST so many threads of its own, so that a slow disk keeps
    /// nobody else waiting. `None`: in place, for a simulator.
    pub io_threads: Option<u16>,
    /// Fresh at each start of the process.
    pub boot_id: u64,
    /// How often what is in doubt is made clean.
    pub clean_interval: Duration,
    /// Bytes a second that the scrub verifies on each OST; `None`: no scrub.
    pub scrub_bytes_per_second: Option<u64>,
}

/// One OST's folder.
pub struct OstFolder {
    /// Of the folder.
    pub identity: Identity,
    /// The folder.
    pub disk: Arc<dyn Disk>,
}

impl OssConfig {
    /// With the usual threads and intervals, and no scrub.
    pub fn new(listen: &str, net: Arc<dyn Net>, clock: Arc<dyn Clock>, boot_id: u64) -> Self {
        Self {
            server: "oss".to_owned(),
            listen: listen.to_owned(),
            advertise: Vec::new(),
            osts: Vec::new(),
            net,
            clock,
            io_threads: Some(16),
            boot_id,
            clean_interval: Duration::from_secs(5),
            scrub_bytes_per_second: None,
        }
    }
}

/// Why an OSS does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing to serve.
    #[error("no ost folder was given")]
    NoOst,
    /// A folder that does not belong here.
    #[error("{0} is not an ost of the same file system as the others")]
    Misplaced(String),
    /// Two folders claim to be the same OST.
    #[error("{0} was given twice")]
    Twice(String),
    /// An OST cannot be opened.
    #[error("open {ost}")]
    Open {
        /// Which.
        ost: String,
        /// Why.
        #[source]
        source: OssError,
    },
    /// The address is taken, or not ours.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The MGS does not let it in.
    #[error("join")]
    Join(#[from] JoinError),
    /// Serving broke.
    #[error("serve")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until the scope stops, then makes everything clean. Registers with the MGS if the
/// folders name one.
pub async fn run(config: OssConfig, scope: Scope) -> Result<(), RunError> {
    Server::bind(config).await?.serve(scope).await
}

/// An OSS that listens already, and does not serve yet.
pub struct Server {
    config: OssConfig,
    first: Identity,
    osts: Osts,
    listener: Box<dyn Listener>,
    local: SocketAddr,
}

impl Server {
    /// Opens the OSTs and listens.
    pub async fn bind(config: OssConfig) -> Result<Self, RunError> {
        let first = config.osts.first().ok_or(RunError::NoOst)?.identity.clone();
        let osts = open(&config, &first.fsname).await?;
        let address = config.listen.clone();
        let listen_error = |source| RunError::Listen { address: address.clone(), source };
        let listener = config.net.listen(&address).await.map_err(listen_error)?;
        let local = listener.local_addr().map_err(listen_error)?;
        Ok(Self { config, first, osts, listener, local })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The OSTs, to look at.
    pub fn osts(&self) -> Osts {
        self.osts.clone()
    }

    /// See [`run`].
    pub async fn serve(self, scope: Scope) -> Result<(), RunError> {
        let Self { config, first, osts, listener, local } = self;
        tracing::info!(address = %local, fsname = %first.fsname, osts = osts.0.len(), "oss ready");
        upkeep::start(&osts, config.clean_interval, config.scrub_bytes_per_second, &scope);

        // Served from the first moment: who knows the address need not wait for the MGS.
        let service = OssServer::new(Service::new(osts.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let serving = net::serve(listener, Routes::new(service), scope.clone());
        let result = if first.mgs_nodes.is_empty() {
            serving.await.map_err(RunError::from)
        } else {
            let advertise = match config.advertise.as_slice() {
                [] => vec![local.to_string()],
                given => given.to_vec(),
            };
            let member = membership(&config, &first, advertise);
            let joining = join(config.net, member, osts.clone(), scope.clone());
            let (served, joined) = tokio::join!(serving, joining);
            joined.and(served.map_err(RunError::from))
        };
        upkeep::close(&osts).await;
        result
    }
}

async fn open(config: &OssConfig, fsname: &str) -> Result<Osts, RunError> {
    let mut osts = BTreeMap::new();
    for OstFolder { identity, disk } in &config.osts {
        let name = identity.name();
        if identity.kind != FolderKind::Ost || identity.fsname != fsname {
            return Err(RunError::Misplaced(name));
        }
        let index = OstIndex(identity.index);
        let blocking = match config.io_threads {
            Some(threads) => Blocking::threads(threads.max(1).into()),
            None => Blocking::Inline,
        };
        let (disk, clock) = (Arc::clone(disk), Arc::clone(&config.clock));
        let mut options = StoreOptions::new(index, config.boot_id);
        if config.io_threads.is_some() {
            options.objects_max = objects_max(config.osts.len()).min(options.objects_max);
        }
        let open = move || {
            let fences = Fences::open(&*disk)?;
            Ok((ObjectStore::open(disk, clock, options)?, fences))
        };
        let opened = blocking.run(open).await;
        let (store, fences) =
            opened.map_err(|source| RunError::Open { ost: name.clone(), source })?;
        let ost = Ost { store: Arc::new(store), blocking, fences: Arc::new(fences) };
        if osts.insert(index, ost).is_some() {
            return Err(RunError::Twice(name));
        }
    }
    Ok(Osts(Arc::new(osts)))
}

/// How many objects each OST may hold open; raises the process's limit of open files first, as
/// far as it goes.
fn objects_max(osts: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let limit = setrlimit(Resource::Nofile, raised).map_or(limit, |()| raised);
    let files =
        limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    files.saturating_sub(FILES_BESIDE) / FILES_PER_OBJECT / osts.max(1)
}

fn membership(config: &OssConfig, first: &Identity, addresses: Vec<String>) -> Membership {
    Membership {
        mgs_nodes: first.mgs_nodes.clone(),
        fsname: first.fsname.clone(),
        server: config.server.clone(),
        addresses,
        targets: config.osts.iter().filter_map(|ost| TargetId::of(&ost.identity)).collect(),
        boot_id: config.boot_id,
    }
}

/// Brings the OSTs into the map; stops the whole server if the MGS says no.
async fn join(
    net: Arc<dyn Net>,
    member: Membership,
    osts: Osts,
    scope: Scope,
) -> Result<(), RunError> {
    match register::join(net, member, &scope).await {
        Ok(map) => {
            scope.spawn("epochs", follow_epochs(map, osts));
            Ok(())
        }
        Err(JoinError::Stopped) => Ok(()),
        Err(error) => {
            scope.stop();
            Err(error.into())
        }
    }
}

/// Raises each OST's epoch to what the map says.
async fn follow_epochs(mut map: MapWatch, osts: Osts) {
    loop {
        if let Some(map) = map.borrow_and_update().as_ref() {
            for (index, ost) in osts.0.iter() {
                if let Some(target) = map.targets.get(&(TargetKind::Ost, index.0)) {
                    ost.store.raise_epoch(target.epoch);
                }
            }
        }
        if map.changed().await.is_err() {
            return;
        }
    }
}
