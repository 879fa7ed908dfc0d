//! The MGS as a process.

use std::io;
use std::sync::Arc;

use nacre_model::map::Deployment;
use nacre_node::Scope;
use nacre_node::net::{self, Net};
use nacre_node::tasks::Blocking;
use nacre_proto::v1::mgs_server::MgsServer;
use tonic::service::Routes;

use crate::error::MgsError;
use crate::service::{Service, spawn_expiry};
use crate::store::Store;

/// What an MGS is run with.
pub struct Config {
    /// The one file system it manages.
    pub fsname: String,
    /// What the cluster does when a server dies.
    pub deployment: Deployment,
    /// `host:port` to listen on.
    pub listen: String,
    /// The network.
    pub net: Arc<dyn Net>,
    /// Where its state is.
    pub store: Arc<dyn Store>,
    /// Where calls of the store run.
    pub blocking: Blocking,
}

/// Why an MGS does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Not built yet.
    #[error(
        "deployment type persistent is not supported yet: this version runs scratch file systems, \
         whose data is not replicated"
    )]
    Persistent,
    /// Its state cannot be opened.
    #[error("open")]
    Open(#[from] MgsError),
    /// The address is taken, or not ours.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Serving broke.
    #[error("serve")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until the scope stops.
pub async fn run(config: Config, scope: Scope) -> Result<(), RunError> {
    match config.deployment {
        Deployment::Scratch => {}
        Deployment::Persistent => return Err(RunError::Persistent),
    }
    let service =
        Service::open(&config.fsname, config.store, config.blocking, scope.clone()).await?;
    let address = config.listen;
    let listen_error = |source| RunError::Listen { address: address.clone(), source };
    let listener = config.net.listen(&address).await.map_err(listen_error)?;
    if let Ok(local) = listener.local_addr() {
        tracing::info!(address = %local, fsname = %config.fsname, "mgs ready");
    }
    spawn_expiry(service.clone(), &scope);
    nacre_node::telemetry::set_ready(true);
    net::serve(listener, Routes::new(MgsServer::new(service)), scope).await?;
    Ok(())
}
