//! A whole file system inside this process, over a network that a test can cut: MGS, MDS, OSS
//! and clients.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nacre_client::{Client, ClientConfig};
use nacre_mds::MdsConfig;
use nacre_mds::store::{MemStore, MetaStore};
use nacre_model::map::Deployment;
use nacre_node::tasks::Blocking;
use nacre_node::{Disk, FolderKind, Identity, Net, OsDisk, Scope, SystemClock};
use nacre_oss::{OssConfig, OstFolder, Server};
use tempfile::TempDir;

use crate::local_net::LocalNet;

const FSNAME: &str = "nacre";
const MGS: &str = "10.0.0.1:7400";
const MDS: &str = "10.0.0.2:7400";
/// For what happens in a moment, on a machine that is busy with something else.
const SOON: Duration = Duration::from_secs(20);

/// A running file system. Servers end with it.
pub struct Cluster {
    /// Its network, to cut.
    pub net: LocalNet,
    folder: TempDir,
    mds_identity: Identity,
    mds_store: Arc<dyn MetaStore>,
    mds: Option<Running>,
    osts: Vec<Ost>,
    mgs: Running,
    clients: Scope,
}

struct Ost {
    identity: Identity,
    running: Option<Running>,
    boots: u64,
}

impl Cluster {
    /// With so many OSTs, each of an OSS of its own.
    pub async fn start(osts: u16) -> Result<Self> {
        let net = LocalNet::default();
        let config = nacre_mgs::Config {
            fsname: FSNAME.to_owned(),
            deployment: Deployment::Scratch,
            listen: MGS.to_owned(),
            net: Arc::new(net.clone()),
            store: Arc::new(nacre_mgs::store::MemStore::default()),
            blocking: Blocking::Inline,
        };
        let mgs = Running::start("mgs", |scope| nacre_mgs::run(config, scope));
        let identity = |kind, index| Identity::new(kind, FSNAME, index, vec![MGS.to_owned()]);
        let ost =
            |index| Ost { identity: identity(FolderKind::Ost, index), running: None, boots: 0 };
        let mut cluster = Self {
            net,
            folder: tempfile::tempdir()?,
            mds_identity: identity(FolderKind::Mdt, 0),
            mds_store: Arc::new(MemStore::default()),
            mds: None,
            osts: (0..osts).map(ost).collect(),
            mgs,
            clients: Scope::new(),
        };
        cluster.start_mds()?;
        for index in 0..osts {
            cluster.start_ost(index).await?;
        }
        cluster.wait_for_osts(osts).await?;
        Ok(cluster)
    }

    /// Where an OST's server is.
    pub fn ost_address(index: u16) -> String {
        format!("10.0.1.{index}:7400")
    }

    /// Where the MDS is.
    pub fn mds_address() -> &'static str {
        MDS
    }

    fn disk(&self, name: &str) -> Result<Arc<dyn Disk>> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Arc::new(OsDisk::new(folder)))
    }

    /// Starts the MDS, with what it had before.
    pub fn start_mds(&mut self) -> Result<()> {
        let config = MdsConfig::new(
            self.mds_identity.clone(),
            MDS,
            Arc::new(self.net.clone()),
            Arc::new(SystemClock),
            self.disk("mdt")?,
            Arc::clone(&self.mds_store),
        );
        self.mds = Some(Running::start("mds", |scope| nacre_mds::run(config, scope)));
        Ok(())
    }

    /// Cuts the MDS's connections and stops it.
    pub async fn kill_mds(&mut self) {
        self.net.kill(MDS);
        if let Some(mds) = self.mds.take() {
            mds.stop().await;
        }
    }

    /// Starts an OST, with what it had before.
    pub async fn start_ost(&mut self, index: u16) -> Result<()> {
        let disk = self.disk(&format!("ost{index}"))?;
        let ost = self.osts.get_mut(usize::from(index)).context("no such ost")?;
        ost.boots += 1;
        let address = Self::ost_address(index);
        let net: Arc<dyn Net> = Arc::new(self.net.clone());
        let mut config = OssConfig::new(&address, net, Arc::new(SystemClock), ost.boots);
        config.osts.push(OstFolder { identity: ost.identity.clone(), disk });
        let server = Server::bind(config).await?;
        ost.running = Some(Running::start("oss", |scope| server.serve(scope)));
        Ok(())
    }

    /// Cuts an OST's connections and stops it.
    pub async fn kill_ost(&mut self, index: u16) {
        self.net.kill(&Self::ost_address(index));
        let ost = self.osts.get_mut(usize::from(index));
        if let Some(oss) = ost.and_then(|ost| ost.running.take()) {
            oss.stop().await;
        }
    }

    /// A client with the default settings.
    pub async fn client(&self) -> Result<Client> {
        self.client_with(|_| ()).await
    }

    /// A client with other settings.
    pub async fn client_with(&self, change: impl FnOnce(&mut ClientConfig)) -> Result<Client> {
        let mut config = ClientConfig::new(
            Arc::new(self.net.clone()),
            Arc::new(SystemClock),
            self.clients.child(),
            vec![MGS.to_owned()],
            FSNAME,
        );
        change(&mut config);
        Ok(Client::connect(config).await?)
    }

    /// Waits until the MDS can use so many OSTs.
    pub async fn wait_for_osts(&self, count: u16) -> Result<()> {
        let client = self.client().await?;
        let ready = async {
            loop {
                let space = client.statfs().await?;
                if space.osts.iter().filter(|ost| ost.up).count() >= usize::from(count) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, ready).await.context("osts are not up")?
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.clients.join().await;
        for index in 0..self.osts.len() {
            self.kill_ost(u16::try_from(index).unwrap_or(0)).await;
        }
        self.kill_mds().await;
        self.net.kill(MGS);
        self.mgs.stop().await;
    }
}

/// A server as it runs: its tasks, and the one that waits for them all.
struct Running {
    scope: Scope,
    server: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start<E, F>(name: &'static str, server: impl FnOnce(Scope) -> F) -> Self
    where
        E: std::error::Error + Send,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let scope = Scope::new();
        let server = server(scope.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(name, %error, "server ended");
            }
        });
        Self { scope, server }
    }

    async fn stop(self) {
        self.scope.join().await;
        if let Err(error) = self.server.await {
            tracing::error!(%error, "server panicked");
        }
    }
}
