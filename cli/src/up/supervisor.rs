//! Runs the daemons of one cluster: starts, watches, restarts and stops them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::child::{Child, Event};
use super::state::{Cluster, ProcessId, Role};
use crate::args::ConfigArgs;
use crate::mount::table;

/// A cluster that is not ready by then will not be.
const READY_MAX: Duration = Duration::from_secs(60);
/// A daemon that was asked to stop is killed after this. It gives up by itself before.
const STOP_MAX: Duration = Duration::from_secs(15);

pub(crate) struct Supervisor {
    dir: PathBuf,
    cluster: Cluster,
    config: ConfigArgs,
    restart: bool,
    children: Vec<Child>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
}

/// Why a wait ended.
enum Woken {
    Event(Event),
    Signal,
    Restart,
}

impl Supervisor {
    pub(crate) fn new(dir: PathBuf, cluster: Cluster, config: ConfigArgs, restart: bool) -> Self {
        let children = (0..cluster.daemons.len()).map(Child::new).collect();
        let (sender, events) = mpsc::channel(16);
        Self { dir, cluster, config, restart, children, events, sender }
    }

    /// Brings the cluster up, tells `ready`, and keeps it until a signal comes. Then, or when it
    /// does not come up, stops what runs.
    pub(crate) async fn run(mut self, ready: impl FnOnce(&Cluster)) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut stop = std::pin::pin!(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let result = tokio::select! {
            result = self.come_up() => result,
            () = &mut stop => Err(anyhow::anyhow!("stopped before it was up")),
        };
        let result = match result {
            Ok(()) => {
                ready(&self.cluster);
                self.keep(stop.as_mut()).await
            }
            Err(error) => Err(error),
        };
        self.stop().await;
        result
    }

    async fn come_up(&mut self) -> anyhow::Result<()> {
        self.cluster.supervisor = ProcessId::of(std::process::id());
        for child in &mut self.children {
            child.start(&self.dir, &mut self.cluster, &self.config, &self.sender)?;
        }
        self.cluster.save(&self.dir)?;
        let waiting = async {
            while self.children.iter().any(|child| !child.ready) {
                match self.events.recv().await.context("children tell how they are")? {
                    Event::Ready(at) => {
                        if let Some(child) = self.children.get_mut(at) {
                            child.ready = true;
                        }
                    }
                    Event::Exited(at, status) => {
                        let name = name_of(&self.cluster, at);
                        let child = self.children.get_mut(at).context("a child")?;
                        let words = child.last_words(&self.dir, &name);
                        child.ended();
                        anyhow::bail!("{name} ended ({status}) before it was ready:\n{words}");
                    }
                }
            }
            Ok(())
        };
        if let Ok(result) = tokio::time::timeout(READY_MAX, waiting).await {
            result?;
            return self.link_bucket().await;
        }
        let late = self.children.iter().filter(|child| !child.ready);
        let late: Vec<String> = late.map(|child| name_of(&self.cluster, child.at)).collect();
        let log = self.dir.join("log");
        anyhow::bail!("not ready after {READY_MAX:?}: {}; see {}", late.join(", "), log.display())
    }

    /// Links the bucket that the cluster brings along to the root, the first time.
    async fn link_bucket(&mut self) -> anyhow::Result<()> {
        let Some(s3) = self.cluster.s3.as_ref().filter(|s3| !s3.linked) else { return Ok(()) };
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("link").arg(format!("s3://{}", s3.bucket)).arg(&self.cluster.mount);
        let events = "new,changed,deleted";
        command.args(["--import", events, "--export", events]);
        command.envs(self.cluster.s3_environment()).stdout(std::process::Stdio::null());
        let status = command.status().await.context("link the bucket")?;
        anyhow::ensure!(status.success(), "the bucket cannot be linked to the root");
        if let Some(s3) = &mut self.cluster.s3 {
            s3.linked = true;
        }
        self.cluster.save(&self.dir)
    }

