//! What a client is told at its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nacre_node::{Clock, Net, Scope};

use crate::Journal;

/// Settings of one mount. [`ClientConfig::new`] fills in the defaults.
#[derive(Clone)]
pub struct ClientConfig {
    /// The network.
    pub net: Arc<dyn Net>,
    /// The wall clock: stamps written data.
    pub clock: Arc<dyn Clock>,
    /// Owns the client's tasks; stopping it ends them.
    pub scope: Scope,
    /// MGS addresses, `host:port`, tried in turn.
    pub mgs: Vec<String>,
    /// Name of the file system.
    pub fsname: String,
    /// Mount this folder instead of the root, as a path without leading slash; empty: the root.
    pub subdir: Vec<u8>,
    /// Identity of this mount, fresh at each one.
    pub client_uuid: String,
    /// What another process needs to go on with this mount; by itself it keeps nothing. One that
    /// keeps something also says who this mount is.
    pub journal: Journal,
    /// Name of this host, for people.
    pub hostname: String,
    /// Refuse every change with EROFS.
    pub read_only: bool,
    /// When reads change the access time.
    pub atime: AtimePolicy,
    /// Keep what the server grants leases on. Without it everything is asked for each time.
    pub leases: bool,
    /// Closing a file waits until its data is with the servers.
    pub sync_on_close: bool,
    /// How long an operation waits for a metadata server that does not answer before it fails
    /// with ETIMEDOUT.
    pub mds_deadline: Duration,
    /// How long [`crate::Client::connect`] waits for MGS and MDS.
    pub connect_deadline: Duration,
    /// How long one request to an object server may take before it fails with EIO. A server that
    /// is dead or silent is noticed much sooner, by its connection.
    pub ost_deadline: Duration,
    /// Most bytes written by applications and not yet answered by an OST or the MDS.
    pub dirty_bytes_max: u32,
    /// Most bytes answered by an OST but not committed that are kept to be sent again.
    pub retained_bytes_max: u64,
    /// Most bytes fetched ahead of readers, over all files.
    pub readahead_bytes_max: u32,
    /// Most bytes fetched ahead of one reader.
    pub readahead_window_bytes: u64,
    /// Bytes of one object read or write; at most 4 MiB.
    pub rpc_bytes: u64,
}

/// When reads change the access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtimePolicy {
    /// If it is older than the last change, or than a day.
    #[default]
    Relatime,
    /// Never.
    Noatime,
    /// Always.
    Strictatime,
}

impl ClientConfig {
    /// The defaults, for a real machine's network and clock.
    pub fn new(
        net: Arc<dyn Net>,
        clock: Arc<dyn Clock>,
        scope: Scope,
        mgs: Vec<String>,
        fsname: impl Into<String>,
    ) -> Self {
        Self {
            net,
            clock,
            scope,
            mgs,
            fsname: fsname.into(),
            subdir: Vec::new(),
            client_uuid: uuid::Uuid::new_v4().to_string(),
            journal: Journal::default(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            read_only: false,
            atime: AtimePolicy::Relatime,
            leases: true,
            sync_on_close: false,
            mds_deadline: Duration::from_secs(120),
            connect_deadline: Duration::from_secs(60),
            ost_deadline: Duration::from_secs(60),
            dirty_bytes_max: 64 << 20,
            retained_bytes_max: 64 << 20,
            readahead_bytes_max: 64 << 20,
            readahead_window_bytes: 16 << 20,
            rpc_bytes: 1 << 20,
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("mgs", &self.mgs)
            .field("fsname", &self.fsname)
            .field("client_uuid", &self.client_uuid)
            .finish_non_exhaustive()
    }
}
