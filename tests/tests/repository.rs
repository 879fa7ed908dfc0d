//! A file system and a bucket that follow each other, by the real programs on a real mount.

#![expect(clippy::unwrap_used, reason = "a helper that fails has found what the test looks for")]
#![expect(clippy::indexing_slicing, reason = "as above")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use nacre_copytool::bucket::Listing;
use nacre_copytool::{Bucket, Endpoint, ObjectMeta, Patience, Precondition};
use nacre_tests::up::{Dir, lfs, text};
use nacre_tests::{binary, wait};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(90);

/// The bucket of a cluster, as other programs have it.
struct S3 {
    bucket: Bucket,
    runtime: Runtime,
    /// What those programs have in their environment.
    environment: Vec<(&'static str, String)>,
}

impl S3 {
    fn of(dir: &Dir) -> Self {
        let s3 = dir.status()["s3"].clone();
        let text = |name: &str| s3[name].as_str().unwrap().to_owned();
        let endpoint = Endpoint {
            url: text("endpoint"),
            region: "us-east-1".into(),
            access_key: text("access_key"),
            secret_key: text("secret_key"),
        };
        let environment = vec![
            ("AWS_ENDPOINT_URL", endpoint.url.clone()),
            ("AWS_ACCESS_KEY_ID", endpoint.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", endpoint.secret_key.clone()),
        ];
        let url = format!("s3://{}", text("bucket")).parse().unwrap();
        let bucket = Bucket::new(&endpoint, url, Patience::default());
        Self { bucket, runtime: Runtime::new().unwrap(), environment }
    }

    fn put(&self, key: &str, body: &[u8]) {
        let (body, meta) = (Bytes::copy_from_slice(body), ObjectMeta::default());
        let put = self.bucket.put(key, body, &meta, &Precondition::Always);
        self.runtime.block_on(put).unwrap();
    }

    fn delete(&self, key: &str) {
        self.runtime.block_on(self.bucket.delete(key)).unwrap();
    }

    /// Sizes by key.
    fn list(&self) -> BTreeMap<String, u64> {
        let (mut found, mut next) = (BTreeMap::new(), None);
        loop {
            let listing = self.bucket.list(Listing::Below(""), next.as_deref(), 1000);
            let page = self.runtime.block_on(listing).unwrap();
            // A copytool that is killed while it tries what the bucket can leaves what it tried with.
            let objects = page.objects.into_iter();
            let objects = objects.filter(|object| !object.key.starts_with(".nacre-probe-"));
            found.extend(objects.map(|object| (object.key, object.size)));
            next = page.next;
            if next.is_none() {
                return found;
            }
        }
    }

    fn get(&self, key: &str, size: u64) -> Vec<u8> {
        self.runtime.block_on(self.bucket.get_whole(key, size, None)).unwrap().to_vec()
    }

    /// What is stored beside an object.
    fn meta(&self, key: &str) -> BTreeMap<String, String> {
        self.runtime.block_on(self.bucket.head(key)).unwrap().meta.user
    }
}

/// What `nacre links --json` says of the only link.
fn link_of(mount: &Path) -> Value {
    let output = Command::new(binary::nacre()).args(["links", "--json"]).arg(mount).output();
    serde_json::from_str(&text(&output.unwrap())).unwrap()
}

/// A path, and all below it: sizes by key, folders with a slash at the end.
fn tree(root: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let key = format!("{folder}{}", entry.file_name().to_str().unwrap());
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            if meta.is_dir() {
                found.insert(format!("{key}/"), 0);
                folders.push(format!("{key}/"));
            } else {
                found.insert(key, meta.len());
            }
        }
    }
    found
}

fn leaves(keys: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    keys.into_iter().filter(|(key, _)| !key.ends_with('/')).collect()
}

/// Waits until both sides have the same names with the same sizes, and nothing is on its way; then
/// compares the bytes.
fn become_the_same(s3: &S3, mount: &Path) {
    let calm = || {
        let same = leaves(tree(mount)) == leaves(s3.list());
        same && link_of(mount)["exports_waiting"] == 0
    };
    let done = wait::until(PATIENCE, calm);
    assert_eq!(leaves(tree(mount)), leaves(s3.list()), "{}", link_of(mount));
    assert!(done, "{}", link_of(mount));
    for (key, size) in leaves(tree(mount)) {
        let path = mount.join(&key);
        let here = match fs::read_link(&path) {
            Ok(target) => target.to_str().unwrap().as_bytes().to_vec(),
            Err(_) => fs::read(&path).unwrap(),
        };
        assert!(here == s3.get(&key, size), "{key}");
    }
}

