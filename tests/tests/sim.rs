//! The simulation, seed by seed, each in a process of its own.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Mutex;

/// Seeds of every run.
const SEEDS: u64 = 100;
/// Seeds that are run twice.
const TWICE: u64 = 10;

/// What a seed gave.
#[derive(Debug)]
struct Ran {
    seed: u64,
    kept: bool,
    output: String,
}

impl Ran {
    /// Its first line: the hash of the trace, and counts.
    fn trace(&self) -> &str {
        self.output.lines().next().unwrap_or_default()
    }
}

fn run(seed: u64) -> Ran {
    let ran = Command::new(env!("CARGO_BIN_EXE_nacre-sim"))
        .arg(seed.to_string())
        .output()
        .expect("the simulation was built with this test");
    let mut output = String::from_utf8_lossy(&ran.stdout).into_owned();
    output.push_str(&String::from_utf8_lossy(&ran.stderr));
    Ran { seed, kept: ran.status.success(), output }
}

/// Runs seeds, as many at a time as there are processors.
fn run_all(seeds: impl IntoIterator<Item = u64>) -> Vec<Ran> {
    let queue: Mutex<VecDeque<u64>> = Mutex::new(seeds.into_iter().collect());
    let all = Mutex::new(Vec::new());
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics with it").pop_front();
                    let Some(seed) = next else { return };
                    let ran = run(seed);
                    all.lock().expect("nobody panics with it").push(ran);
                }
            });
        }
    });
    let mut all = all.into_inner().expect("nobody panicked with it");
    all.sort_by_key(|ran| ran.seed);
    all
}

#[test]
fn every_seed_keeps_every_promise() {
    let all = run_all(0..SEEDS);
    let broken: Vec<&Ran> = all.iter().filter(|ran| !ran.kept).collect();
    for ran in &broken {
        eprintln!("{}", ran.output);
    }
    let seeds: Vec<u64> = broken.iter().map(|ran| ran.seed).collect();
    assert!(
        broken.is_empty(),
        "{} of {SEEDS} seeds break a promise: {seeds:?}; to run one of them:\n\
         cargo run -p nacre-tests --bin nacre-sim -- SEED --print",
        broken.len()
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let seeds = 0..TWICE;
    let (first, second) = (run_all(seeds.clone()), run_all(seeds));
    for (one, two) in first.iter().zip(&second) {
        assert_eq!(one.trace(), two.trace(), "seed {}", one.seed);
        assert!(one.trace().contains("trace"), "seed {}: {}", one.seed, one.output);
    }
}
