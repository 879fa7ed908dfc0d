//! `nacre bench`: what striping, block size and the number of jobs do to throughput, and what
//! metadata costs, each figure beside a plain local directory of the same run.

mod data;
mod meta;
mod plot;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use self::data::{Access, Workload};
use self::report::{Measure, Report};
use crate::size::ByteSize;

/// Measures a mounted directory beside a plain local one.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// A directory on a Nacre mount (or, with `--stripe-counts 0`, on anything).
    dir: PathBuf,
    /// A directory on a local disk to compare with.
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "DIR")]
    local: PathBuf,
    /// Stripe counts to try; 0 leaves the directory's default. Default: 1, 2, 4 … up to all OSTs.
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    stripe_counts: Vec<u16>,
    /// Block sizes of sequential I/O.
    #[arg(long, value_delimiter = ',', default_value = "1M", value_name = "SIZE,…")]
    block_sizes: Vec<ByteSize>,
    /// Block sizes of random I/O.
    #[arg(long, value_delimiter = ',', default_value = "4k", value_name = "SIZE,…")]
    random_block_sizes: Vec<ByteSize>,
    /// How many jobs work at once, each on a file of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_name = "N,…")]
    jobs: Vec<usize>,
    /// Bytes of all jobs' files together.
    #[arg(long, default_value = "512M")]
    size: ByteSize,
    /// Files of each metadata phase.
    #[arg(long, default_value_t = 4000, value_name = "N")]
    files: usize,
    /// Bytes written to each file of the metadata phases.
    #[arg(long, default_value = "4k", value_name = "SIZE")]
    file_size: ByteSize,
    /// Longest time of one phase, in seconds: a slow file system does less work, not longer.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// Only this half.
    #[arg(long)]
    only: Option<Half>,
    /// Also write all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write a plot of throughput against stripe count to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A half of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Half {
    /// Sequential and random I/O.
    Data,
    /// Create, stat, read, unlink.
    Meta,
}

/// Runs it and prints a table.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    ensure!(
        !args.jobs.is_empty() && args.jobs.iter().all(|n| (1..=1024).contains(n)),
        "--jobs takes numbers from 1 to 1024"
    );
    ensure!(args.size.0 >= 1 << 20, "--size must be at least 1M");
    let here = WorkDir::new(&args.dir)?;
    let local = WorkDir::new(&args.local)?;
    let counts = if args.stripe_counts.is_empty() {
        doubling(ost_count(&here.path)?)
    } else {
        args.stripe_counts.clone()
    };
    let bar = progress(args, counts.len());
    let mut report = Report::default();
    if args.only != Some(Half::Meta) {
        measure_data(args, &here.path, &local.path, &counts, &bar, &mut report)?;
    }
    if args.only != Some(Half::Data) {
        measure_meta(args, &here.path, &local.path, &bar, &mut report)?;
    }
    bar.finish_and_clear();
    print!("{}", report.table());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report).context("encode the figures")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &args.svg {
        fs::write(file, plot::svg(&report)).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn workloads(args: &BenchArgs) -> Vec<Workload> {
    let limit = Duration::from_secs(args.time);
    let mut all = Vec::new();
    for &jobs in &args.jobs {
        let size = args.size.0 / u64::try_from(jobs).unwrap_or(u64::MAX);
        let of = |access, block: ByteSize| Workload { access, block, jobs, size, limit };
        for &block in &args.block_sizes {
            all.push(of(Access::SequentialWrite, block));
            all.push(of(Access::SequentialRead, block));
        }
        for &block in &args.random_block_sizes {
            all.push(of(Access::RandomWrite, block));
            all.push(of(Access::RandomRead, block));
        }
    }
    all
}

fn measure_data(
    args: &BenchArgs,
    here: &Path,
    local: &Path,
    counts: &[u16],
    bar: &ProgressBar,
    report: &mut Report,
) -> anyhow::Result<()> {
    let plan = workloads(args);
    let mut baseline = Vec::new();
    for work in &plan {
        bar.set_message(format!("local directory: {work}"));
        let bytes_per_second =
            data::run(local, work).with_context(|| format!("{work} in {}", local.display()))?;
        baseline.push(bytes_per_second);
        bar.inc(1);
    }
    for &count in counts {
        let dir = here.join(format!("c{count}"));
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        if count != 0 {
            lfs(&["setstripe", "-c", &count.to_string()], &dir)?;
        }
        for (work, plain) in plan.iter().zip(&baseline) {
            bar.set_message(format!("{count} stripes: {work}"));
            let value =
                data::run(&dir, work).with_context(|| format!("{work} in {}", dir.display()))?;
            report.add(Measure::data(work, count, value, *plain));
            bar.inc(1);
        }
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

fn measure_meta(
    args: &BenchArgs,
    here: &Path,
    local: &Path,
    bar: &ProgressBar,
    report: &mut Report,
) -> anyhow::Result<()> {
    for &jobs in &args.jobs {
        for private in [false, true] {
            let work = meta::Tree {
                jobs,
                private,
                files: args.files,
                file_size: args.file_size,
                limit: Duration::from_secs(args.time),
            };
            bar.set_message(format!("local directory: metadata, {jobs} jobs"));
            let plain = meta::run(local, &work)?;
            bar.set_message(format!("metadata, {jobs} jobs"));
            let mine = meta::run(here, &work)?;
            for (mine, plain) in mine.iter().zip(&plain) {
                report.add(Measure::meta(&work, mine, plain));
            }
            bar.inc(2);
        }
    }
    Ok(())
}

fn progress(args: &BenchArgs, counts: usize) -> ProgressBar {
    let data = workloads(args).len() * (counts + 1);
    let meta = args.jobs.len() * 4;
    let steps = match args.only {
        None => data + meta,
        Some(Half::Data) => data,
        Some(Half::Meta) => meta,
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")
        .expect("the template is constant and valid");
    ProgressBar::new(steps as u64).with_style(style)
}

/// 1, 2, 4 … and `most` itself.
fn doubling(most: u16) -> Vec<u16> {
    let mut counts: Vec<u16> = std::iter::successors(Some(1_u16), |n| n.checked_mul(2))
        .take_while(|n| *n < most)
        .collect();
    counts.push(most.max(1));
    counts
}

fn lfs(args: &[&str], dir: &Path) -> anyhow::Result<String> {
    let exe = std::env::current_exe().context("find this program")?;
    let output = Command::new(exe).arg("lfs").args(args).arg(dir).output().context("run lfs")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("lfs {} {}: {}", args.join(" "), dir.display(), reason.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ost_count(dir: &Path) -> anyhow::Result<u16> {
    let listing = lfs(&["osts"], dir)
        .context("is it on a Nacre mount? For any other directory say --stripe-counts 0")?;
    let count = listing.lines().filter(|line| line.contains("OST")).count();
    u16::try_from(count).context("more OSTs than stripes can have")
}

/// A fresh folder below a directory, removed at the end.
struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!(".nacre-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("nacre bench: remove {}: {error}", self.path.display());
        }
    }
}
