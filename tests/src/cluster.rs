//! A cluster of real daemons, each a process of its own, in a temporary folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;
use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE, Role};
use crate::{binary, logs, wait};

/// How large a cluster is, and its settings.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Object storage servers.
    pub oss: u16,
    /// OSTs in all, spread over the servers.
    pub osts: u16,
    /// Mounts.
    pub mounts: u16,
    /// Settings of every process, `section.key=value`.
    pub settings: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { oss: 2, osts: 4, mounts: 1, settings: Vec::new() }
    }
}

/// The name of every test file system.
pub const FSNAME: &str = "nacre";

/// A running cluster. Dropping it stops everything and fails the test if a daemon complained of
/// something that was not announced, or died by itself.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    shape: Shape,
    addresses: BTreeMap<Role, String>,
    daemons: BTreeMap<Role, Daemon>,
    announced: Vec<String>,
}

impl Cluster {
    /// Formats and starts everything, and waits until the mounts are usable.
    ///
    /// # Panics
    /// If it does not come up: no test can go on without it.
    #[track_caller]
    pub fn start(shape: Shape) -> Self {
        let mut cluster = Self::new(shape).expect("a temporary folder, free ports");
        if let Err(error) = cluster.come_up() {
            panic!("cluster did not come up: {error:#}\n{}", logs::tails(&cluster.logs(), 30));
        }
        cluster
    }

    fn new(shape: Shape) -> anyhow::Result<Self> {
        // Short: sockets inside a mount have 108 bytes for their whole path.
        let dir = tempfile::Builder::new().prefix("n.").tempdir_in("/tmp")?.keep();
        std::fs::create_dir(dir.join("log"))?;
        let mut roles = vec![Role::Mgs, Role::Mds];
        roles.extend((0..shape.oss).map(Role::Oss));
        // Held until all are taken, so that no two are the same.
        let ports: Vec<_> =
            roles.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let mut addresses = BTreeMap::new();
        for (role, port) in roles.iter().zip(&ports) {
            addresses.insert(*role, port.local_addr()?.to_string());
        }
        let announced = Vec::new();
        let mut cluster = Self { dir, shape, addresses, daemons: BTreeMap::new(), announced };
        for role in roles.into_iter().chain((0..cluster.shape.mounts).map(Role::Mount)) {
            let daemon = Daemon::new(role, cluster.arguments(role), &cluster.logs());
            cluster.daemons.insert(role, daemon);
        }
        Ok(cluster)
    }

    fn come_up(&mut self) -> anyhow::Result<()> {
        let mgs = self.address(Role::Mgs);
        self.nacre(&["format", "--mgs", "--fsname", FSNAME, &self.path("mgs")])?;
        let mdt = self.path("mdt0");
        self.nacre(&["format", "--mdt", "--fsname", FSNAME, "--mgsnode", &mgs, &mdt])?;
        for ost in 0..self.shape.osts {
            self.format_ost(ost)?;
        }
        self.start_all()?;
        self.settle()
    }

    /// Waits until every OST is known to the mounts and files can be made on each.
    fn settle(&self) -> anyhow::Result<()> {
        let probe = self.mnt().join(".probe");
        let text = probe.display().to_string();
        for ost in (0..self.shape.osts).map(|ost| ost.to_string()) {
            let mut last = None;
            let usable = wait::until(PATIENCE, || {
                let setstripe = ["lfs", "setstripe", "-i", &ost, "-c", "1", &text];
                let tried = self.nacre(&setstripe).and_then(|_| {
                    std::fs::write(&probe, vec![1; 65_536]).context("write")?;
                    Ok(std::fs::File::open(&probe)?.sync_all()?)
                });
                let removed = std::fs::remove_file(&probe);
                last = tried.err();
                last.is_none() && removed.is_ok()
            });
            if let Some(error) = last.filter(|_| !usable) {
                return Err(error.context(format!("OST {ost} does not take a file")));
            }
        }
        Ok(())
    }

    /// Formats the folder of one OST.
    pub fn format_ost(&self, ost: u16) -> anyhow::Result<()> {
        let (mgs, index, dir) =
            (self.address(Role::Mgs), ost.to_string(), self.path(&format!("ost{ost}")));
        let kind = ["format", "--ost", "--fsname", FSNAME, "--index", &index];
        self.nacre(&[&kind[..], &["--mgsnode", &mgs, &dir]].concat())?;
        Ok(())
    }

