//! `nacre status`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use crate::args::StatusArgs;
use crate::process::{child_of, is_holder, start_time};
use crate::up::state::{Cluster, Role};

/// What `--json` prints. Scripts rely on it.
#[derive(Debug, Serialize)]
struct Status {
    mount: PathBuf,
    mgs: Vec<String>,
    fsname: String,
    daemons: Vec<DaemonStatus>,
    /// The S3 server that the cluster brings along.
    #[serde(skip_serializing_if = "Option::is_none")]
    s3: Option<S3Status>,
}

#[derive(Debug, Serialize)]
struct S3Status {
    endpoint: String,
    bucket: String,
    access_key: String,
    secret_key: String,
}

#[derive(Debug, Serialize)]
struct DaemonStatus {
    role: Role,
    name: String,
    /// Null while it is down.
    pid: Option<u32>,
    /// Of a mount: the process that starts the daemon again.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<u32>,
    address: String,
    state: &'static str,
    targets: Vec<String>,
}

/// Prints the state of each daemon.
pub(crate) fn main(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let dir = &args.dir.dir;
    let cluster =
        Cluster::load(dir)?.with_context(|| format!("there is no cluster in {}", dir.display()))?;
    let status = status(&cluster);
    if args.json {
        outln!("{}", serde_json::to_string(&status)?);
        return Ok(ExitCode::SUCCESS);
    }
    outln!("file system {} on {}", status.fsname, status.mount.display());
    let mut rows = vec![["NAME", "STATE", "PID", "ADDRESS", "TARGETS"].map(str::to_owned)];
    for daemon in &status.daemons {
        let pid = daemon.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let address = if daemon.address.is_empty() { "-" } else { &daemon.address };
        let state = daemon.state.to_owned();
        rows.push([daemon.name.clone(), state, pid, address.to_owned(), daemon.targets.join(" ")]);
    }
    for [name, state, pid, address, targets] in rows {
        let line = format!("{name:<8} {state:<6} {pid:<8} {address:<22} {targets}");
        outln!("{}", line.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn status(cluster: &Cluster) -> Status {
    let daemons = cluster.daemons.iter().map(|daemon| {
        let process = daemon.process.filter(|_| daemon.alive()).map(|process| process.pid);
        let holder = process.filter(|pid| is_holder(*pid));
        // Between two lives a holder has no child.
        let pid = holder.map_or(process, |holder| {
            child_of(holder).filter(|child| start_time(*child).is_some())
        });
        DaemonStatus {
            role: daemon.role,
            name: daemon.name.clone(),
            pid,
            holder,
            address: daemon.address.clone(),
            state: if pid.is_some() { "up" } else { "down" },
            targets: daemon.targets.clone(),
        }
    });
    let s3 = cluster.s3.as_ref().zip(cluster.s3_endpoint());
    Status {
        s3: s3.map(|(s3, endpoint)| S3Status {
            endpoint,
            bucket: s3.bucket.clone(),
            access_key: s3.access_key.clone(),
            secret_key: s3.secret_key.clone(),
        }),
        mount: cluster.mount.clone(),
        mgs: cluster.mgs_address().map(str::to_owned).into_iter().collect(),
        fsname: cluster.fsname.clone(),
        daemons: daemons.collect(),
    }
}
