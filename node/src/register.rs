//! Membership: how a server brings its targets into the map and keeps them there.
//!
//! ```text
//! join ──► Register (any MGS of the list, until one answers) ──► Heartbeat every second
//!             ▲                                                     │ unknown
//!             '─────────────────────────────────────────────────────'
//! scope stops ──► Heartbeat{stopping}
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{Errno, Retry, TargetKind};
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::mgs_client::MgsClient;

use crate::identity::Identity;
use crate::mgc::{self, MapWatch, MgcError};
use crate::net::{Channel, Net};
use crate::tasks::Scope;

/// Time between heartbeats. The MGS calls a server dead after three of them are missing.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A call to the MGS that takes longer is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two rounds over all addresses.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// While no MGS answers, say so this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A server process and the targets it brings in.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Where the MGS may be.
    pub mgs_nodes: Vec<String>,
    /// The file system.
    pub fsname: String,
    /// Name of this process, for people.
    pub server: String,
    /// Where peers reach it, `host:port`, most preferred first.
    pub addresses: Vec<String>,
    /// What it serves.
    pub targets: Vec<TargetId>,
    /// Fresh at each start of the process.
    pub boot_id: u64,
}

/// One target, as it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetId {
    /// MDT or OST.
    pub kind: TargetKind,
    /// Index within the file system and kind.
    pub index: u16,
    /// Of its folder.
    pub uuid: String,
}

impl TargetId {
    /// The target in a folder; `None` for an MGS.
    pub fn of(identity: &Identity) -> Option<Self> {
        let kind = identity.kind.target()?;
        Some(Self { kind, index: identity.index, uuid: identity.uuid.clone() })
    }

    fn to_wire(&self) -> v1::TargetIdentity {
        v1::TargetIdentity {
            kind: v1::TargetKind::from(self.kind) as i32,
            index: self.index.into(),
            uuid: self.uuid.clone(),
        }
    }
}

/// Why a server is not let in. Silence of the MGS is none: that is waited out.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// An address in the list is none.
    #[error("mgs")]
    Mgc(#[from] MgcError),
    /// The MGS says no, and will say so again.
    #[error("the mgs at {mgs} refuses this server")]
    Refused {
        /// Which.
        mgs: String,
        /// Why.
        #[source]
        reason: RemoteError,
    },
    /// Asked to stop while waiting.
    #[error("stopped while waiting for an mgs")]
    Stopped,
}

/// Registers, waiting for an MGS as long as it takes, and then heartbeats until the scope stops.
///
/// Returns the watch of the map, which holds a map already in which the targets are.
///
/// # Errors
/// When the MGS refuses (another folder has this index, another file system), or when the scope
/// stops first.
pub async fn join(
    net: Arc<dyn Net>,
    member: Membership,
    scope: &Scope,
) -> Result<MapWatch, JoinError> {
    let mut link = Link::new(&net, member)?;
    let registered = tokio::select! {
        () = scope.stopped() => return Err(JoinError::Stopped),
        result = link.register() => result?,
    };
    let member = &link.member;
    tracing::info!(map_version = registered, addresses = ?member.addresses, "registered");
    let mut map = mgc::watch(net, member.mgs_nodes.clone(), member.fsname.clone(), scope);
    tokio::select! {
        () = scope.stopped() => return Err(JoinError::Stopped),
        _ = map.wait_for(|map| map.as_ref().is_some_and(|map| map.version >= registered)) => {}
    }
    let own = scope.clone();
    scope.spawn_to_end("heartbeat", async move { link.beat(&own).await });
    crate::telemetry::set_ready(true);
    Ok(map)
}

struct Link {
    member: Membership,
    clients: Vec<(String, MgsClient<Channel>)>,
    /// The one that answered last.
    current: usize,
}

impl Link {
    fn new(net: &Arc<dyn Net>, member: Membership) -> Result<Self, JoinError> {
        let mut clients = Vec::new();
        for address in &member.mgs_nodes {
            clients.push((address.clone(), mgc::client(net, address)?));
        }
        Ok(Self { member, clients, current: 0 })
    }

    /// Registers with whichever MGS answers; returns the map version it gave.
    async fn register(&mut self) -> Result<u64, JoinError> {
        let mut silence = Silence::default();
        loop {
            for turn in 0..self.clients.len() {
                let at = (self.current + turn) % self.clients.len();
                let Some((address, client)) = self.clients.get(at) else { continue };
                let request = v1::RegisterRequest {
                    fsname: self.member.fsname.clone(),
                    server: self.member.server.clone(),
                    addresses: self.member.addresses.clone(),
                    targets: self.wire_targets(),
                    boot_id: self.member.boot_id,
                };
                match call(client.clone().register(request)).await {
                    Ok(response) => {
                        self.current = at;
                        return Ok(response.map.map_or(0, |map| map.version));
                    }
                    Err(reason) if reason.retry == Retry::Never => {
                        return Err(JoinError::Refused { mgs: address.clone(), reason });
                    }
                    Err(reason) => silence.complain(&self.member.mgs_nodes, &reason),
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn beat(mut self, scope: &Scope) {
        loop {
            tokio::select! {
                () = scope.stopped() => break,
                () = tokio::time::sleep(HEARTBEAT_INTERVAL) => {}
            }
            let unknown = tokio::select! {
                () = scope.stopped() => break,
                unknown = self.heartbeat(false) => unknown,
            };
            if !unknown {
                continue;
            }
            tracing::info!("the mgs does not know this server, registering again");
            let result = tokio::select! {
                () = scope.stopped() => break,
                result = self.register() => result,
            };
            if let Err(error) = result {
                let chain = Chain(&error);
                tracing::error!(error = %chain, "the mgs does not let this server back in");
            }
        }
        self.heartbeat(true).await;
    }

    /// Tells the MGS; true when it asks for a registration.
    async fn heartbeat(&mut self, stopping: bool) -> bool {
        for turn in 0..self.clients.len() {
            let at = (self.current + turn) % self.clients.len();
            let Some((address, client)) = self.clients.get(at) else { continue };
            let request = v1::HeartbeatRequest {
                fsname: self.member.fsname.clone(),
                targets: self.wire_targets(),
                boot_id: self.member.boot_id,
                stopping,
            };
            match call(client.clone().heartbeat(request)).await {
                Ok(response) => {
                    self.current = at;
                    return response.unknown;
                }
                Err(error) => tracing::debug!(mgs = %address, %error, "heartbeat"),
            }
        }
        false
    }

    fn wire_targets(&self) -> Vec<v1::TargetIdentity> {
        self.member.targets.iter().map(TargetId::to_wire).collect()
    }
}

async fn call<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, RemoteError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(RemoteError {
            errno: Errno::ETIMEDOUT,
            retry: Retry::SameTarget,
            effect: nacre_model::Effect::Unknown,
            message: format!("no answer in {CALL_TIMEOUT:?}"),
        }),
    }
}

/// Says once, and then now and again, that nobody answers.
#[derive(Default)]
struct Silence {
    last: Option<tokio::time::Instant>,
}

impl Silence {
    fn complain(&mut self, nodes: &[String], reason: &RemoteError) {
        if self.last.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            tracing::info!(mgs = %nodes.join(","), %reason, "waiting for an mgs to answer");
            self.last = Some(tokio::time::Instant::now());
        }
    }
}

/// An error with its causes, in one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