#[test]
fn what_changes_on_one_side_changes_on_the_other() {
    let dir = Dir::new();
    dir.up(&["--osts", "2", "--s3", "embedded", "--set", "mds.sweep_seconds=1"]);
    let (s3, mount) = (S3::of(&dir), dir.mount());
    fs::create_dir_all(mount.join("folder/below")).unwrap();
    fs::write(mount.join("folder/below/file"), "content").unwrap();
    fs::write(mount.join("large"), vec![7; 9 << 20]).unwrap();
    fs::set_permissions(mount.join("large"), fs::Permissions::from_mode(0o2640)).unwrap();
    chown(mount.join("large"), Some(12), Some(34)).unwrap();
    symlink("folder/below/file", mount.join("link")).unwrap();
    become_the_same(&s3, &mount);
    assert!(s3.list().contains_key("folder/below/"), "folders have objects of their own");
    let meta = s3.meta("large");
    let expected = [("file-owner", "12"), ("file-group", "34"), ("file-permissions", "0102640")];
    for (name, value) in expected {
        assert_eq!(meta[name], value);
    }
    let mtime = fs::metadata(mount.join("large")).unwrap();
    assert_eq!(meta["file-mtime"], format!("{}{:09}ns", mtime.mtime(), mtime.mtime_nsec()));

    s3.put("in/x y/ü%+z", b"of another program");
    s3.put("folder/below/file", b"changed there");
    s3.delete("large");
    let arrived = || {
        !mount.join("large").exists()
            && fs::read(mount.join("folder/below/file")).unwrap() == b"changed there"
            && mount.join("in/x y/ü%+z").exists()
    };
    assert!(wait::until(PATIENCE, arrived), "{}", link_of(&mount));
    let imported = mount.join("in/x y/ü%+z");
    assert_eq!(fs::metadata(&imported).unwrap().permissions().mode(), 0o100_755);
    let state = text(&lfs(&["hsm_state"], &imported));
    assert!(state.contains("(0x0000000d) released exists archived"), "{state}");
    // Renamed before anybody has read it.
    fs::rename(&imported, mount.join("renamed")).unwrap();
    fs::rename(mount.join("folder"), mount.join("moved")).unwrap();
    fs::remove_file(mount.join("link")).unwrap();
    become_the_same(&s3, &mount);
    assert_eq!(fs::read(mount.join("renamed")).unwrap(), b"of another program");
    let link = link_of(&mount);
    assert_eq!((&link["conflicts"], &link["refused"]), (&Value::from(0), &Value::from(0)));
    dir.down();
    let check = dir.nacre("fsck", &[]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

/// One random change of the file system; what cannot be done is not done.
fn change_here(random: &mut StdRng, mount: &Path, round: usize) {
    let all: Vec<String> = tree(mount).into_keys().filter(|key| key.starts_with('m')).collect();
    let folders: Vec<&String> = all.iter().filter(|key| key.ends_with('/')).collect();
    let files: Vec<&String> = all.iter().filter(|key| !key.ends_with('/')).collect();
    let folder = folders.choose(random).map_or("", |folder| folder.as_str());
    let new = mount.join(format!("{folder}m{round}"));
    let old = files.choose(random).map(|file| mount.join(file));
    let _ = match (random.random_range(0..10), old) {
        (0, _) => fs::create_dir(&new),
        (1, _) => symlink("somewhere", &new),
        (2, Some(old)) => fs::rename(old, &new),
        (3, Some(old)) => fs::remove_file(old),
        (4, Some(old)) => fs::hard_link(old, &new),
        (5, Some(old)) => fs::write(old, format!("again {round}")),
        (6, Some(old)) => fs::set_permissions(old, fs::Permissions::from_mode(0o640)),
        (7, _) if !folders.is_empty() => {
            let folder = folders.choose(random).unwrap();
            fs::rename(mount.join(folder), mount.join(format!("m{round}")))
        }
        (8, _) => fs::write(&new, vec![round.to_le_bytes()[0]; 200_000]),
        _ => fs::write(&new, format!("new {round}")),
    };
}

/// One random change of the bucket.
fn change_there(random: &mut StdRng, s3: &S3, round: usize) {
    let keys: Vec<String> = s3.list().into_keys().filter(|key| key.starts_with('s')).collect();
    match (random.random_range(0..4), keys.choose(random)) {
        (0, Some(key)) => s3.put(key, format!("changed {round}").as_bytes()),
        (1, Some(key)) => s3.delete(key),
        _ => s3.put(&format!("s{}/s{round}", round % 3), format!("new {round}").as_bytes()),
    }
}

#[test]
fn both_sides_become_the_same_though_daemons_are_killed() {
    let dir = Dir::new();
    let sweep = "mds.sweep_seconds=1";
    dir.up(&["--osts", "2", "--s3", "embedded", "--restart", "--set", sweep]);
    let (s3, mount) = (S3::of(&dir), dir.mount());
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..150 {
        change_here(&mut random, &mount, round);
        if round % 3 == 0 {
            change_there(&mut random, &s3, round);
        }
        if round % 50 == 49 {
            dir.kill(if round % 100 == 49 { "copytool0" } else { "mds" });
        }
    }
    become_the_same(&s3, &mount);
    let link = link_of(&mount);
    assert_eq!((&link["conflicts"], &link["refused"]), (&Value::from(0), &Value::from(0)));
    dir.down();
    let check = dir.nacre("fsck", &[]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

/// Everything that an export keeps, by path.
fn attributes(root: &Path) -> BTreeMap<String, (u32, u32, u32, u64, i64, i64)> {
    let of = |key: String| {
        let meta = fs::symlink_metadata(root.join(&key)).unwrap();
        let (mode, size) = (meta.mode(), if meta.is_dir() { 0 } else { meta.len() });
        // Whatever is made in a folder changes its time.
        let (secs, nanos) = if meta.is_dir() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        (key, (mode, meta.uid(), meta.gid(), size, secs, nanos))
    };
    tree(root).into_keys().map(of).collect()
}

#[test]
fn what_was_exported_is_imported_with_all_its_attributes() {
    let dir = Dir::new();
    dir.up(&["--osts", "2", "--s3", "embedded", "--set", "mds.sweep_seconds=1"]);
    let (s3, mount) = (S3::of(&dir), dir.mount());
    for (number, folder) in (0_u32..).zip(["a", "a/b", "a/b c", "d"]) {
        let folder = mount.join(folder);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750 + number)).unwrap();
        for file in 0..20 {
            let path = folder.join(format!("file {file}"));
            fs::write(&path, "x".repeat(file * 3000)).unwrap();
            chown(&path, Some(number), Some(100 + number)).unwrap();
            let mode = 0o600 + u32::try_from(file).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("file 1", folder.join("link")).unwrap();
    }
    let before = attributes(&mount);
    become_the_same(&s3, &mount);
    let folders = |keys: BTreeMap<String, u64>| keys.into_keys().filter(|key| key.ends_with('/'));
    assert!(folders(tree(&mount)).eq(folders(s3.list())));

    let nacre = |args: &[&str]| {
        let mut nacre = Command::new(binary::nacre());
        nacre.args(args).arg(&mount).envs(s3.environment.iter().cloned());
        text(&nacre.output().unwrap())
    };
    nacre(&["unlink"]);
    for name in ["a", "d"] {
        fs::remove_dir_all(mount.join(name)).unwrap();
    }
    for key in ["odd//key", "./dot", "a/../b", "d/file 1/below"] {
        s3.put(key, b"no file can have this name");
    }
    nacre(&["link", "--batch-import", "s3://nacre"]);
    let imported = || link_of(&mount)["batch_import"] == "done";
    assert!(wait::until(PATIENCE, imported), "{}", link_of(&mount));
    assert_eq!(attributes(&mount), before);
    let link = link_of(&mount);
    assert_eq!(link["refused"], 4, "{link}");
    for (key, size) in leaves(tree(&mount)) {
        if fs::read_link(mount.join(&key)).is_err() {
            assert_eq!(fs::read(mount.join(&key)).unwrap(), s3.get(&key, size), "{key}");
        }
    }
}
