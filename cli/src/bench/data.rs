//! Sequential and random I/O by several jobs, each on a file of its own.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::size::ByteSize;

/// How the file is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// From the start, a new file, fsync at the end.
    SequentialWrite,
    /// From the start, page cache dropped before.
    SequentialRead,
    /// Block-aligned offsets of the existing file, fsync at the end.
    RandomWrite,
    /// Block-aligned offsets, page cache dropped before.
    RandomRead,
}

impl Access {
    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::SequentialWrite => "sequential write",
            Self::SequentialRead => "sequential read",
            Self::RandomWrite => "random write",
            Self::RandomRead => "random read",
        }
    }

    fn writes(self) -> bool {
        matches!(self, Self::SequentialWrite | Self::RandomWrite)
    }

    fn random(self) -> bool {
        matches!(self, Self::RandomWrite | Self::RandomRead)
    }
}

/// One phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// How.
    pub(crate) access: Access,
    /// Bytes of one read or write.
    pub(crate) block: ByteSize,
    /// Threads, one file each.
    pub(crate) jobs: usize,
    /// Bytes of each file.
    pub(crate) size: u64,
    /// Longest time.
    pub(crate) limit: Duration,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} blocks, {} jobs", self.access.words(), self.block, self.jobs)
    }
}

/// Runs one phase in `dir`; bytes per second of all jobs together. Writers' fsync counts.
pub(crate) fn run(dir: &Path, work: &Workload) -> io::Result<f64> {
    if !work.access.writes() {
        drop_caches();
    }
    let barrier = Barrier::new(work.jobs);
    let results: Vec<io::Result<(u64, Instant, Instant)>> = std::thread::scope(|scope| {
        let barrier = &barrier;
        let spawn = |job: usize| {
            scope.spawn(move || {
                let file = open(&dir.join(format!("job.{job}")), work);
                barrier.wait();
                let start = Instant::now();
                let bytes = go_through(&file?, work, job as u64)?;
                Ok((bytes, start, Instant::now()))
            })
        };
        let jobs: Vec<_> = (0..work.jobs).map(spawn).collect();
        let panicked = |_| io::Error::other("a job panicked");
        jobs.into_iter().map(|job| job.join().map_err(panicked).and_then(|r| r)).collect()
    });
    let mut bytes = 0;
    let mut span: Option<(Instant, Instant)> = None;
    for result in results {
        let (n, start, end) = result?;
        bytes += n;
        span = Some(span.map_or((start, end), |(s, e)| (s.min(start), e.max(end))));
    }
    let seconds = span.map_or(0.0, |(start, end)| (end - start).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Ok(bytes as f64 / seconds.max(1e-9))
}

fn open(path: &Path, work: &Workload) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(work.access.writes())
        .create(work.access.writes())
        .truncate(work.access == Access::SequentialWrite)
        .open(path)?;
    if !work.access.writes() {
        // Without root the caches of the machine stay; at least the kernel's pages of this file go.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(file)
}

fn go_through(file: &File, work: &Workload, job: u64) -> io::Result<u64> {
    let block = usize::try_from(work.block.0).map_err(io::Error::other)?;
    let mut rng = SmallRng::seed_from_u64(job);
    let mut buffer = vec![0; block];
    // Bytes that no layer can make smaller.
    rng.fill_bytes(&mut buffer);
    let size =
        if work.access == Access::SequentialWrite { work.size } else { file.metadata()?.len() };
    let blocks = (size / work.block.0).max(1);
    // Random phases visit a quarter of the blocks: enough to measure, short on slow disks.
    let rounds = if work.access.random() { blocks.div_ceil(4) } else { blocks };
    let deadline = Instant::now() + work.limit;
    let mut bytes = 0;
    for round in 0..rounds {
        let at = if work.access.random() { rng.random_range(0..blocks) } else { round };
        let offset = at * work.block.0;
        if work.access.writes() {
            file.write_all_at(&buffer, offset)?;
            bytes += work.block.0;
        } else {
            match file.read_at(&mut buffer, offset)? {
                0 => break,
                n => bytes += n as u64,
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    if work.access.writes() {
        file.sync_all()?;
    }
    Ok(bytes)
}

/// As root: writes back and forgets what the machine has cached, so that reads are cold.
fn drop_caches() {
    rustix::fs::sync();
    // Without root this fails, and the reads are as warm as they are.
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
}
