//! `nacre down`.

use std::process::ExitCode;

use rustix::process::Signal;

use crate::args::DirArg;
use crate::process::send_signal;
use crate::up::state::{Cluster, ClusterLock};
use crate::up::{clear_stale_mount, kill_leftovers, wait_gone};

/// Stops the cluster of a folder; nothing to stop is no error.
pub(crate) fn main(args: &DirArg) -> anyhow::Result<ExitCode> {
    let Some(cluster) = args.dir.exists().then(|| Cluster::load(&args.dir)).transpose()?.flatten()
    else {
        outln!("there is no cluster in {}", args.dir.display());
        return Ok(ExitCode::SUCCESS);
    };
    let dir = args.dir.display();
    // Two waits: a supervisor stops four kinds of daemons, one after the other.
    for _ in 0..6 {
        if let Some(lock) = ClusterLock::take(&args.dir)? {
            return clean_up(args, lock);
        }
        let supervisor = Cluster::load(&args.dir)?.unwrap_or(cluster.clone()).supervisor;
        let Some(supervisor) = supervisor.filter(|process| process.alive()) else {
            anyhow::bail!("another process holds {dir}/cluster.lock, and it is not `nacre up`");
        };
        send_signal(supervisor.pid, Signal::TERM);
        wait_gone(supervisor);
    }
    anyhow::bail!("the supervisor of {dir} does not stop: see {dir}/log/up.log")
}

/// What a supervisor that was killed left behind.
fn clean_up(args: &DirArg, lock: ClusterLock) -> anyhow::Result<ExitCode> {
    if let Some(mut cluster) = Cluster::load(&args.dir)? {
        kill_leftovers(&cluster);
        clear_stale_mount(&cluster.mount)?;
        cluster.supervisor = None;
        for daemon in &mut cluster.daemons {
            daemon.process = None;
        }
        cluster.save(&args.dir)?;
    }
    drop(lock);
    outln!("the cluster in {} is down", args.dir.display());
    Ok(ExitCode::SUCCESS)
}
