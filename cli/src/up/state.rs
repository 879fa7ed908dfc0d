//! `DIR/cluster.json`: what `nacre up` made and runs, for the next `up`, `down` and `status`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::process::start_time;

/// The cluster's own record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// Of this record.
    pub(crate) version: u32,
    pub(crate) fsname: String,
    pub(crate) mount: PathBuf,
    /// OSTs, over all OSS processes.
    pub(crate) osts: u16,
    pub(crate) oss: u16,
    /// The S3 server that it brings along, if it does.
    #[serde(default)]
    pub(crate) s3: Option<S3>,
    /// Who runs the daemons; `None` after a clean stop.
    pub(crate) supervisor: Option<ProcessId>,
    pub(crate) daemons: Vec<Daemon>,
}

/// The embedded S3 server, and how to sign for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3 {
    pub(crate) bucket: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// The bucket is linked to the root.
    pub(crate) linked: bool,
}

impl S3 {
    /// With fresh keys.
    pub(crate) fn new() -> Self {
        let secret = uuid::Uuid::new_v4().simple().to_string();
        let access = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
        let access_key = format!("NACRE{}", access.get(..15).unwrap_or_default());
        Self { bucket: "nacre".to_owned(), access_key, secret_key: secret, linked: false }
    }
}

/// A process, for ever: pids are used again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) started: u64,
}

impl ProcessId {
    /// Of a living process.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        start_time(pid).map(|started| Self { pid, started })
    }

    pub(crate) fn alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// What a daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Mgs,
    Mds,
    Oss,
    Mount,
    S3,
    Copytool,
}

impl Role {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Mgs => "mgs",
            Self::Mds => "mds",
            Self::Oss => "oss",
            Self::Mount => "mount",
            Self::S3 => "s3",
            Self::Copytool => "copytool",
        }
    }
}

/// One daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Daemon {
    pub(crate) role: Role,
    /// Also the name of its log.
    pub(crate) name: String,
    /// Where it listens; empty for the mount and the copytool.
    pub(crate) address: String,
    pub(crate) targets: Vec<String>,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) process: Option<ProcessId>,
}

impl Daemon {
    pub(crate) fn alive(&self) -> bool {
        self.process.is_some_and(ProcessId::alive)
    }
}

const VERSION: u32 = 1;
const FILE: &str = "cluster.json";
const LOCK: &str = "cluster.lock";

impl Cluster {
    pub(crate) fn new(mount: PathBuf) -> Self {
        Self {
            version: VERSION,
            fsname: "nacre".to_owned(),
            mount,
            osts: 0,
            oss: 1,
            s3: None,
            supervisor: None,
            daemons: Vec::new(),
        }
    }

    /// `None` if there never was a cluster in `dir`.
    pub(crate) fn load(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let cluster: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        anyhow::ensure!(
            cluster.version == VERSION,
            "{}: version {} is not one that this program knows",
            path.display(),
            cluster.version
        );
        Ok(Some(cluster))
    }

    /// Replaces the record: readers see the old one or the new one.
    pub(crate) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(FILE);
        let new = dir.join("cluster.json.new");
        let write = || -> anyhow::Result<()> {
            let mut options = File::options();
            options.create(true).truncate(true).write(true);
            // Keys are nobody else's business.
            options.mode(if self.s3.is_some() { 0o600 } else { 0o644 });
            let mut file = options.open(&new)?;
            file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            Ok(())
        };
        write().with_context(|| path.display().to_string())
    }

    /// Where the embedded S3 server answers.
    pub(crate) fn s3_endpoint(&self) -> Option<String> {
        let s3 = self.daemons.iter().find(|daemon| daemon.role == Role::S3)?;
        Some(format!("http://{}", s3.address))
    }

    /// What who asks the embedded S3 server needs in its environment.
    pub(crate) fn s3_environment(&self) -> Vec<(&'static str, String)> {
        let (Some(s3), Some(endpoint)) = (&self.s3, self.s3_endpoint()) else { return Vec::new() };
        vec![
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", s3.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", s3.secret_key.clone()),
        ]
    }

    pub(crate) fn mgs_address(&self) -> Option<&str> {
        let mgs = self.daemons.iter().find(|daemon| daemon.role == Role::Mgs)?;
        Some(&mgs.address)
    }

    /// An address that was used before if it is still free, else another.
    pub(crate) fn address_for(&self, name: &str, taken: &[String]) -> anyhow::Result<String> {
        let before = self.daemons.iter().find(|daemon| daemon.name == name);
        if let Some(daemon) = before
            && !daemon.address.is_empty()
            && TcpListener::bind(&daemon.address).is_ok()
        {
            return Ok(daemon.address.clone());
        }
        free_address(taken)
    }
}

/// A free address on loopback. Below the ports that the system gives to outgoing connections,
/// so that it is still free when the daemon is started again.
fn free_address(taken: &[String]) -> anyhow::Result<String> {
    for _ in 0..1000 {
        let address = format!("127.0.0.1:{}", rand::random_range(10_000..32_000_u16));
        if !taken.contains(&address) && TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port between 10000 and 32000 on 127.0.0.1")
}

/// Held by whoever runs the cluster of a folder.
#[derive(Debug)]
pub(crate) struct ClusterLock {
    _file: File,
}

impl ClusterLock {
    /// `None` if somebody else has it.
    pub(crate) fn take(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(LOCK);
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}
