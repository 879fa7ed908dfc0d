//! The MGS's client: keeps the cluster map current.

use std::sync::Arc;
use std::time::Duration;

use nacre_model::ClusterMap;
use nacre_proto::v1;
use nacre_proto::v1::mgs_client::MgsClient;
use tokio::sync::watch;

use crate::net::{self, Channel, Net};
use crate::tasks::Scope;

/// The newest map that this process has; `None` until the first arrives.
pub type MapWatch = watch::Receiver<Option<Arc<ClusterMap>>>;

/// Time between attempts while no MGS answers.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A client of the MGS at one address.
pub fn client(net: &Arc<dyn Net>, address: &str) -> Result<MgsClient<Channel>, MgcError> {
    Ok(MgsClient::new(net::channel(net, address)?))
}

/// Why the MGS cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum MgcError {
    /// Not `host:port`.
    #[error("mgs address")]
    Address(#[from] tonic::transport::Error),
    /// The MGS answered something that no MGS answers.
    #[error("mgs sent a bad map")]
    BadMap(#[from] nacre_proto::convert::BadMessage),
    /// The call did not get through.
    #[error("mgs call")]
    Call(#[from] Box<tonic::Status>),
}

/// Follows the map of `fsname` for as long as the scope lives, trying all addresses in turn.
///
/// A lost MGS leaves the last map in force. Older versions are ignored.
pub fn watch(net: Arc<dyn Net>, addresses: Vec<String>, fsname: String, scope: &Scope) -> MapWatch {
    let (tx, rx) = watch::channel(None);
    scope.spawn("map-watch", async move {
        let mut silent = false;
        for address in addresses.iter().cycle() {
            if let Err(error) = follow(&net, address, &fsname, &tx, &mut silent).await
                && !silent
            {
                tracing::info!(mgs = %address, %error, "no cluster map from this mgs, trying on");
                silent = true;
            }
            if tx.is_closed() {
                return;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    });
    rx
}

async fn follow(
    net: &Arc<dyn Net>,
    address: &str,
    fsname: &str,
    tx: &watch::Sender<Option<Arc<ClusterMap>>>,
    silent: &mut bool,
) -> Result<(), MgcError> {
    let mut client = client(net, address)?;
    let request = v1::WatchRequest { fsname: fsname.to_owned() };
    let mut stream = client.watch(request).await.map_err(Box::new)?.into_inner();
    while let Some(response) = stream.message().await.map_err(Box::new)? {
        *silent = false;
        let wire = nacre_proto::convert::required("map", response.map)?;
        let map = ClusterMap::try_from(wire)?;
        tx.send_if_modified(|current| {
            let newer = current.as_ref().is_none_or(|current| current.version < map.version);
            if newer {
                *current = Some(Arc::new(map));
            }
            newer
        });
    }
    Ok(())
}
