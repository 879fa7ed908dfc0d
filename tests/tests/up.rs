//! `nacre up`, `down`, `status` and the mount helper, as people and scripts use them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nacre_tests::up::{Dir, lfs, text};
use nacre_tests::{binary, wait};
use rustix::process::{Pid, Signal};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs lfs with a path behind the first word.
fn lfs_on(command: &str, path: &Path, args: &[&str]) -> Output {
    let mut nacre = Command::new(binary::nacre());
    nacre.args(["lfs", command]).arg(path).args(args).output().expect("nacre runs")
}

#[test]
fn a_second_up_finds_the_data_and_adds_osts() {
    let dir = Dir::new();
    let banner = dir.up(&["--osts", "2"]);
    assert!(banner.contains(&dir.mount().display().to_string()), "{banner}");
    let status = dir.status();
    assert_eq!(status["mount"], dir.mount().display().to_string());
    assert_eq!(status["fsname"], "nacre");
    assert_eq!(status["mgs"][0], dir.daemon("mgs")["address"]);
    assert_eq!(dir.daemon("oss0")["targets"], serde_json::json!(["OST0000", "OST0001"]));
    for name in ["mgs", "mds", "oss0", "mount"] {
        assert_eq!(dir.daemon(name)["state"], "up", "{name}");
    }
    fs::write(dir.mount().join("small"), "hello").unwrap();
    fs::write(dir.mount().join("large"), vec![7; 3 << 20]).unwrap();

    let twice = dir.nacre("up", &["--detach"]);
    let error = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(!twice.status.success() && error.contains("is up already"), "{error}");

    dir.down();
    assert_eq!(dir.daemon("mds")["state"], "down");
    assert!(!dir.mount().join("small").exists());
    dir.down();

    let fewer = dir.nacre("up", &["--detach", "--osts", "1"]);
    assert!(String::from_utf8_lossy(&fewer.stderr).contains("not take any away"));
    dir.up(&["--osts", "3", "--oss", "2"]);
    assert_eq!(fs::read(dir.mount().join("small")).unwrap(), b"hello");
    assert_eq!(fs::read(dir.mount().join("large")).unwrap(), vec![7; 3 << 20]);
    let third = dir.mount().join("third");
    assert!(lfs(&["setstripe", "-i", "2"], &third).status.success());
    fs::write(&third, vec![1; 1 << 20]).unwrap();
    assert_eq!(text(&lfs(&["getstripe", "-i"], &third)).trim(), "2");

    let serving = Command::new(binary::nacre()).arg("fsck").arg("--dir").arg(dir.path()).output();
    assert_eq!(serving.unwrap().status.code(), Some(2), "nobody may check what is served");
    dir.down();
    let check = dir.nacre("fsck", &[]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn a_killed_supervisor_leaves_nothing_behind() {
    let dir = Dir::new();
    dir.up(&["--osts", "1"]);
    // The mount may outlive the servers, and then what was only closed has nowhere to go.
    let mut file = fs::File::create(dir.mount().join("file")).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap();
    drop(file);
    let record = fs::read_to_string(dir.path().join("cluster.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let pid = record["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = Pid::from_raw(pid.unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let names = ["mgs", "mds", "oss0", "mount"];
    let gone = || names.iter().all(|name| dir.daemon(name)["state"] == "down");
    assert!(wait::until(PATIENCE, gone), "{}", dir.status());
    dir.up(&[]);
    assert_eq!(fs::read(dir.mount().join("file")).unwrap(), b"x");
}

#[test]
fn a_cluster_that_cannot_come_up_says_why() {
    let dir = Dir::new();
    fs::create_dir_all(dir.path().join("mgs")).unwrap();
    fs::write(dir.path().join("mgs/letter"), "dear").unwrap();
    let output = dir.nacre("up", &["--detach"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("is not empty"), "{error}");
    let output = dir.nacre("up", &["--detach", "--set", "oss.colour=blue"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("`colour`"), "{error}");
}

#[test]
fn the_mount_helper_mounts_remounts_and_names_what_is_wrong() {
    let dir = Dir::new();
    dir.up(&["--osts", "1"]);
    let helper = dir.path().join("mount.nacre");
    symlink(binary::nacre(), &helper).unwrap();
    let mgs = dir.status()["mgs"][0].as_str().unwrap().to_owned();
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::create_dir_all(dir.mount().join("sub/deep")).unwrap();
    fs::write(dir.mount().join("sub/deep/file"), "x").unwrap();
    let run = |source: &str, options: &str| {
        Command::new(&helper).arg(source).arg(&other).args(["-o", options]).output().unwrap()
    };
    let source = format!("{mgs}:/nacre/sub");

    let bad = run(&source, "colour=blue");
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(!bad.status.success() && said.contains("`colour`"), "{said}");
    let absent = run(&format!("{mgs}:/nacre/nothing"), "retry=5");
    assert!(!absent.status.success() && !absent.stderr.is_empty());

    let mounted = run(&source, "defaults,_netdev,noatime,retry=20");
    let said = [mounted.stdout.as_slice(), mounted.stderr.as_slice()].concat();
    assert!(mounted.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(fs::read(other.join("deep/file")).unwrap(), b"x");
    let remounted = run(&source, "remount,ro");
    assert!(remounted.status.success(), "{}", String::from_utf8_lossy(&remounted.stderr));
    let refused = fs::write(other.join("new"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(Command::new("umount").arg(&other).status().unwrap().success());
}

#[test]
fn lfs_shows_and_sets_what_lustre_s_does() {
    let dir = Dir::new();
    dir.up(&["--osts", "3"]);
    let mount = dir.mount();
    let wide = mount.join("wide");
    assert!(lfs(&["setstripe", "-c", "-1", "-S", "1M"], &wide).status.success());
    fs::write(&wide, vec![3; 4 << 20]).unwrap();
    let shown = text(&lfs(&["getstripe"], &wide));
    assert!(shown.contains("lmm_stripe_count:  3\n") && shown.contains("obdidx"), "{shown}");
    let again = lfs(&["setstripe", "-c", "1"], &wide);
    assert_eq!(again.status.code(), Some(17), "its objects exist");
    let odd = lfs(&["setstripe", "-S", "1000"], &mount.join("odd"));
    assert_eq!(odd.status.code(), Some(22));
    assert!(String::from_utf8_lossy(&odd.stderr).contains("64 KiB"));
    assert!(!mount.join("odd").exists());

    let progressive = mount.join("dir");
    fs::create_dir(&progressive).unwrap();
    let ends = ["setstripe", "-E", "1M", "-c", "1", "-E", "-1", "-c", "2"];
    assert!(lfs(&ends, &progressive).status.success());
    fs::create_dir(progressive.join("sub")).unwrap();
    let file = progressive.join("sub/file");
    fs::write(&file, vec![5; 3 << 20]).unwrap();
    let shown = text(&lfs(&["getstripe"], &file));
    assert!(shown.contains("lcm_entry_count:   2"), "inherited: {shown}");

    let fid = text(&lfs(&["path2fid"], &file));
    let paths = lfs_on("fid2path", &mount, &[fid.trim()]);
    assert_eq!(text(&paths).trim(), file.display().to_string());
    let found = lfs_on("find", &mount, &["-type", "f", "-stripe-count", "+2"]);
    assert_eq!(text(&found).trim(), wide.display().to_string());
    let space = text(&lfs(&["df", "-h"], &mount));
    assert!(
        space.contains("nacre-OST0002_UUID") && space.contains("filesystem_summary:"),
        "{space}"
    );

    // More than one cluster of this name may be mounted here.
    let pool = |args: &[&str]| lfs(&[args, &["--mount"][..]].concat(), &mount);
    text(&pool(&["pool_new", "nacre.fast"]));
    text(&pool(&["pool_add", "nacre.fast", "OST0001", "2"]));
    assert_eq!(pool(&["pool_destroy", "nacre.fast"]).status.code(), Some(16), "not empty");
    let pooled = mount.join("pooled");
    assert!(lfs(&["setstripe", "-p", "fast", "-c", "-1"], &pooled).status.success());
    fs::write(&pooled, vec![1; 9 << 20]).unwrap();
    assert_eq!(text(&lfs(&["getstripe", "-c"], &pooled)).trim(), "2");
    assert!(text(&lfs(&["check", "servers"], &mount)).contains("nacre-OST0002"));
}

#[test]
fn what_getstripe_prints_makes_the_same_layout_again_and_so_does_a_copy() {
    let dir = Dir::new();
    dir.up(&["--osts", "3"]);
    let mount = dir.mount();
    let wide = mount.join("wide");
    text(&lfs(&["setstripe", "-c", "-1", "-S", "1M"], &wide));
    fs::write(&wide, vec![3; 4 << 20]).unwrap();
    let progressive = mount.join("dir");
    fs::create_dir(&progressive).unwrap();
    text(&lfs(&["setstripe", "-E", "1M", "-c", "1", "-E", "-1", "-c", "2"], &progressive));
    let file = progressive.join("file");
    fs::write(&file, vec![5; 3 << 20]).unwrap();
    for (source, name) in [(&wide, "wide2"), (&progressive, "dir2"), (&file, "file2")] {
        let layout = |path: &Path| {
            let shown = text(&lfs(&["getstripe", "-d", "-y"], path));
            let of_file = ["path:", "fid:", "layout_gen:"];
            let lines = shown.lines().filter(|line| !of_file.iter().any(|key| line.contains(key)));
            lines.collect::<Vec<_>>().join("\n")
        };
        let (yaml, again, copy) =
            (mount.join("yaml"), mount.join(name), mount.join(format!("{name}-copy")));
        fs::write(&yaml, text(&lfs(&["getstripe", "-d", "-y"], source))).unwrap();
        if source.is_dir() {
            fs::create_dir(&again).unwrap();
            fs::create_dir(&copy).unwrap();
        }
        let (yaml, from) = (yaml.display().to_string(), source.display().to_string());
        text(&lfs(&["setstripe", "--yaml", &yaml], &again));
        text(&lfs(&["setstripe", "--copy", &from], &copy));
        if source.is_file() {
            // Objects come to be where the first bytes are.
            fs::write(&again, vec![1; 3 << 20]).unwrap();
        }
        assert_eq!(layout(&again), layout(source));
        let size = |path: &Path| text(&lfs(&["getstripe", "-d", "-S"], path));
        assert_eq!(size(&copy), size(source));
    }
}
