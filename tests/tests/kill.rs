//! SIGKILL at any moment: whatever was acknowledged is there after the restart, and what is on the
//! disks is consistent.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nacre_tests::{Cluster, Role, Shape, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const WORKERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The process that works on the mount.
struct Workers {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Workers {
    fn start(folder: &Path, seed: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nacre-worker"));
        command.arg(folder).arg(seed.to_string()).arg(WORKERS.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the worker was built with this test");
        let asks = child.stdin.take().expect("it is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Self { child, asks, answers }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.asks, "{question}").expect("the worker listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the worker answers");
        answer.trim_end().to_owned()
    }

    fn steps(&mut self) -> Vec<u64> {
        let answer = self.ask("steps");
        assert!(!answer.starts_with("failed"), "{answer}");
        answer.split(' ').map(|steps| steps.parse().expect("a number")).collect()
    }

    /// Waits until every worker has done `count` more operations.
    fn await_steps(&mut self, count: u64) {
        let before = self.steps();
        let done = wait::until(PATIENCE, || {
            self.steps().iter().zip(&before).all(|(now, then)| *now >= then + count)
        });
        assert!(done, "the workers do not go on within {PATIENCE:?}");
    }

    /// Stops all work and compares everything with what was acknowledged.
    fn check(&mut self, when: &str) {
        let answer = self.ask("check");
        assert_eq!(answer, "ok", "{when}");
    }

    fn go(&mut self) {
        assert_eq!(self.ask("go"), "going");
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The servers that die in this round.
fn victims(cluster: &Cluster, rng: &mut StdRng) -> Vec<Role> {
    match rng.random_range(0..8) {
        0 => vec![Role::Mgs],
        1..=3 => vec![Role::Mds],
        4 | 5 => vec![Role::Oss(rng.random_range(0..2))],
        _ => cluster.servers(),
    }
}

fn round(cluster: &mut Cluster, workers: &mut Workers, rng: &mut StdRng) {
    workers.await_steps(rng.random_range(1..12));
    let victims = victims(cluster, rng);
    let began = Instant::now();
    for role in &victims {
        cluster.kill(*role);
    }
    // Some of what the workers do next fails or waits.
    let pause = Duration::from_millis(rng.random_range(0..400));
    wait::until(pause, || false);
    cluster.start_all().unwrap_or_else(|error| panic!("after the death of {victims:?}: {error:#}"));
    workers.await_steps(2);
    let going = began.elapsed();
    workers.check(&format!("after the death of {victims:?}"));

    // Killed or stopped, what is on the disks must be consistent.
    for role in cluster.servers() {
        if rng.random_bool(0.5) {
            cluster.kill(role);
        } else {
            cluster.stop(role).expect("SIGTERM drains and exits with 0");
        }
    }
    cluster.fsck().unwrap_or_else(|error| panic!("fsck after the death of {victims:?}: {error:#}"));
    cluster.start_all().expect("every server comes up again");
    workers.check("after a restart of all");
    workers.go();
    println!("death of {victims:?}: going on after {going:?}, checked after {:?}", began.elapsed());
}

#[test]
fn nothing_acknowledged_is_lost_when_daemons_are_killed() {
    let rounds = from_environment("KILL_ROUNDS", 30);
    let seed = from_environment("KILL_SEED", 1);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(Shape::default());
    // Clients and servers may say that a peer is gone: it is.
    for word in ["WARN", "ost does not answer", "written data is lost"] {
        cluster.announce(word);
    }
    let mut workers = Workers::start(&cluster.mnt(), seed);
    for _ in 0..rounds {
        round(&mut cluster, &mut workers, &mut rng);
    }
    workers.check("at the end");
    let steps: u64 = workers.steps().iter().sum();
    println!("seed {seed}: {rounds} rounds, {steps} operations");
    drop(workers);
    cluster.finish();
}
