//! Being a process: signals, the runtime, and the one who started us.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use nacre_node::config::Settings;
use nacre_node::{Scope, telemetry};
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ChildArgs, ConfigArgs};

/// A daemon that was asked to stop has so long to do it.
const STOP_MAX: Duration = Duration::from_secs(12);

/// Loads the layers.
pub(crate) fn settings(args: &ConfigArgs) -> anyhow::Result<Settings> {
    let env = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    Ok(Settings::load(args.config.as_deref(), env, &args.set)?)
}

/// Runs `work` with telemetry, until it ends or a signal asks it to stop.
pub(crate) fn run<F, W>(settings: &Settings, child: ChildArgs, work: W) -> anyhow::Result<ExitCode>
where
    W: FnOnce(Scope) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    nacre_node::memory::keep_buffers();
    if child.supervised {
        follow_parent()?;
    }
    telemetry::start_log(&settings.telemetry)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(worker_threads(settings.server.threads.into()));
    let runtime = builder.enable_all().build().context("start the runtime")?;
    let scope = Scope::new();
    let result = runtime.block_on(async {
        telemetry::start_metrics(&settings.telemetry, &scope).await?;
        if child.announce {
            scope.spawn("announce", announce());
        }
        until_stopped(&scope, work(scope.clone())).await
    });
    // Threads that hang in a disk call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

/// As many as asked for, else one for two cores: a request passes from task to task, and each
/// passing to another thread that sleeps costs more than the work does (docs/PERFORMANCE.md).
fn worker_threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        asked => asked,
    }
}

async fn until_stopped<F>(scope: &Scope, work: F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut task = tokio::spawn(work);
    let name = tokio::select! {
        ended = &mut task => {
            scope.join().await;
            return ended.context("the daemon panicked")?;
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    scope.stop();
    let ending = async {
        let result = task.await.context("the daemon panicked")?;
        scope.join().await;
        result
    };
    match tokio::time::timeout(STOP_MAX, ending).await {
        Ok(result) => {
            tracing::info!("stopped");
            result
        }
        Err(_) => anyhow::bail!("did not stop within {STOP_MAX:?}"),
    }
}

/// Tells whoever started this process that it serves.
async fn announce() {
    let mut ready = telemetry::readiness();
    if ready.wait_for(|ready| *ready).await.is_ok() {
        // Whoever started this process may not care any more.
        let _ = writeln!(std::io::stdout(), "ready");
    }
}

/// Stops when the parent dies, even by SIGKILL.
pub(crate) fn follow_parent() -> anyhow::Result<()> {
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    if rustix::process::getppid() != parent || parent == Some(Pid::INIT) {
        anyhow::bail!("the process that started this one is gone");
    }
    Ok(())
}

/// Prints to standard output; ends the program when nobody reads.
pub(crate) fn print(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        // What a shell calls the end by SIGPIPE.
        std::process::exit(141);
    }
}

/// When a process started, in clock ticks since boot: with the pid it names one process for
/// ever. `None` if it is gone, or a zombie.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22 of proc(5); the state is field 3.
    fields.nth(18)?.parse().ok()
}

/// The name of a mount's holder in the table of processes.
const HOLDER: &str = "nacre-holder";

/// Shows this process as a holder.
pub(crate) fn name_holder() {
    if let Err(error) = std::fs::write("/proc/self/comm", HOLDER) {
        tracing::debug!(%error, "the holder keeps its name");
    }
}

/// Whether a process is a mount's holder.
pub(crate) fn is_holder(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == HOLDER)
}

/// The one child of a process.
pub(crate) fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Sends a signal to a process of ours; false if it is gone.
pub(crate) fn send_signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}
