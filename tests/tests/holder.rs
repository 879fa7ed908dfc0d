//! The mount survives its daemon: programs that live in it notice a pause.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nacre_tests::{Cluster, Role, Shape, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The program in the mount.
struct Tenant {
    child: Child,
    asks: ChildStdin,
    lines: Receiver<String>,
    steps: u64,
    /// The longest that one step took, in microseconds.
    longest: u64,
}

impl Tenant {
    fn start(folder: &Path, how: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nacre-tenant"));
        command.arg(folder).arg(how).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was built with this test");
        let asks = child.stdin.take().expect("it is a pipe");
        let out = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (tell, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            let _ends = out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line));
        });
        Self { child, asks, lines, steps: 0, longest: 0 }
    }

    fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(PATIENCE).expect("the program goes on");
        assert!(!line.starts_with("failed"), "{line}");
        if let Some(micros) = line.strip_prefix("step ") {
            self.steps += 1;
            self.longest = self.longest.max(micros.parse().expect("a number"));
        }
        line
    }

    fn await_steps(&mut self, count: u64) {
        let until = self.steps + count;
        while self.steps < until {
            self.line();
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.asks, "{line}").expect("the program listens");
    }

    /// It stops, and finds everything as it must be.
    fn check(&mut self) {
        self.say("check");
        while self.line() != "ok" {}
    }

    fn leave(mut self) {
        self.say("leave");
        assert!(self.child.wait().expect("it is a child").success());
    }
}

/// The daemon that serves a mount: the child of its holder.
fn daemon(cluster: &Cluster, role: Role) -> Option<Pid> {
    let holder = cluster.pid(role)?;
    let path = format!("/proc/{holder}/task/{holder}/children");
    let children = std::fs::read_to_string(path).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

/// Waits for a daemon that is not this one.
fn successor(cluster: &Cluster, role: Role, of: Pid) -> Pid {
    let found = wait::for_some(PATIENCE, || daemon(cluster, role).filter(|pid| *pid != of));
    found.expect("the holder starts another daemon")
}

/// Whether another mount is refused both locks that the program holds.
fn locked_elsewhere(mount: &Path) -> bool {
    let open =
        |name: &str| File::options().write(true).open(mount.join(name)).expect("it is there");
    let (flocked, ranged) = (open("flocked"), open("ranged"));
    let how = FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&flocked, how).is_err() && rustix::fs::fcntl_lock(&ranged, how).is_err()
}

fn two_mounts() -> Cluster {
    let cluster = Cluster::start(Shape { mounts: 2, ..Shape::default() });
    File::create(cluster.mnt().join("shared")).expect("it is new");
    cluster
}

/// Somebody who appends to the same file by the other mount.
struct Other {
    file: File,
    entries: u64,
}

impl Other {
    fn new(cluster: &Cluster) -> Self {
        let path = cluster.mount_point(Role::Mount(1)).join("shared");
        let file = File::options().append(true).open(path).expect("it is there");
        Self { file, entries: 0 }
    }

    fn entry(number: u64) -> String {
        format!("{:<16}{number:>47}\n", "other")
    }

    fn append(&mut self) {
        for _ in 0..5 {
            self.file.write_all(Self::entry(self.entries).as_bytes()).expect("it appends");
            self.entries += 1;
        }
    }

    fn check(&self, cluster: &Cluster) {
        let shared = std::fs::read_to_string(cluster.mnt().join("shared")).expect("it is there");
        let mine = shared.lines().filter(|line| line.starts_with("other"));
        let expected: Vec<_> = (0..self.entries).map(Self::entry).collect();
        assert!(mine.eq(expected.iter().map(|line| line.trim_end())), "each is there once");
    }
}

#[test]
fn a_program_in_the_mount_does_not_notice_that_its_daemon_is_killed() {
    let kills = from_environment("HOLDER_KILLS", 10);
    let seed = from_environment("HOLDER_SEED", 1);
    let mut rng = StdRng::seed_from_u64(seed);
    let cluster = two_mounts();
    let mut tenant = Tenant::start(&cluster.mnt(), "durable");
    let mut pid = daemon(&cluster, Role::Mount(0)).expect("it runs");
    let mut other = Other::new(&cluster);
    for kill in 0..kills {
        tenant.await_steps(rng.random_range(1..40));
        other.append();
        kill_process(pid, Signal::KILL).expect("it runs");
        pid = successor(&cluster, Role::Mount(0), pid);
        // Now and then the next is killed while it takes over.
        if rng.random_bool(0.7) {
            tenant.await_steps(rng.random_range(1..10));
        }
        println!("kill {kill}: {} steps, the longest {} us", tenant.steps, tenant.longest);
        tenant.longest = 0;
    }
    tenant.await_steps(20);
    tenant.check();
    other.check(&cluster);
    drop(other);
    let other = cluster.mount_point(Role::Mount(1));
    assert!(locked_elsewhere(&other), "the locks are held");
    assert!(!other.join("nameless").exists());
    tenant.leave();
    assert!(!locked_elsewhere(&other), "the locks went with the program");
    cluster.finish();
}

