//! `lfs osts`, `lfs mdts`, `lfs check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nacre_model::{Errno, OstIndex, TargetKind, TargetState};
use nacre_proto::v1;

use super::cluster::{Cluster, mounts};
use super::error::LfsError;

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Any path on the mount; without one, all mounts.
    path: Option<PathBuf>,
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Which servers.
    what: Which,
    /// Any path on the mount; without one, all mounts.
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// All of them.
    #[value(alias = "all")]
    Servers,
    Osts,
    Mds,
    Mgs,
}

fn clusters(path: Option<&PathBuf>) -> Result<Vec<Cluster>, LfsError> {
    let found = match path {
        Some(path) => vec![Cluster::of_path(path)?],
        None => mounts()?.iter().map(Cluster::of_mount).collect::<Result<_, _>>()?,
    };
    if found.is_empty() {
        return Err(LfsError::new(Errno::ENODEV, "no Nacre file system is mounted"));
    }
    Ok(found)
}

/// Lists OSTs.
pub(crate) fn osts(args: &ListArgs) -> Result<(), LfsError> {
    list(args, TargetKind::Ost, "OBDS:")
}

/// Lists MDTs.
pub(crate) fn mdts(args: &ListArgs) -> Result<(), LfsError> {
    list(args, TargetKind::Mdt, "MDTS:")
}

fn list(args: &ListArgs, kind: TargetKind, title: &str) -> Result<(), LfsError> {
    for cluster in clusters(args.path.as_ref())? {
        outln!("{title}");
        for target in cluster.map.targets.values().filter(|target| target.kind == kind) {
            let state = match target.state {
                TargetState::Up => "ACTIVE",
                TargetState::Down => "INACTIVE",
            };
            outln!("{}: {}_UUID {state}", target.index, name(&cluster, kind, target.index));
        }
    }
    Ok(())
}

fn name(cluster: &Cluster, kind: TargetKind, index: u16) -> String {
    let word = match kind {
        TargetKind::Mdt => "MDT",
        TargetKind::Ost => "OST",
    };
    format!("{}-{word}{index:04x}", cluster.map.fsname)
}

/// Asks each server.
pub(crate) fn check(args: &CheckArgs) -> Result<(), LfsError> {
    let mut worst = None;
    for cluster in clusters(args.path.as_ref())? {
        if matches!(args.what, Which::Servers | Which::Mgs) {
            // The map came from it a moment ago.
            outln!("MGS ({}): active", cluster.source.mgs.join(","));
        }
        for target in cluster.map.targets.values() {
            let asked = match target.kind {
                TargetKind::Mdt => matches!(args.what, Which::Servers | Which::Mds),
                TargetKind::Ost => matches!(args.what, Which::Servers | Which::Osts),
            };
            if !asked {
                continue;
            }
            let shown = name(&cluster, target.kind, target.index);
            let address = target.addresses.join(",");
            match probe(&cluster, target.kind, target.index, target.epoch) {
                Ok(()) => outln!("{shown} ({address}): active"),
                Err(error) => {
                    outln!("{shown} ({address}): check error: {error}");
                    worst = Some(error);
                }
            }
        }
    }
    worst.map_or(Ok(()), Err)
}

fn probe(cluster: &Cluster, kind: TargetKind, index: u16, epoch: u64) -> Result<(), LfsError> {
    match kind {
        TargetKind::Mdt => {
            cluster.mds(async |mut mds| mds.statfs(v1::StatfsRequest {}).await)?;
        }
        TargetKind::Ost => {
            let client = cluster.enter(|| cluster.peers.oss(OstIndex(index)));
            let mut client =
                client.map_err(|error| LfsError::new(Errno::EIO, error.to_string()))?;
            let header = v1::ObjectHeader {
                ost_index: index.into(),
                target_epoch: epoch,
                map_version: cluster.map.version,
                session: 0,
                capability: Vec::new().into(),
            };
            let request = v1::OstStatfsRequest { header: Some(header) };
            cluster.limited("statfs", client.ost_statfs(request))?;
        }
    }
    Ok(())
}
