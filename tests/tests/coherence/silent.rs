//! Mounts that fall silent or die while they hold what others want.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nacre_tests::{Cluster, Role, wait};

use crate::{cluster, roots};

const LEASE: &str = "mds.lease_seconds=2";
/// The lease, and what finding out and fencing take on a busy machine.
const DELAY_MAX: Duration = Duration::from_secs(2 + 8);
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> (Cluster, Vec<PathBuf>) {
    let mut cluster = cluster(2, &[LEASE]);
    // Of the eviction, by both sides.
    for word in ["WARN", "written data is", "evicted"] {
        cluster.announce(word);
    }
    let mounts = roots(&cluster);
    (cluster, mounts)
}

/// A file that the first mount has open, with data that nobody else knows yet.
fn dirty(mounts: &[PathBuf], name: &str, len: usize) -> fs::File {
    let path = mounts[0].join(name);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all_at(&vec![b'o'; len], 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&vec![b'd'; len], 0).unwrap();
    file
}

#[test]
fn a_frozen_mount_delays_others_for_its_lease_and_then_goes_on() {
    for len in [5000, 300_000] {
        let (mut cluster, mounts) = start();
        let file = dirty(&mounts, "file", len);
        cluster.freeze(Role::Mount(0));
        let begun = Instant::now();
        fs::write(mounts[1].join("file"), b"new").unwrap();
        fs::write(mounts[1].join("beside"), b"new").unwrap();
        let took = begun.elapsed();
        assert!(took < DELAY_MAX, "the other was delayed by {took:?}");
        assert_eq!(fs::read(mounts[1].join("file")).unwrap(), b"new");

        cluster.thaw(Role::Mount(0));
        let told = wait::until(PATIENCE, || file.sync_all().is_err());
        let landed = fs::read(mounts[1].join("file")).unwrap() != b"new";
        assert!(told, "nobody was told that {len} bytes are lost; landed late: {landed}");
        let sees = wait::until(PATIENCE, || {
            fs::read(mounts[0].join("file")).is_ok_and(|read| read == b"new")
        });
        assert!(sees, "{:?}", fs::read(mounts[0].join("file")).map(|read| read.len()));
        drop(file);
        // It works as any other.
        fs::write(mounts[0].join("again"), vec![b'a'; len]).unwrap();
        assert_eq!(fs::read(mounts[1].join("again")).unwrap(), vec![b'a'; len]);
        for mount in &mounts {
            assert_eq!(fs::read(mount.join("file")).unwrap(), b"new", "something landed late");
            assert_eq!(fs::read(mount.join("beside")).unwrap(), b"new");
        }
        cluster.finish();
    }
}

#[test]
fn when_a_mount_is_killed_others_go_on_within_its_lease() {
    let (mut cluster, mounts) = start();
    fs::create_dir(mounts[0].join("dir")).unwrap();
    let file = dirty(&mounts, "dir/file", 300_000);
    for number in 0..50 {
        fs::write(mounts[0].join(format!("dir/f{number}")), number.to_string()).unwrap();
    }
    cluster.kill(Role::Mount(0));
    drop(file);
    let begun = Instant::now();
    fs::write(mounts[1].join("dir/file"), b"new").unwrap();
    fs::write(mounts[1].join("dir/another"), b"new").unwrap();
    let names = fs::read_dir(mounts[1].join("dir")).unwrap().count();
    let took = begun.elapsed();
    assert!(took < DELAY_MAX, "the other was delayed by {took:?}");
    assert!(names >= 2, "{names}");
    assert_eq!(fs::read(mounts[1].join("dir/file")).unwrap(), b"new");
    cluster.start_daemon(Role::Mount(0)).expect("it is mounted again");
    assert_eq!(fs::read(mounts[0].join("dir/file")).unwrap(), b"new");
    cluster.finish();
}
