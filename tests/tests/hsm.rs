//! Files and the bucket that `nacre up --s3 embedded` links: archived, released, restored, by the
//! real programs on a real mount.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nacre_tests::up::{Dir, lfs, text};
use nacre_tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// What `lfs hsm_state` says behind the path.
fn state(path: &Path) -> String {
    let line = text(&lfs(&["hsm_state"], path));
    line.trim().strip_prefix(&format!("{}: ", path.display())).expect("the path").to_owned()
}

fn archive(path: &Path) {
    text(&lfs(&["hsm_archive"], path));
    let archived = || state(path).starts_with("(0x00000009)");
    assert!(wait::until(PATIENCE, archived), "{}: {}", path.display(), state(path));
}

/// Bytes that differ from each other everywhere.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let mixed = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ seed;
    (0..len).map(mixed).collect()
}

#[test]
fn released_files_come_back_when_they_are_used() {
    let dir = Dir::new();
    dir.up(&["--osts", "3", "--s3", "embedded"]);
    dir.only_by_hand();
    let (mount, s3) = (dir.mount(), dir.status()["s3"].clone());
    assert!(s3["endpoint"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{s3}");
    let folder = mount.join("data set");
    fs::create_dir(&folder).unwrap();
    text(&lfs(&["setstripe", "-S", "64K", "-c", "-1"], &folder));
    // Empty, in the inode, on objects, of several pieces.
    let sizes = [0, 5, 16 << 10, 70_000, (8 << 20) + 1, 20 << 20];
    let files: Vec<_> = (0..).zip(sizes).collect();
    for (seed, len) in &files {
        let path = folder.join(len.to_string());
        fs::write(&path, pattern(*len, *seed)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    for (_, len) in &files {
        let path = folder.join(len.to_string());
        let before = fs::metadata(&path).unwrap();
        archive(&path);
        text(&lfs(&["hsm_release"], &path));
        assert_eq!(
            state(&path),
            "(0x0000000d) released exists archived, archive_id:1",
            "{len} bytes"
        );
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.len(), after.mtime_nsec()), (before.len(), before.mtime_nsec()));
        assert_eq!(after.blocks(), u64::from(*len > 0));
        assert_eq!(after.permissions().mode(), before.permissions().mode());
    }
    // Names and attributes need no bytes.
    fs::rename(folder.join("70000"), folder.join("moved")).unwrap();
    fs::set_permissions(folder.join("moved"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(state(&folder.join("moved")).starts_with("(0x0000000d)"));
    fs::rename(folder.join("moved"), folder.join("70000")).unwrap();
    for (seed, len) in &files {
        let path = folder.join(len.to_string());
        assert_eq!(fs::read(&path).unwrap(), pattern(*len, *seed), "{len} bytes");
        if *len > 0 {
            assert!(state(&path).starts_with("(0x00000009)"), "{}", state(&path));
        }
    }
    // A write needs the old bytes, a cut to nothing does not.
    let path = folder.join("70000");
    text(&lfs(&["hsm_release"], &path));
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"new", 1000).unwrap();
    drop(file);
    let mut expected = pattern(70_000, 3);
    expected[1000..1003].copy_from_slice(b"new");
    assert_eq!(fs::read(&path).unwrap(), expected);
    assert!(wait::until(PATIENCE, || state(&path).starts_with("(0x0000000b)")), "{}", state(&path));
    assert!(!lfs(&["hsm_release"], &path).status.success(), "its copy is out of date");
    archive(&path);
    text(&lfs(&["hsm_release"], &path));
    fs::write(&path, "other").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"other");
    assert!(state(&path).starts_with("(0x0000000b)"), "{}", state(&path));

    dir.down();
    let check = dir.nacre("fsck", &[]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    // What is archived and released outlives the cluster's stop.
    dir.up(&[]);
    let last = folder.join("20971520");
    text(&lfs(&["hsm_release"], &last));
    assert_eq!(fs::read(&last).unwrap(), pattern(20 << 20, 5));
}

#[test]
fn an_action_outlives_the_copytool_and_the_metadata_server() {
    let dir = Dir::new();
    dir.up(&["--osts", "2", "--s3", "embedded", "--restart"]);
    dir.only_by_hand();
    let path = dir.mount().join("file");
    let bytes = pattern(30 << 20, 9);
    for name in ["copytool0", "mds", "copytool0"] {
        fs::write(&path, &bytes).unwrap();
        text(&lfs(&["hsm_archive"], &path));
        dir.kill(name);
        let archived = || state(&path).starts_with("(0x00000009)");
        assert!(wait::until(PATIENCE, archived), "{name}: {}", state(&path));
        let released = || lfs(&["hsm_release"], &path).status.success();
        assert!(wait::until(PATIENCE, released), "{name}: {}", state(&path));
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
    }
}
