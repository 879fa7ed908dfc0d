//! Metadata phases in the manner of mdtest: create, stat, read, unlink.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::size::ByteSize;

/// One set of phases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree {
    /// Threads.
    pub(crate) jobs: usize,
    /// Each job in a directory of its own, or all in one.
    pub(crate) private: bool,
    /// Files of all jobs together.
    pub(crate) files: usize,
    /// Bytes of each file.
    pub(crate) file_size: ByteSize,
    /// Longest time of the create phase; the others work on what it made.
    pub(crate) limit: Duration,
}

/// Operations per second of one phase.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    /// `create`, `stat`, `read` or `unlink`.
    pub(crate) phase: &'static str,
    /// Operations per second of all jobs together.
    pub(crate) per_second: f64,
}

/// Runs the four phases in a fresh folder below `dir`.
pub(crate) fn run(dir: &Path, tree: &Tree) -> anyhow::Result<Vec<Rate>> {
    let root = dir.join("meta");
    fs::create_dir(&root).with_context(|| format!("create {}", root.display()))?;
    let folders: Vec<PathBuf> = (0..tree.jobs)
        .map(|job| if tree.private { root.join(format!("d{job}")) } else { root.clone() })
        .collect();
    if tree.private {
        for folder in &folders {
            fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
        }
    }
    let made: Vec<AtomicUsize> = (0..tree.jobs).map(|_| AtomicUsize::new(0)).collect();
    let quota = tree.files.div_ceil(tree.jobs);
    let content = vec![0x5a; usize::try_from(tree.file_size.0)?];
    let deadline = Instant::now() + tree.limit;

    let create = phase("create", &folders, |job, folder| {
        let count = made.get(job).ok_or_else(|| anyhow!("no job {job}"))?;
        for n in 0..quota {
            if Instant::now() >= deadline {
                break;
            }
            File::create_new(file(folder, job, n))?.write_all(&content)?;
            count.store(n + 1, Ordering::Relaxed);
        }
        Ok(count.load(Ordering::Relaxed))
    })?;
    let each = |name, work: &(dyn Fn(&Path) -> anyhow::Result<()> + Sync)| {
        phase(name, &folders, |job, folder| {
            let count = made.get(job).map_or(0, |n| n.load(Ordering::Relaxed));
            for n in 0..count {
                work(&file(folder, job, n))?;
            }
            Ok(count)
        })
    };
    let stat = each("stat", &|path| Ok(fs::symlink_metadata(path).map(drop)?))?;
    let read = each("read", &|path| {
        let mut bytes = Vec::new();
        Ok(File::open(path)?.read_to_end(&mut bytes).map(drop)?)
    })?;
    let unlink = each("unlink", &|path| Ok(fs::remove_file(path)?))?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    Ok(vec![create, stat, read, unlink])
}

fn file(folder: &Path, job: usize, n: usize) -> PathBuf {
    folder.join(format!("f.{job}.{n}"))
}

fn phase(
    name: &'static str,
    folders: &[PathBuf],
    work: impl Fn(usize, &Path) -> anyhow::Result<usize> + Sync,
) -> anyhow::Result<Rate> {
    let barrier = Barrier::new(folders.len());
    let started = std::sync::OnceLock::new();
    let counts: Vec<anyhow::Result<usize>> = std::thread::scope(|scope| {
        let (barrier, work, started) = (&barrier, &work, &started);
        let spawn = |(job, folder): (usize, &'_ PathBuf)| {
            let folder = folder.clone();
            scope.spawn(move || {
                barrier.wait();
                started.get_or_init(Instant::now);
                work(job, &folder)
            })
        };
        let jobs: Vec<_> = folders.iter().enumerate().map(spawn).collect();
        let panicked = |_| anyhow!("a job panicked");
        jobs.into_iter().map(|job| job.join().map_err(panicked).and_then(|r| r)).collect()
    });
    let seconds = started.get().map_or(0.0, |start| start.elapsed().as_secs_f64());
    let mut operations = 0;
    for count in counts {
        operations += count.with_context(|| format!("{name} phase"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Ok(Rate { phase: name, per_second: operations as f64 / seconds.max(1e-9) })
}