    /// The command line of a daemon.
    fn arguments(&self, role: Role) -> Vec<String> {
        let mut line: Vec<String> = Vec::new();
        let mut push = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
        match role {
            Role::Mgs => push(&["mgs", "--dir", &self.path("mgs")]),
            Role::Mds => push(&["mds", "--dir", &self.path("mdt0")]),
            Role::Oss(oss) => {
                push(&["oss"]);
                for ost in (0..self.shape.osts).filter(|ost| ost % self.shape.oss == oss) {
                    push(&["--dir", &self.path(&format!("ost{ost}"))]);
                }
            }
            Role::Mount(_) => {
                push(&["mount", &format!("{}:/{FSNAME}", self.address(Role::Mgs))]);
                push(&[&self.mount_point(role).display().to_string()]);
            }
        }
        if let Some(address) = self.addresses.get(&role) {
            push(&["--listen", address]);
        }
        for setting in &self.shape.settings {
            push(&["--set", setting]);
        }
        line
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The cluster's folder: `mgs`, `mdt0`, `ost0`…, `log`, and the mounts `m0`….
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of one OST.
    pub fn ost_dir(&self, ost: u16) -> PathBuf {
        self.dir.join(format!("ost{ost}"))
    }

    /// Where the daemons log.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// `host:port` of a server.
    pub fn address(&self, role: Role) -> String {
        self.addresses.get(&role).cloned().unwrap_or_default()
    }

    /// Where the first mount is.
    pub fn mnt(&self) -> PathBuf {
        self.mount_point(Role::Mount(0))
    }

    /// Where a mount is.
    pub fn mount_point(&self, role: Role) -> PathBuf {
        match role {
            Role::Mount(index) => self.dir.join(format!("m{index}")),
            Role::Mgs | Role::Mds | Role::Oss(_) => panic!("{role} is not a mount"),
        }
    }

    /// All roles, in the order in which they start.
    pub fn roles(&self) -> Vec<Role> {
        self.daemons.keys().copied().collect()
    }

    /// The servers, in the order in which they start.
    pub fn servers(&self) -> Vec<Role> {
        self.roles().into_iter().filter(|role| !matches!(role, Role::Mount(_))).collect()
    }

    /// A log line with this word is expected from now on.
    pub fn announce(&mut self, word: &str) {
        self.announced.push(word.to_owned());
    }

    /// Runs `nacre` with arguments; an exit code other than 0 is an error with its output.
    pub fn nacre<S: AsRef<OsStr>>(&self, arguments: &[S]) -> anyhow::Result<Output> {
        let mut command = Command::new(binary::nacre());
        command.args(arguments).env_remove("NACRE_BIN").current_dir(&self.dir);
        let output = command.output().context("run nacre")?;
        anyhow::ensure!(
            output.status.success(),
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }

    fn daemon(&mut self, role: Role) -> &mut Daemon {
        self.daemons.get_mut(&role).unwrap_or_else(|| panic!("this cluster has no {role}"))
    }

    /// Starts a daemon and waits until it serves; a mount, until it is mounted.
    pub fn start_daemon(&mut self, role: Role) -> anyhow::Result<()> {
        if matches!(role, Role::Mount(_)) {
            std::fs::create_dir_all(self.mount_point(role))?;
        }
        self.daemon(role).start()
    }

    /// Starts all servers at once, then the mounts that do not run.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        let servers = self.servers();
        let down: Vec<_> = servers
            .iter()
            .filter(|r| self.daemons.get(r).is_some_and(|d| d.pid().is_none()))
            .collect();
        for role in &down {
            self.daemon(**role).launch()?;
        }
        for role in &down {
            self.daemon(**role).await_ready()?;
        }
        for role in self.roles() {
            if self.daemon(role).pid().is_none() {
                self.start_daemon(role)?;
            }
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, role: Role) {
        self.daemon(role).kill();
        if matches!(role, Role::Mount(_)) {
            unmount(&self.mount_point(role));
        }
    }

    /// SIGTERM, and waits for exit code 0.
    pub fn stop(&mut self, role: Role) -> anyhow::Result<()> {
        self.daemon(role).stop()
    }

    /// Freezes a daemon: its machine falls silent, its connections stay.
    pub fn freeze(&mut self, role: Role) {
        self.daemon(role).signal_group(Signal::STOP);
    }

    /// Lets a frozen daemon go on.
    pub fn thaw(&mut self, role: Role) {
        self.daemon(role).signal_group(Signal::CONT);
    }

    /// Process id of a running daemon.
    pub fn pid(&self, role: Role) -> Option<u32> {
        self.daemons.get(&role).and_then(Daemon::pid)
    }

    /// Stops the mounts, then the servers, each cleanly.
    pub fn stop_all(&mut self) -> anyhow::Result<()> {
        for role in self.roles().into_iter().rev() {
            self.stop(role)?;
        }
        Ok(())
    }

    /// Checks the folders of a stopped cluster offline.
    pub fn fsck(&self) -> anyhow::Result<()> {
        self.nacre(&["fsck", "--dir", &self.dir.display().to_string()]).map(|_| ())
    }

    /// Stops everything cleanly and checks what is on the disks.
    ///
    /// # Panics
    /// If a daemon does not stop cleanly or the check finds something.
    #[track_caller]
    pub fn finish(mut self) {
        if let Err(error) = self.stop_all().and_then(|()| self.fsck()) {
            panic!("{error:#}\n{}", logs::tails(&self.logs(), 30));
        }
    }

    /// What went wrong besides what the test looked at: daemons that died, lines in logs.
    fn complaints(&mut self) -> Vec<String> {
        let mut found = logs::complaints(&self.logs(), &self.announced);
        for (role, daemon) in &mut self.daemons {
            if let Some(status) = daemon.died() {
                found.push(format!("{role} died by itself: {status}"));
            }
        }
        found
    }
}

/// Takes a mount away, whatever its state.
fn unmount(target: &Path) {
    // Again until nothing is mounted there: a failed test may have mounted twice.
    wait::until(PATIENCE, || rustix::mount::unmount(target, UnmountFlags::DETACH).is_err());
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut found = self.complaints();
        for role in self.roles().into_iter().rev() {
            self.thaw(role);
            if matches!(role, Role::Mount(_)) {
                self.kill(role);
            }
            self.daemon(role).kill();
        }
        found.sort_unstable();
        if std::thread::panicking() {
            eprintln!("left for a look: {}\n{}", self.dir.display(), logs::tails(&self.logs(), 15));
        } else if found.is_empty() {
            let _ = std::fs::remove_dir_all(&self.dir);
        } else {
            panic!("nobody announced this, in {}:\n  {}", self.dir.display(), found.join("\n  "));
        }
    }
}
