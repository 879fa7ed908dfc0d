//! `nacre up`: a whole cluster on this machine.

mod child;
mod plan;
pub(crate) mod state;
mod supervisor;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context;

use crate::args::UpArgs;
use crate::mount::table;
use state::{Cluster, ClusterLock, Role};
pub(crate) use supervisor::clear_stale_mount;

/// What the background half says last to the one in front.
const READY: &str = "\u{4}ready";

/// Runs, or starts, the supervisor.
pub(crate) fn main(mut args: UpArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    fs::create_dir_all(args.dir.dir.join("log"))
        .with_context(|| format!("make {}", args.dir.dir.display()))?;
    let dir = args.dir.dir.canonicalize().context("cluster folder")?;
    if let Some(config) = &mut args.config.config {
        *config = config.canonicalize().with_context(|| config.display().to_string())?;
    }
    // A mistake in the settings is told here, not by every daemon.
    crate::process::settings(&args.config)?;
    if args.detach && !args.background {
        return detach(&dir);
    }
    if args.background {
        rustix::process::setsid().context("leave the terminal")?;
    }
    let Some(lock) = ClusterLock::take(&dir)? else { return already_up(&dir) };
    let cluster = prepare(&dir, &args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let supervisor =
        supervisor::Supervisor::new(dir.clone(), cluster, args.config.clone(), args.restart);
    let background = args.background;
    runtime.block_on(supervisor.run(move |cluster| {
        let mut text = banner(&dir, cluster, started, background);
        if background {
            text.push_str(READY);
            text.push('\n');
        }
        let mut out = std::io::stdout();
        // The one in front may be gone already; the cluster does not depend on it.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }))?;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

fn already_up(dir: &Path) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::load(dir)?;
    let (pid, mount) = match &cluster {
        Some(cluster) => {
            let pid = cluster.supervisor.map_or_else(|| "?".to_owned(), |s| s.pid.to_string());
            (pid, cluster.mount.display().to_string())
        }
        None => ("?".to_owned(), "?".to_owned()),
    };
    let dir = dir.display();
    anyhow::bail!(
        "the cluster in {dir} is up already, by process {pid}, mounted on {mount}; \
         `nacre status --dir {dir}` shows it, `nacre down --dir {dir}` stops it"
    )
}

fn prepare(dir: &Path, args: &UpArgs) -> anyhow::Result<Cluster> {
    let before = Cluster::load(dir)?;
    let wanted = args.mount.as_ref().map(|mount| table::absolute(mount)).transpose()?;
    let mut cluster = match before {
        Some(cluster) => cluster,
        None => Cluster::new(dir.join("mnt")),
    };
    kill_leftovers(&cluster);
    clear_stale_mount(&cluster.mount)?;
    if let Some(mount) = wanted {
        cluster.mount = mount;
        clear_stale_mount(&cluster.mount)?;
    }
    fs::create_dir_all(&cluster.mount)
        .with_context(|| format!("make mount point {}", cluster.mount.display()))?;
    plan::plan(dir, &mut cluster, args)?;
    cluster.save(dir)?;
    Ok(cluster)
}

/// Daemons whose supervisor was killed end by themselves; one that is slow to must not keep its
/// folder locked.
pub(crate) fn kill_leftovers(cluster: &Cluster) {
    for daemon in &cluster.daemons {
        if let Some(process) = daemon.process.filter(|process| process.alive()) {
            crate::process::send_signal(process.pid, rustix::process::Signal::KILL);
            wait_gone(process);
        }
    }
}

/// Waits until a process that is no child of ours has ended.
pub(crate) fn wait_gone(process: state::ProcessId) {
    let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    if process.alive() {
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut fds, Some(&limit));
    }
}

/// Starts the supervisor in the background and waits until the mount is usable.
fn detach(dir: &Path) -> anyhow::Result<ExitCode> {
    let path = dir.join("log/up.log");
    let log = File::options().append(true).create(true).open(&path);
    let log = log.with_context(|| format!("open {}", path.display()))?;
    let from = log.metadata().map_or(0, |metadata| metadata.len());
    let exe = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(exe);
    command.args(std::env::args_os().skip(1)).arg("--background");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().context("start the supervisor")?;
    let stdout = child.stdout.take().context("the supervisor's output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read from the supervisor")?;
        if line == READY {
            return Ok(ExitCode::SUCCESS);
        }
        // The cluster comes up though nobody reads about it.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    let status = child.wait().context("wait for the supervisor")?;
    let words = child::tail(&path, from);
    anyhow::bail!("the cluster did not come up ({status}); {} says:\n{words}", path.display())
}

fn banner(dir: &Path, cluster: &Cluster, started: Instant, background: bool) -> String {
    use std::fmt::Write as _;
    let mount = cluster.mount.display();
    let mut text = String::new();
    let _ = writeln!(text, "Nacre is up after {:.1} s", started.elapsed().as_secs_f64());
    let _ = writeln!(text, "  mounted on   {mount}");
    for daemon in cluster.daemons.iter().filter(|daemon| daemon.role != Role::Mount) {
        let targets = daemon.targets.join(" ");
        let _ = writeln!(text, "  {:<11}  {}  {targets}", daemon.name, daemon.address);
    }
    let _ = writeln!(text, "  logs in      {}", dir.join("log").display());
    let mgs = cluster.mgs_address().unwrap_or_default();
    let quoted = quote(&cluster.mount);
    let (own, dir) = (quote(&own_name()), quote(dir));
    let _ = writeln!(text, "try");
    let _ = writeln!(text, "  cp -r /usr/share/doc {quoted}/ && ls -l {quoted}/doc");
    let _ = writeln!(
        text,
        "  {own} lfs setstripe -c -1 {quoted}/wide && {own} lfs getstripe {quoted}/wide"
    );
    let _ = writeln!(text, "  {own} lfs df -h {quoted}");
    let _ = writeln!(text, "  {own} mount {mgs}:/{} OTHER_MOUNT_POINT", cluster.fsname);
    let _ = writeln!(text, "  {own} status --dir {dir}");
    let stop = if background { format!("{own} down --dir {dir}") } else { "Ctrl-C".to_owned() };
    let _ = writeln!(text, "stop with {stop}");
    text
}

fn own_name() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "nacre".into())
}

/// A path as a shell takes it.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
