//! One daemon as a child process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::sync::mpsc;

use super::plan;
use super::state::{Cluster, ProcessId, Role};
use crate::args::ConfigArgs;
use crate::process::send_signal;

/// What the supervisor hears of its children.
#[derive(Debug)]
pub(crate) enum Event {
    /// It serves.
    Ready(usize),
    /// It ended.
    Exited(usize, ExitStatus),
}

/// A daemon's process, or the lack of one.
#[derive(Debug)]
pub(crate) struct Child {
    /// Place in [`Cluster::daemons`].
    pub(crate) at: usize,
    pub(crate) ready: bool,
    pub(crate) process: Option<ProcessId>,
    pub(crate) started: Option<Instant>,
    pub(crate) restarts: u32,
    /// When it shall be started again.
    pub(crate) restart_at: Option<tokio::time::Instant>,
    /// Where in its log this run begins.
    log_from: u64,
}

/// The longest pause before a daemon is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// A daemon that lived so long starts again at once.
const HEALTHY: Duration = Duration::from_secs(30);

impl Child {
    pub(crate) fn new(at: usize) -> Self {
        Self {
            at,
            ready: false,
            process: None,
            started: None,
            restarts: 0,
            restart_at: None,
            log_from: 0,
        }
    }

    /// Starts the process, in a group of its own: Ctrl-C shall reach the supervisor alone.
    pub(crate) fn start(
        &mut self,
        dir: &Path,
        cluster: &mut Cluster,
        config: &ConfigArgs,
        events: &mpsc::Sender<Event>,
    ) -> anyhow::Result<()> {
        let daemon = cluster.daemons.get(self.at).context("a child has a daemon")?;
        let path = plan::log_path(dir, &daemon.name);
        let log = File::options().append(true).create(true).open(&path);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        self.log_from = log.metadata().map_or(0, |metadata| metadata.len());
        let exe = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(exe);
        command.args(plan::arguments(dir, cluster, daemon, config));
        if matches!(daemon.role, Role::S3 | Role::Copytool) {
            command.envs(cluster.s3_environment());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {}", daemon.name))?;
        self.process = child.id().and_then(ProcessId::of);
        self.started = Some(Instant::now());
        self.ready = false;
        self.restart_at = None;
        if let Some(daemon) = cluster.daemons.get_mut(self.at) {
            daemon.process = self.process;
        }
        let (at, stdout, events) = (self.at, child.stdout.take(), events.clone());
        tokio::spawn(async move {
            if let Some(stdout) = stdout
                && announced(stdout).await
            {
                let _ = events.send(Event::Ready(at)).await;
            }
            if let Ok(status) = child.wait().await {
                let _ = events.send(Event::Exited(at, status)).await;
            }
        });
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.process.filter(|process| process.alive()) {
            send_signal(process.pid, signal);
        }
    }

    /// Notes the end of the process and decides when to start it again.
    pub(crate) fn ended(&mut self) -> Duration {
        self.process = None;
        self.ready = false;
        if self.started.take().is_some_and(|started| started.elapsed() >= HEALTHY) {
            self.restarts = 0;
        }
        let shift = self.restarts.min(6);
        self.restarts = self.restarts.saturating_add(1);
        let pause = Duration::from_millis(125 << shift).min(BACKOFF_MAX);
        self.restart_at = Some(tokio::time::Instant::now() + pause);
        pause
    }

    /// The last lines that this run of the daemon logged.
    pub(crate) fn last_words(&self, dir: &Path, name: &str) -> String {
        tail(&plan::log_path(dir, name), self.log_from)
    }
}

async fn announced(stdout: ChildStdout) -> bool {
    let mut lines = BufReader::new(stdout).lines();
    matches!(lines.next_line().await, Ok(Some(line)) if line == "ready")
}

/// The last lines of a log, beginning at `from` at the earliest.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    const TAIL_BYTES: u64 = 8 << 10;
    const TAIL_LINES: usize = 12;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let start = from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    lines.get(skip..).unwrap_or_default().join("\n")
}
