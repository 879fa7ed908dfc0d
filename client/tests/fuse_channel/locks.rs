//! Locks, and signals for those who wait for one.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use nacre_client::LockKind;
use nacre_client::fuse::{Grants, LockScope};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::harness::{Mounted, PATIENCE};

/// Another process that waits for the flock of `name`.
fn waiting_process(mount: &Mounted, name: &str) -> Child {
    let mut command = Command::new("flock");
    command.arg(mount.path(name)).arg("true").stdin(Stdio::null());
    let child = command.spawn().expect("flock(1) is there");
    mount.runtime.block_on(async {
        let waits = mount.fs.locks.waits.notified();
        tokio::time::timeout(PATIENCE, waits).await.expect("it waits");
    });
    child
}

#[test]
fn a_killed_process_does_not_wait_for_its_lock_for_ever() {
    let Some(mount) = Mounted::new() else { return };
    let file = File::create(mount.path("file")).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    let mut child = waiting_process(&mount, "file");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(mount.fs.locks.waiting.load(Ordering::SeqCst), 0, "its request was taken back");
}

#[test]
fn a_flock_is_waited_for_and_dropped_at_close() {
    let Some(mount) = Mounted::new() else { return };
    let file = File::create(mount.path("file")).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    let other = File::open(mount.path("file")).unwrap();
    let taken = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(taken, Err(Errno::AGAIN));
    let mut child = waiting_process(&mount, "file");
    drop(file);
    assert!(child.wait().unwrap().success());
}

#[test]
fn posix_locks_are_dropped_by_the_close_of_any_descriptor() {
    let Some(mount) = Mounted::new() else { return };
    fs::write(mount.path("file"), b"").unwrap();
    drop(File::open(mount.path("file")).unwrap());
    assert!(mount.fs.seen.lock().unlocks.is_empty(), "there was nothing to drop");
    let file = File::options().write(true).open(mount.path("file")).unwrap();
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(File::open(mount.path("file")).unwrap());
    let unlocks = mount.fs.seen.lock().unlocks.clone();
    assert!(matches!(unlocks[..], [(LockKind::Posix, _)]), "{unlocks:?}");
}

#[test]
fn with_noflock_locking_is_refused_and_with_localflock_the_kernel_does_it() {
    let without = Mounted::with(Grants::Nothing, |options| options.locks = LockScope::None);
    let Some(mount) = without else { return };
    let file = File::create(mount.path("file")).unwrap();
    let refused = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused, Err(Errno::NOSYS));
    drop(file);
    drop(mount);

    let local = Mounted::with(Grants::Nothing, |options| options.locks = LockScope::Local);
    let Some(mount) = local else { return };
    let file = File::create(mount.path("file")).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    let other = File::open(mount.path("file")).unwrap();
    let taken = rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared);
    assert_eq!(taken, Err(Errno::AGAIN));
    drop(file);
    rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    assert!(mount.fs.seen.lock().unlocks.is_empty(), "the file system was not asked");
}