    /// Until a signal comes.
    async fn keep(&mut self, mut stop: impl Future<Output = ()> + Unpin) -> anyhow::Result<()> {
        loop {
            let next = self.children.iter().filter_map(|child| child.restart_at).min();
            let alarm = async {
                match next.filter(|_| self.restart) {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let woken = tokio::select! {
                () = &mut stop => Woken::Signal,
                event = self.events.recv() => Woken::Event(event.context("children")?),
                () = alarm => Woken::Restart,
            };
            match woken {
                Woken::Signal => return Ok(()),
                Woken::Event(event) => self.on_event(&event)?,
                Woken::Restart => self.restart_due()?,
            }
        }
    }

    fn on_event(&mut self, event: &Event) -> anyhow::Result<()> {
        match *event {
            Event::Ready(at) => {
                if let Some(child) = self.children.get_mut(at) {
                    child.ready = true;
                }
                say(&format!("{} is back", name_of(&self.cluster, at)));
            }
            Event::Exited(at, status) => {
                let name = name_of(&self.cluster, at);
                let child = self.children.get_mut(at).context("a child")?;
                let words = child.last_words(&self.dir, &name);
                let pause = child.ended();
                if let Some(daemon) = self.cluster.daemons.get_mut(at) {
                    daemon.process = None;
                }
                self.cluster.save(&self.dir)?;
                let then = if self.restart {
                    format!("starting it again in {pause:?}")
                } else {
                    "it stays down (use --restart to have it started again)".to_owned()
                };
                say(&format!("{name} ended ({status}); {then}; it said last:\n{words}"));
            }
        }
        Ok(())
    }

    fn restart_due(&mut self) -> anyhow::Result<()> {
        let now = tokio::time::Instant::now();
        for at in 0..self.children.len() {
            let Some(child) = self.children.get_mut(at) else { continue };
            if child.restart_at.is_none_or(|due| due > now) {
                continue;
            }
            if self.cluster.daemons.get(at).is_some_and(|daemon| daemon.role == Role::Mount) {
                clear_stale_mount(&self.cluster.mount)?;
            }
            child.start(&self.dir, &mut self.cluster, &self.config, &self.sender)?;
        }
        self.cluster.save(&self.dir)
    }

    /// The mount first, so that its last writes find their servers; the MGS last.
    async fn stop(&mut self) {
        for role in [Role::Mount, Role::Copytool, Role::S3, Role::Oss, Role::Mds, Role::Mgs] {
            self.stop_role(role).await;
        }
        if let Err(error) = clear_stale_mount(&self.cluster.mount) {
            say(&format!("{error:#}"));
        }
        self.cluster.supervisor = None;
        for daemon in &mut self.cluster.daemons {
            daemon.process = None;
        }
        if let Err(error) = self.cluster.save(&self.dir) {
            say(&format!("{error:#}"));
        }
    }

    async fn stop_role(&mut self, role: Role) {
        let of_role = |cluster: &Cluster, child: &Child| {
            cluster.daemons.get(child.at).is_some_and(|daemon| daemon.role == role)
                && child.process.is_some()
        };
        for signal in [Signal::TERM, Signal::KILL] {
            for child in self.children.iter().filter(|child| of_role(&self.cluster, child)) {
                child.signal(signal);
            }
            let waiting = async {
                while self.children.iter().any(|child| of_role(&self.cluster, child)) {
                    let Some(Event::Exited(at, status)) = self.events.recv().await else {
                        continue;
                    };
                    if let Some(child) = self.children.get_mut(at) {
                        child.ended();
                    }
                    if !status.success() {
                        say(&format!("{} stopped with {status}", name_of(&self.cluster, at)));
                    }
                }
            };
            if tokio::time::timeout(STOP_MAX, waiting).await.is_ok() {
                return;
            }
            say(&format!("{} did not stop within {STOP_MAX:?}: killing it", role.word()));
        }
    }
}

fn name_of(cluster: &Cluster, at: usize) -> String {
    cluster.daemons.get(at).map_or_else(String::new, |daemon| daemon.name.clone())
}

/// A line of the supervisor's own log.
fn say(line: &str) {
    // Nobody may be listening any more.
    let _ = writeln!(std::io::stderr(), "nacre up: {line}");
}

/// Takes away a mount whose server is gone. Refuses a mount of somebody else.
pub(crate) fn clear_stale_mount(target: &Path) -> anyhow::Result<()> {
    while let Some(mounted) = table::at(target).context("read the mount table")? {
        anyhow::ensure!(
            mounted.fs_type == table::FS_TYPE,
            "{} is a mount point already, of {} ({})",
            target.display(),
            mounted.source,
            mounted.fs_type
        );
        crate::mount::unmount_lazily(target)?;
    }
    Ok(())
}
