//! A mount of the file system in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nacre_client::fuse::{Ended, Grants, MountOptions, ServeError, mount_and_serve};
use nacre_node::Scope;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::memfs::MemFs;

/// Longer than any of it takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Mounted {
    pub(crate) fs: MemFs,
    pub(crate) stop: Scope,
    pub(crate) runtime: Runtime,
    served: Option<JoinHandle<Result<Ended, ServeError>>>,
    folder: tempfile::TempDir,
}

impl Mounted {
    /// `None`, and a word on it, where there is no FUSE.
    pub(crate) fn new() -> Option<Self> {
        Self::with(crate::GRANTS, |_| {})
    }

    pub(crate) fn with(grants: Grants, change: impl FnOnce(&mut MountOptions)) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            eprintln!("SKIPPED: no /dev/fuse here");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("nacre").tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut options = MountOptions::new("memory", folder.path());
        options.allow_other = rustix::process::geteuid().is_root();
        change(&mut options);
        let fs = MemFs::new(grants);
        let stop = Scope::new();
        let (tell, ready) = std::sync::mpsc::sync_channel(1);
        let serve =
            mount_and_serve(fs.clone(), options, stop.clone(), move || tell.send(()).unwrap());
        let served = Some(runtime.spawn(serve));
        let mut mounted = Self { fs, stop, runtime, served, folder };
        let is_ready = ready.recv_timeout(PATIENCE).is_ok();
        assert!(is_ready, "not mounted: {:?}", mounted.wait());
        Some(mounted)
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How the mount ended.
    pub(crate) fn wait(&mut self) -> Result<Ended, ServeError> {
        let served = self.served.take().expect("waited for once");
        let waited = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, served).await });
        waited.expect("the mount ends").expect("it does not panic")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.served.is_some() {
            self.stop.stop();
            let ended = self.wait();
            if !std::thread::panicking() {
                assert_eq!(ended.unwrap(), Ended::Unmounted);
            }
        }
    }
}
