//! How mounts end, and what they leave.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use nacre_client::fuse::{Ended, Grants, MountError, MountOptions, ServeError, mount_and_serve};
use nacre_node::Scope;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::harness::Mounted;
use crate::memfs::MemFs;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn an_unmount_from_outside_ends_the_service() {
    let Some(mut mount) = Mounted::new() else { return };
    if !is_root() {
        return;
    }
    fs::write(mount.path("file"), b"text").unwrap();
    rustix::mount::unmount(mount.root(), UnmountFlags::empty()).unwrap();
    assert_eq!(mount.wait().unwrap(), Ended::Unmounted);
    assert!(fs::read_dir(mount.root()).unwrap().next().is_none());
}

#[test]
fn a_busy_mount_goes_out_of_sight_and_is_served_until_it_is_idle() {
    let Some(mut mount) = Mounted::new() else { return };
    let mut file = File::create_new(mount.path("file")).unwrap();
    mount.stop.stop();
    while fs::metadata(mount.path("file")).is_ok() {
        std::thread::yield_now();
    }
    file.write_all(b"late").unwrap();
    drop(file);
    assert_eq!(mount.wait().unwrap(), Ended::Unmounted);
}

#[test]
fn what_a_killed_process_left_is_cleared_by_the_next_mount() {
    if !is_root() {
        return;
    }
    let made = Mounted::with(Grants::Nothing, |options| {
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR, Mode::empty()).unwrap();
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", device.as_raw_fd());
        let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).unwrap();
        let (target, none) = (&options.target, MountFlags::empty());
        rustix::mount::mount("dead", target, "fuse.nacre", none, data).unwrap();
        drop(device);
        let error = fs::metadata(target).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN), "it is dead");
    });
    let Some(mount) = made else { return };
    fs::write(mount.path("file"), b"alive").unwrap();
    let root = mount.root().to_owned();
    drop(mount);
    assert!(!root.exists(), "nothing was left beneath, so the folder could be removed");
}

#[test]
fn a_mount_shows_its_source_and_a_type_of_its_own_and_obeys_read_only() {
    let Some(mount) = Mounted::with(Grants::Nothing, |options| {
        options.source = "host:1,other:2:/fs/sub".to_owned();
        options.flags |= MountFlags::RDONLY;
    }) else {
        return;
    };
    let error = fs::write(mount.path("file"), b"").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    let mut table = String::new();
    File::open("/proc/self/mounts").unwrap().read_to_string(&mut table).unwrap();
    let line = table.lines().find(|line| line.contains(mount.root().to_str().unwrap())).unwrap();
    assert!(line.starts_with("host:1,other:2:/fs/sub "), "{line}");
    assert!(line.contains(" fuse.nacre ro,nosuid,nodev"), "{line}");
}

#[test]
fn a_mount_point_that_is_missing_or_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let attempt = |target: std::path::PathBuf| {
        let options = MountOptions::new("memory", target);
        let serve = mount_and_serve(MemFs::new(Grants::Nothing), options, Scope::new(), || {});
        runtime.block_on(serve).unwrap_err()
    };
    let missing = attempt(folder.path().join("missing"));
    assert!(matches!(missing, ServeError::Mount(MountError::Target { .. })), "{missing:?}");
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = attempt(file);
    assert!(matches!(error, ServeError::Mount(MountError::NotDirectory { .. })), "{error:?}");
}