#[test]
fn a_daemon_that_is_asked_to_hands_over_with_all_that_was_written() {
    let cluster = two_mounts();
    let mut tenant = Tenant::start(&cluster.mnt(), "buffered");
    let mut pid = daemon(&cluster, Role::Mount(0)).expect("it runs");
    for round in 0..5 {
        tenant.await_steps(30);
        // Either of the two may be asked.
        let holder = cluster.pid(Role::Mount(0)).and_then(|pid| i32::try_from(pid).ok());
        let holder = holder.and_then(Pid::from_raw).expect("it runs");
        let asked = if round % 2 == 0 { pid } else { holder };
        kill_process(asked, Signal::USR2).expect("it runs");
        pid = successor(&cluster, Role::Mount(0), pid);
        tenant.await_steps(10);
        println!("hand-over {round}: the longest step took {} us", tenant.longest);
        tenant.longest = 0;
    }
    tenant.check();
    assert!(locked_elsewhere(&cluster.mount_point(Role::Mount(1))), "the locks are held");
    tenant.leave();
    cluster.finish();
}

#[test]
fn what_only_the_killed_daemon_had_is_told_by_the_next_fsync() {
    let mut cluster = two_mounts();
    cluster.announce("lost");
    let mut file = File::create(cluster.mnt().join("f")).expect("it is new");
    file.write_all(b"synced, ").expect("write");
    file.sync_all().expect("sync");
    let pid = daemon(&cluster, Role::Mount(0)).expect("it runs");
    file.write_all(b"not yet").expect("write");
    kill_process(pid, Signal::KILL).expect("it runs");
    successor(&cluster, Role::Mount(0), pid);
    let told = file.sync_all();
    let elsewhere = cluster.mount_point(Role::Mount(1)).join("f");
    let found = || std::fs::read(&elsewhere).expect("it is there");
    match told {
        // It may have been sent already.
        Ok(()) => assert_eq!(found(), b"synced, not yet"),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
            assert_eq!(found(), b"synced, ", "what was synced is there");
            file.write_all_at(b"not yet", 8).expect("write");
            file.sync_all().expect("it is told once");
            assert_eq!(found(), b"synced, not yet");
        }
    }
    drop(file);
    cluster.finish();
}

#[test]
fn who_waits_for_a_lock_while_the_daemon_is_killed_gets_it() {
    let mut cluster = two_mounts();
    // Of the files that were closed just before.
    cluster.announce("lost");
    let open =
        |mount: &Path| File::options().write(true).open(mount.join("shared")).expect("it is there");
    let holds = open(&cluster.mount_point(Role::Mount(1)));
    rustix::fs::flock(&holds, FlockOperation::LockExclusive).expect("nobody has it");
    let waits = open(&cluster.mnt());
    let (tell, told) = sync_channel(1);
    let waiting = std::thread::spawn(move || {
        tell.send(()).expect("it is waited for");
        rustix::fs::flock(&waits, FlockOperation::LockExclusive)
    });
    told.recv().expect("the thread runs");
    let mut pid = daemon(&cluster, Role::Mount(0)).expect("it runs");
    for name in ["one", "two"] {
        // Others are served beside it, before and after.
        std::fs::write(cluster.mnt().join(name), name).expect("write");
        kill_process(pid, Signal::KILL).expect("it runs");
        pid = successor(&cluster, Role::Mount(0), pid);
        assert!(cluster.mnt().join(name).exists());
    }
    assert!(!waiting.is_finished(), "somebody else has it");
    drop(holds);
    waiting.join().expect("no panic").expect("it is free now");
    cluster.finish();
}

#[test]
fn a_mount_without_a_daemon_for_longer_than_its_lease_loses_its_locks_and_goes_on() {
    let settings = vec!["mds.lease_seconds=2".to_owned()];
    let mut cluster = Cluster::start(Shape { mounts: 2, settings, ..Shape::default() });
    for word in ["WARN", "lost", "evicted"] {
        cluster.announce(word);
    }
    let (path, elsewhere) =
        (cluster.mnt().join("f"), cluster.mount_point(Role::Mount(1)).join("f"));
    std::fs::write(&path, "old").expect("write");
    let file = File::options().read(true).write(true).open(&path).expect("it is there");
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
    file.sync_all().expect("sync");
    let pid = daemon(&cluster, Role::Mount(0)).expect("it runs");
    // The holder is stopped first, so that nobody takes over.
    cluster.freeze(Role::Mount(0));
    kill_process(pid, Signal::KILL).expect("it runs");
    let other = File::options().write(true).open(&elsewhere).expect("it is there");
    let how = FlockOperation::NonBlockingLockExclusive;
    assert!(wait::until(PATIENCE, || rustix::fs::flock(&other, how).is_ok()), "it is free now");
    std::fs::write(&elsewhere, "newer").expect("write");

    cluster.thaw(Role::Mount(0));
    successor(&cluster, Role::Mount(0), pid);
    assert_eq!(std::fs::read(&path).expect("it is there"), b"newer");
    let sees = wait::until(PATIENCE, || {
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 0).is_ok() && &bytes == b"newer"
    });
    assert!(sees, "the open file shows the same");
    std::fs::write(cluster.mnt().join("g"), "new").expect("it works as any other");
    drop((file, other));
    cluster.finish();
}

#[test]
fn without_a_holder_the_mount_ends_with_its_daemon() {
    let mut cluster = two_mounts();
    cluster.announce("lost");
    let target = cluster.dir().join("plain");
    std::fs::create_dir(&target).expect("it is new");
    let source = format!("{}:/nacre", cluster.address(Role::Mgs));
    let mut command = Command::new(nacre_tests::binary::nacre());
    command.args(["mount", "--announce", "-o", "noholder", &source]).arg(&target);
    let mut mount = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    let stdout = mount.stdout.take().expect("it is a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("it says something");
    assert_eq!(line, "ready\n");
    mount.kill().expect("it runs");
    mount.wait().expect("it is a child");
    let gone = std::fs::metadata(&target).expect_err("nobody serves it");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOTCONN));
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).expect("it is mounted");
    cluster.finish();
}
