//! SIGKILL at any moment: whatever was acknowledged is there after the restart, and what is on the
//! disks is consistent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use nacre_tests::oracle::Worker;
use nacre_tests::{Cluster, Role, Shape, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const WORKERS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What the workers and the one who kills share.
struct Arena {
    /// Held for reading during an operation, for writing while nobody may work.
    gate: RwLock<()>,
    over: AtomicBool,
    steps: Vec<AtomicU64>,
    failures: Mutex<Vec<String>>,
}

impl Arena {
    fn work(&self, index: usize, worker: &Mutex<Worker>) {
        while !self.over.load(Ordering::Acquire) {
            let _open = self.gate.read().expect("nobody panics with the gate");
            if let Err(error) = worker.lock().expect("one worker each").step() {
                self.failures.lock().expect("no panic").push(format!("worker {index}: {error:#}"));
                return;
            }
            if let Some(steps) = self.steps.get(index) {
                steps.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    fn assert_well(&self) {
        let failures = self.failures.lock().expect("no panic");
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    /// Waits until every worker has done `count` more operations.
    fn await_steps(&self, count: u64) {
        let now: Vec<_> = self.steps.iter().map(|steps| steps.load(Ordering::Acquire)).collect();
        let gone = || {
            let failed = !self.failures.lock().expect("no panic").is_empty();
            let mut pairs = self.steps.iter().zip(&now);
            failed || pairs.all(|(steps, then)| steps.load(Ordering::Acquire) >= then + count)
        };
        let done = wait::until(PATIENCE, gone);
        self.assert_well();
        assert!(done, "the workers do not go on within {PATIENCE:?}");
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

fn round(cluster: &mut Cluster, arena: &Arena, workers: &[Mutex<Worker>], rng: &mut StdRng) {
    arena.await_steps(rng.random_range(1..12));
    let began = Instant::now();
    let victims = victims(cluster, rng);
    for role in &victims {
        cluster.kill(*role);
    }
    // Some of what the workers do next fails or waits.
    let pause = Duration::from_millis(rng.random_range(0..400));
    wait::until(pause, || false);
    cluster.start_all().unwrap_or_else(|error| panic!("after the death of {victims:?}: {error:#}"));
    let started = began.elapsed();
    arena.await_steps(2);
    let going = began.elapsed();

    let _closed = arena.gate.write().expect("nobody panics with the gate");
    arena.assert_well();
    check_all(workers, &format!("after the death of {victims:?}"));
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
    check_all(workers, "after a restart of all");
    let all = began.elapsed();
    println!("death of {victims:?}: restarted {started:?}, going on {going:?}, checked {all:?}");
}

fn check_all(workers: &[Mutex<Worker>], when: &str) {
    for worker in workers {
        if let Err(error) = worker.lock().expect("one worker each").check() {
            panic!("{when}: {error:#}");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_daemons_are_killed() {
    let rounds = from_environment("KILL_ROUNDS", 30);
    let seed = from_environment("KILL_SEED", 1);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(Shape::default());
    // Clients and servers may say that a peer is gone: it is.
    cluster.announce("WARN");
    for word in ["ost does not answer", "written data is lost"] {
        cluster.announce(word);
    }
    let folder = |index: u64| cluster.mnt().join(format!("w{index}"));
    let workers: Vec<_> = (0..WORKERS)
        .map(|index| Mutex::new(Worker::new(folder(index), seed * 100 + index).expect("mkdir")))
        .collect();
    let arena = Arena {
        gate: RwLock::new(()),
        over: AtomicBool::new(false),
        steps: (0..WORKERS).map(|_| AtomicU64::new(0)).collect(),
        failures: Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| {
        for (index, worker) in workers.iter().enumerate() {
            let arena = &arena;
            scope.spawn(move || arena.work(index, worker));
        }
        let _stop = StopOnDrop(&arena);
        for number in 0..rounds {
            round(&mut cluster, &arena, &workers, &mut rng);
            println!("round {number}: {:?}", arena.steps);
        }
    });
    arena.assert_well();
    check_all(&workers, "at the end");
    let steps: u64 = arena.steps.iter().map(|steps| steps.load(Ordering::Acquire)).sum();
    let refused: u64 = workers.iter().map(|w| w.lock().expect("one worker each").refused).sum();
    println!("seed {seed}: {rounds} rounds, {steps} operations, {refused} refused with EIO");
    cluster.finish();
}

/// Ends the workers also when the round panics: the scope waits for them.
struct StopOnDrop<'a>(&'a Arena);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}
