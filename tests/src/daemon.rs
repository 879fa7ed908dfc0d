//! One daemon of a cluster as a child process.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{binary, wait};

/// A daemon's place in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The management server.
    Mgs,
    /// The metadata server.
    Mds,
    /// An object storage server, from 0.
    Oss(u16),
    /// A mount, from 0.
    Mount(u16),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mgs => f.write_str("mgs"),
            Self::Mds => f.write_str("mds"),
            Self::Oss(index) => write!(f, "oss{index}"),
            Self::Mount(index) => write!(f, "mount{index}"),
        }
    }
}

/// How long a daemon may take to serve, and to stop.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How to start a daemon, and its process while it runs.
#[derive(Debug)]
pub struct Daemon {
    role: Role,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// A daemon that is not running yet; its log is appended to over all its lives.
    pub fn new(role: Role, arguments: Vec<String>, logs: &Path) -> Self {
        Self { role, arguments, log: logs.join(format!("{role}.log")), child: None }
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "{} runs already", self.role);
        let log = File::options().append(true).create(true).open(&self.log)?;
        let mut command = Command::new(binary::nacre());
        command.args(&self.arguments).arg("--announce");
        // What names the binary under test is no setting of it.
        command.env_remove("NACRE_BIN");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.role))?);
        Ok(())
    }

    /// Waits until it serves.
    pub fn await_ready(&mut self) -> anyhow::Result<()> {
        let role = self.role;
        let child = self.child.as_mut().with_context(|| format!("{role} was not started"))?;
        let Some(stdout) = child.stdout.take() else { return Ok(()) };
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let ready = BufReader::new(stdout).read_line(&mut line).is_ok() && line == "ready\n";
            let _ = tell.send(ready);
        });
        let ready = told.recv_timeout(PATIENCE).with_context(|| format!("{role} is not ready"))?;
        anyhow::ensure!(ready, "{role} ended before it was ready");
        Ok(())
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.await_ready()
    }

    /// SIGKILL, and waits for the end. Nothing if it does not run. A mount goes with its holder.
    pub fn kill(&mut self) {
        self.signal_group(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// SIGTERM; it must exit with 0 in time.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = wait::for_some(PATIENCE, || child.try_wait().transpose());
        let role = self.role;
        let Some(status) = status else {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.wait();
            anyhow::bail!("{role} did not stop within {PATIENCE:?}");
        };
        let status = status.with_context(|| format!("wait for {role}"))?;
        anyhow::ensure!(status.success(), "{role} stopped with {status}");
        Ok(())
    }

    /// Sends a signal to the process, if there is one.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) =
            self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends a signal to the process and those that it has started.
    pub fn signal_group(&self, signal: Signal) {
        if let Some(pid) =
            self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
        {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did by itself.
    pub fn died(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
