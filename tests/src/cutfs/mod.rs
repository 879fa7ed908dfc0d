//! A mounted folder whose power can be cut: what was not synced is dropped, torn or kept in part.
//!
//! The content is a [`MemDisk`], so the rules of what survives are those that the log and the
//! object store are tested with; through the mount they hold for engines too that use files on
//! their own, as the metadata store does. The kernel caches nothing of it.

mod inodes;
mod serve;

use std::io;
use std::path::Path;
use std::sync::Arc;

use fuser::{BackgroundSession, Config, MountOption};
use nacre_node::disk::mem::{Crash, MemDisk};
use parking_lot::Mutex;

use self::inodes::Inodes;
use self::serve::CutFs;

/// The mounted folder. Dropping it unmounts.
pub struct CutFolder {
    disk: MemDisk,
    inodes: Arc<Mutex<Inodes>>,
    session: Option<BackgroundSession>,
}

impl CutFolder {
    /// Mounts an empty one on an empty folder.
    pub fn mount(target: &Path) -> io::Result<Self> {
        let disk = MemDisk::default();
        let inodes = Arc::new(Mutex::new(Inodes::default()));
        let served = CutFs { disk: disk.clone(), inodes: Arc::clone(&inodes) };
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("cutfs".to_owned()), MountOption::Subtype("cut".to_owned())];
        let session = fuser::spawn_mount(served, target, &config)?;
        Ok(Self { disk, inodes, session: Some(session) })
    }

    /// The disk: its call counter says where power can be cut.
    pub fn disk(&self) -> &MemDisk {
        &self.disk
    }

    /// After so many more changing calls, power is off: everything fails with EIO.
    pub fn cut_after(&self, calls: u64) {
        self.disk.power_off_at(self.disk.calls() + calls);
    }

    /// Drops what was not synced, as `crash` says, and brings power back. Whoever had files open
    /// must be gone.
    pub fn crash(&self, crash: Crash, seed: u64) {
        let mut inodes = self.inodes.lock();
        self.disk.crash(crash, seed);
        inodes.forget_all();
    }
}

impl Drop for CutFolder {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // Nobody is told about it: the folder is gone either way.
            let _ = session.umount_and_join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    #[test]
    fn only_what_was_synced_survives_a_cut() {
        let target = tempfile::tempdir().unwrap();
        let folder = CutFolder::mount(target.path()).unwrap();
        let path = |name: &str| target.path().join(name);
        let write = |name: &str, text: &str| {
            let mut file = File::create(path(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        fs::create_dir(path("sub")).unwrap();
        write("sub/kept", "all of it").sync_data().unwrap();
        File::open(path("sub")).unwrap().sync_all().unwrap();
        File::open(target.path()).unwrap().sync_all().unwrap();
        write("sub/lost", "nothing");
        fs::rename(path("sub/kept"), path("sub/moved")).unwrap();
        assert_eq!(fs::read(path("sub/moved")).unwrap(), b"all of it");
        folder.cut_after(0);
        assert!(fs::write(path("more"), "x").is_err());
        folder.crash(Crash::DropAll, 1);
        assert_eq!(fs::read(path("sub/kept")).unwrap(), b"all of it");
        let names: Vec<_> =
            fs::read_dir(path("sub")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"]);
    }
}
