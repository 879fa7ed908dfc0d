//! Workers on a mount, in a process of their own.
//!
//! Whoever starts daemons must hold nothing open on their mount: between fork and exec the child
//! closes its copies, which asks the mount, which waits for the very daemon that is to start.
//!
//! `nacre-worker FOLDER SEED WORKERS` obeys lines on its standard input and answers each with one
//! on its standard output:
//!
//! ```text
//! steps    steps of each worker so far, or `failed` and why
//! check    stops all work, compares everything: `ok`, or what is wrong
//! go       work goes on
//! ```

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use nacre_tests::oracle::Worker;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

struct Arena {
    /// Held for reading during an operation, for writing while nobody may work.
    gate: RwLock<()>,
    over: AtomicBool,
    steps: Vec<AtomicU64>,
    workers: Vec<Mutex<Worker>>,
    failures: Mutex<Vec<String>>,
}

impl Arena {
    fn work(&self, index: usize) {
        let (Some(worker), Some(steps)) = (self.workers.get(index), self.steps.get(index)) else {
            return;
        };
        while !self.over.load(Ordering::Acquire) {
            let _open = self.gate.read();
            if let Err(error) = worker.lock().step() {
                self.failures.lock().push(format!("worker {index}: {error:#}"));
                return;
            }
            steps.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn steps(&self) -> String {
        let failures = self.failures.lock();
        if !failures.is_empty() {
            return format!("failed {}", failures.join("; "));
        }
        let steps = self.steps.iter().map(|steps| steps.load(Ordering::Acquire).to_string());
        steps.collect::<Vec<_>>().join(" ")
    }

    fn check(&self) -> String {
        for worker in &self.workers {
            if let Err(error) = worker.lock().check() {
                return format!("{error:#}").replace('\n', " ");
            }
        }
        let failures = self.failures.lock();
        if failures.is_empty() { "ok".to_owned() } else { failures.join("; ") }
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("FOLDER")?);
    let seed: u64 = arguments.next().context("SEED")?.parse()?;
    let count: usize = arguments.next().context("WORKERS")?.parse()?;
    let mut workers = Vec::new();
    for (index, number) in (0..count).zip(seed * 100..) {
        workers.push(Mutex::new(Worker::new(folder.join(format!("w{index}")), number)?));
    }
    let arena = Arc::new(Arena {
        gate: RwLock::new(()),
        over: AtomicBool::new(false),
        steps: (0..count).map(|_| AtomicU64::new(0)).collect(),
        workers,
        failures: Mutex::new(Vec::new()),
    });
    for index in 0..count {
        let arena = Arc::clone(&arena);
        std::thread::spawn(move || arena.work(index));
    }
    let mut closed: Option<RwLockWriteGuard<'_, ()>> = None;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let answer = match line?.as_str() {
            "steps" => arena.steps(),
            "check" => {
                closed = Some(closed.unwrap_or_else(|| arena.gate.write()));
                arena.check()
            }
            "go" => {
                closed = None;
                "going".to_owned()
            }
            other => format!("what is {other}?"),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    arena.over.store(true, Ordering::Release);
    Ok(())
}
