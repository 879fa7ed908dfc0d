//! The cluster behind a mount.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{ClusterMap, Errno};
use nacre_node::net::Channel;
use nacre_node::{Net, Peers, Scope, TcpNet, mgc};
use nacre_proto::v1::mds_client::MdsClient;
use nacre_proto::v1::mgs_client::MgsClient;
use tokio::runtime::Runtime;

use super::error::LfsError;
use crate::mount::source::Source;
use crate::mount::table::{self, FS_TYPE, Mounted};

/// How long servers are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster that can be asked.
pub(crate) struct Cluster {
    pub(crate) source: Source,
    pub(crate) map: Arc<ClusterMap>,
    pub(crate) peers: Peers,
    runtime: Runtime,
    net: Arc<dyn Net>,
    _scope: Scope,
}

/// The Nacre mount that holds a path, and the path without links.
pub(crate) fn mount_of(path: &Path) -> Result<(Mounted, PathBuf), LfsError> {
    let full = path.canonicalize().map_err(|error| LfsError::at(path, error))?;
    let mounts = table::read().map_err(|error| LfsError::at(path, error))?;
    let depth = |mounted: &Mounted| mounted.target.components().count();
    let holding = mounts.into_iter().filter(|mounted| full.starts_with(&mounted.target));
    match holding.max_by_key(depth) {
        Some(mounted) if mounted.fs_type == FS_TYPE => Ok((mounted, full)),
        Some(_) | None => {
            let text = format!("{} is not on a Nacre file system", path.display());
            Err(LfsError::new(Errno::EOPNOTSUPP, text))
        }
    }
}

/// All Nacre mounts, each place once.
pub(crate) fn mounts() -> Result<Vec<Mounted>, LfsError> {
    let table = table::read().map_err(|error| LfsError::at(Path::new("/proc"), error))?;
    let mut mounts: Vec<Mounted> = table.into_iter().filter(|m| m.fs_type == FS_TYPE).collect();
    mounts.dedup_by(|a, b| a.target == b.target);
    Ok(mounts)
}

impl Cluster {
    /// Behind a mount.
    pub(crate) fn of_mount(mounted: &Mounted) -> Result<Self, LfsError> {
        let source = mounted.source.parse();
        let source = source.map_err(|error| LfsError::invalid(format!("mount source: {error}")))?;
        Self::connect(source)
    }

    /// Behind the mount that holds `path`.
    pub(crate) fn of_path(path: &Path) -> Result<Self, LfsError> {
        Self::of_mount(&mount_of(path)?.0)
    }

    /// Behind any mount of a file system.
    pub(crate) fn of_fsname(fsname: &str) -> Result<Self, LfsError> {
        let sources = mounts()?.into_iter().filter_map(|m| m.source.parse::<Source>().ok());
        let mut sources: Vec<Source> = sources.filter(|source| source.fsname == fsname).collect();
        // One cluster may be mounted at many places; of two with one name neither is meant.
        sources.dedup_by(|a, b| a.mgs == b.mgs);
        let text = match sources.len() {
            0 => format!("file system `{fsname}` is not mounted here"),
            1 => return Self::connect(sources.swap_remove(0)),
            _ => format!("several file systems called `{fsname}` are mounted here: name a mount"),
        };
        Err(LfsError::new(Errno::ENODEV, text))
    }

    fn connect(source: Source) -> Result<Self, LfsError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| LfsError::at(Path::new("runtime"), error))?;
        let net: Arc<dyn Net> = Arc::new(TcpNet);
        let scope = Scope::new();
        let map = runtime.block_on(async {
            let (net, mgs) = (Arc::clone(&net), source.mgs.clone());
            let mut watch = mgc::watch(net, mgs, source.fsname.clone(), &scope);
            let waiting = watch.wait_for(Option::is_some);
            let arrived = tokio::time::timeout(PATIENCE, waiting).await;
            let map = arrived.ok().and_then(Result::ok).and_then(|map| map.clone());
            map.map(|map| (map, watch))
        });
        let Some((map, watch)) = map else {
            let text = format!("no answer from the MGS at {}", source.mgs.join(","));
            return Err(LfsError::new(Errno::ETIMEDOUT, text));
        };
        let peers = Peers::new(Arc::clone(&net), watch);
        Ok(Self { source, map, peers, runtime, net, _scope: scope })
    }

    /// Runs a call of the MGS.
    pub(crate) fn mgs<T>(
        &self,
        call: impl AsyncFn(MgsClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, LfsError> {
        let mut last = LfsError::new(Errno::ETIMEDOUT, "no MGS");
        for address in &self.source.mgs {
            // Channels belong to the runtime that they were made in.
            let client = self
                .enter(|| mgc::client(&self.net, address))
                .map_err(|error| LfsError::invalid(format!("{address}: {error}")))?;
            match self.limited(&format!("MGS {address}"), call(client)) {
                Ok(answer) => return Ok(answer),
                // Another MGS of the list may be the living one.
                Err(error) if error.errno() == Errno::ETIMEDOUT => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Runs a call of the MDS.
    pub(crate) fn mds<T>(
        &self,
        call: impl AsyncFnOnce(MdsClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, LfsError> {
        let client = self.enter(|| self.peers.mds());
        let client = client.map_err(|error| LfsError::new(Errno::EIO, error.to_string()))?;
        self.limited("MDS", call(client))
    }

    /// Waits for an answer, but not for ever.
    pub(crate) fn limited<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, LfsError> {
        self.runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, call).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) => Err(LfsError::remote(what, &status)),
                Err(_) => Err(LfsError::new(Errno::ETIMEDOUT, what)),
            }
        })
    }

    /// Runs something that needs the runtime.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _guard = self.runtime.enter();
        work()
    }
}
