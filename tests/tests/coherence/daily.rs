//! What people do with one folder from two machines.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use nacre_tests::wait;

use crate::{cluster, roots};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program in a folder; nothing if it is not installed, which is said loudly.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).current_dir(folder).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("NOT TESTED: {program} does not run here: {error}");
            None
        }
    }
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{out}{err}");
    out.trim().to_owned()
}

#[test]
fn what_is_appended_on_one_mount_is_read_on_another_at_once() {
    let cluster = cluster(2, &[]);
    let mounts = roots(&cluster);
    let mut log = OpenOptions::new().append(true).create(true).open(mounts[0].join("log")).unwrap();
    let follower = File::open(mounts[1].join("log")).unwrap();
    let (mut at, mut whole) = (0, String::new());
    for number in 0..200 {
        let line = format!("{number} {}\n", "-".repeat(number));
        log.write_all(line.as_bytes()).unwrap();
        let mut read = vec![0; 4096];
        let len = follower.read_at(&mut read, at).unwrap();
        assert_eq!(String::from_utf8_lossy(&read[..len]), line, "line {number} at {at}");
        at += len as u64;
        whole += &line;
        if number % 20 == 0 {
            assert_eq!(fs::read_to_string(mounts[1].join("log")).unwrap(), whole);
            assert_eq!(fs::metadata(mounts[1].join("log")).unwrap().len(), at);
        }
    }
    drop((log, follower));
    cluster.finish();
}

#[test]
fn strided_writes_of_three_mounts_make_one_file() {
    const BLOCK: usize = 100_000;
    let cluster = cluster(3, &[]);
    let mounts = roots(&cluster);
    let path = mounts[0].join("shared");
    let text = path.display().to_string();
    cluster.nacre(&["lfs", "setstripe", "-c", "4", "-S", "64K", &text]).expect("setstripe");
    thread::scope(|scope| {
        for (number, mount) in mounts.iter().enumerate() {
            scope.spawn(move || {
                let file = OpenOptions::new().write(true).open(mount.join("shared")).unwrap();
                for block in (number..60).step_by(3) {
                    let data = vec![u8::try_from(block).unwrap() + 1; BLOCK];
                    file.write_all_at(&data, (block * BLOCK) as u64).unwrap();
                }
            });
        }
    });
    for mount in &mounts {
        let whole = fs::read(mount.join("shared")).unwrap();
        assert_eq!(whole.len(), 60 * BLOCK);
        let wrong = (0..whole.len()).find(|at| usize::from(whole[*at]) != at / BLOCK + 1);
        assert_eq!(wrong, None, "on {}", mount.display());
    }
    cluster.finish();
}

/// Without a shared memory between machines the write-ahead log is for one at a time, as on every
/// network file system; the rollback journal needs nothing but locks and coherent files.
#[test]
fn a_sqlite_database_is_written_by_two_mounts_at_a_time() {
    let cluster = cluster(2, &[]);
    let mounts = roots(&cluster);
    let sql = |mount: &Path, file: &str, statement: &str| {
        run(mount, "sqlite3", &["-cmd", ".timeout 30000", file, statement])
    };
    let create = "create table t (mount, number); pragma journal_mode=delete;";
    let Some(created) = sql(&mounts[0], "db", create) else { return };
    assert_eq!(text(&created), "delete");
    thread::scope(|scope| {
        for (number, mount) in mounts.iter().enumerate() {
            scope.spawn(move || {
                for row in 0..20 {
                    let insert = format!("insert into t values ({number}, {row});");
                    text(&sql(mount, "db", &insert).unwrap());
                }
            });
        }
    });
    for mount in &mounts {
        let check = "pragma integrity_check; select count(*), sum(number) from t;";
        assert_eq!(text(&sql(mount, "db", check).unwrap()), "ok\n40|380");
    }
    cluster.finish();
}

#[test]
fn a_sqlite_database_goes_from_mount_to_mount() {
    let cluster = cluster(2, &[]);
    let mounts = roots(&cluster);
    let sql = |mount: &Path, file: &str, statement: &str| {
        run(mount, "sqlite3", &["-cmd", ".timeout 30000", file, statement])
    };
    let Some(_) = sql(&mounts[0], "wal", "pragma journal_mode=wal; create table t (number);")
    else {
        return;
    };
    for row in 0..10 {
        let statement = format!("insert into t values ({row}); select sum(number) from t;");
        let sum = text(&sql(&mounts[row % 2], "wal", &statement).unwrap());
        assert_eq!(sum, (row * (row + 1) / 2).to_string());
    }
    assert_eq!(text(&sql(&mounts[0], "wal", "pragma integrity_check;").unwrap()), "ok");
    cluster.finish();
}

fn git(mount: &Path, arguments: &[&str]) -> Option<Output> {
    let known = ["-C", "repo", "-c", "user.name=n", "-c", "user.email=n@example.org"];
    let safe = ["-c", "safe.directory=*", "-c", "gc.auto=0"];
    run(mount, "git", &[&known[..], &safe, arguments].concat())
}

#[test]
fn two_mounts_commit_into_one_repository() {
    let cluster = cluster(2, &[]);
    let mounts = roots(&cluster);
    fs::create_dir(mounts[0].join("repo")).unwrap();
    let Some(made) = git(&mounts[0], &["init", "--quiet"]) else { return };
    text(&made);
    thread::scope(|scope| {
        for (number, mount) in mounts.iter().enumerate() {
            scope.spawn(move || {
                for commit in 0..6 {
                    let name = format!("f{number}.{commit}");
                    fs::write(mount.join("repo").join(&name), name.repeat(3000)).unwrap();
                    // While the other has the index locked, git says so and does nothing.
                    let done = wait::until(PATIENCE, || {
                        let added = git(mount, &["add", &name]).unwrap();
                        added.status.success()
                            && git(mount, &["commit", "--quiet", "-m", &name, "--", &name])
                                .is_some_and(|committed| committed.status.success())
                    });
                    assert!(done, "commit of {name}");
                }
            });
        }
    });
    for mount in &mounts {
        text(&git(mount, &["fsck", "--strict"]).unwrap());
        assert_eq!(text(&git(mount, &["rev-list", "--count", "HEAD"]).unwrap()), "12");
        assert_eq!(text(&git(mount, &["status", "--porcelain"]).unwrap()), "");
    }
    cluster.finish();
}

#[test]
fn what_is_edited_on_one_mount_is_compiled_on_another() {
    let cluster = cluster(2, &[]);
    let mounts = roots(&cluster);
    for number in 0..8 {
        let mut source = String::new();
        let _ = writeln!(source, "int main(void) {{ return {number}; }}");
        // In place, and by a new file in its place, as editors do.
        if number % 2 == 0 {
            fs::write(mounts[1].join("m.c"), source).unwrap();
        } else {
            fs::write(mounts[1].join("m.c.new"), source).unwrap();
            fs::rename(mounts[1].join("m.c.new"), mounts[1].join("m.c")).unwrap();
        }
        let Some(compiled) = run(&mounts[0], "cc", &["-o", "m", "m.c"]) else { return };
        text(&compiled);
        let ran = Command::new(mounts[1].join("m")).status().unwrap();
        assert_eq!(ran.code(), Some(number));
    }
    cluster.finish();
}
