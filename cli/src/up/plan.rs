//! Which daemons a cluster has, with which folders and arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nacre_node::identity::IdentityError;
use nacre_node::{FolderKind, Identity};

use super::state::{Cluster, Daemon, Role, S3};
use crate::args::{ConfigArgs, S3Server, UpArgs};

/// OSTs of a cluster of which nobody said how many.
const OSTS_DEFAULT: u16 = 4;

/// Decides sizes, ports and folders, and formats what is new.
pub(crate) fn plan(dir: &Path, cluster: &mut Cluster, args: &UpArgs) -> anyhow::Result<()> {
    let before = cluster.osts;
    let osts = args.osts.unwrap_or(if before == 0 { OSTS_DEFAULT } else { before });
    anyhow::ensure!(
        osts >= before,
        "the cluster in {} has {before} OSTs: --osts can add some, not take any away",
        dir.display()
    );
    cluster.osts = osts;
    cluster.oss = args.oss.unwrap_or(cluster.oss).min(osts);
    if args.s3 == Some(S3Server::Embedded) {
        cluster.s3.get_or_insert_with(S3::new);
    }
    cluster.daemons = daemons(dir, cluster)?;
    let mgs = cluster.mgs_address().context("a cluster has an MGS")?.to_owned();
    for daemon in &cluster.daemons {
        for folder in &daemon.dirs {
            let (kind, index) = folder_kind(daemon.role, folder);
            format_if_new(folder, kind, &cluster.fsname, index, &mgs)?;
        }
    }
    Ok(())
}

fn daemons(dir: &Path, cluster: &Cluster) -> anyhow::Result<Vec<Daemon>> {
    let mut daemons: Vec<Daemon> = Vec::new();
    let mut add = |role, name: String, targets, dirs| -> anyhow::Result<()> {
        let taken: Vec<String> = daemons.iter().map(|d: &Daemon| d.address.clone()).collect();
        let address = match role {
            Role::Mount | Role::Copytool => String::new(),
            Role::Mgs | Role::Mds | Role::Oss | Role::S3 => cluster.address_for(&name, &taken)?,
        };
        daemons.push(Daemon { role, name, address, targets, dirs, process: None });
        Ok(())
    };
    add(Role::Mgs, "mgs".to_owned(), vec!["MGS".to_owned()], vec![dir.join("mgs")])?;
    add(Role::Mds, "mds".to_owned(), vec!["MDT0000".to_owned()], vec![dir.join("mdt0")])?;
    for oss in 0..cluster.oss {
        let mine = (0..cluster.osts).filter(|ost| ost % cluster.oss == oss);
        let targets = mine.clone().map(|ost| format!("OST{ost:04x}")).collect();
        let dirs = mine.map(|ost| dir.join(format!("ost{ost}"))).collect();
        add(Role::Oss, format!("oss{oss}"), targets, dirs)?;
    }
    add(Role::Mount, "mount".to_owned(), Vec::new(), Vec::new())?;
    if cluster.s3.is_some() {
        add(Role::S3, "s3".to_owned(), Vec::new(), Vec::new())?;
        add(Role::Copytool, "copytool0".to_owned(), Vec::new(), Vec::new())?;
    }
    Ok(daemons)
}

fn folder_kind(role: Role, folder: &Path) -> (FolderKind, u16) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let index = name.strip_prefix("ost").and_then(|index| index.parse().ok()).unwrap_or(0);
    match role {
        Role::Mgs => (FolderKind::Mgs, 0),
        Role::Mds => (FolderKind::Mdt, 0),
        // The others have no target folders.
        Role::Oss | Role::Mount | Role::S3 | Role::Copytool => (FolderKind::Ost, index),
    }
}

fn format_if_new(
    folder: &Path,
    kind: FolderKind,
    fsname: &str,
    index: u16,
    mgs: &str,
) -> anyhow::Result<()> {
    match Identity::read(folder) {
        Ok(found) => {
            anyhow::ensure!(
                found.kind == kind && found.index == index && found.fsname == fsname,
                "{} holds {} of file system `{}`: another cluster's?",
                folder.display(),
                found.name(),
                found.fsname
            );
            Ok(())
        }
        Err(IdentityError::NotFormatted(_)) => {
            let nodes = if kind == FolderKind::Mgs { vec![] } else { vec![mgs.to_owned()] };
            Ok(Identity::new(kind, fsname, index, nodes).format(folder)?)
        }
        Err(other) => Err(other.into()),
    }
}

/// The arguments with which a daemon is started.
pub(crate) fn arguments(
    dir: &Path,
    cluster: &Cluster,
    daemon: &Daemon,
    config: &ConfigArgs,
) -> Vec<OsString> {
    let mgs = cluster.mgs_address().unwrap_or_default();
    let mut args: Vec<OsString> = vec![daemon.role.word().into()];
    match daemon.role {
        Role::Mount => {
            args.push(format!("{mgs}:/{}", cluster.fsname).into());
            args.push(cluster.mount.clone().into());
        }
        Role::S3 => {
            let bucket = cluster.s3.as_ref().map_or("nacre", |s3| s3.bucket.as_str());
            args.extend(["--dir".into(), dir.join("s3").into()]);
            args.extend(["--listen", &daemon.address, "--bucket", bucket].map(OsString::from));
        }
        Role::Copytool => {
            args.push(format!("{mgs}:/{}", cluster.fsname).into());
            args.extend(["--state".into(), dir.join(&daemon.name).into()]);
        }
        Role::Mgs | Role::Mds | Role::Oss => {
            for dir in &daemon.dirs {
                args.extend(["--dir".into(), dir.clone().into()]);
            }
            let address = daemon.address.as_str();
            args.extend(["--listen", address, "--advertise", address].map(OsString::from));
            if daemon.role != Role::Mgs {
                args.extend(["--mgsnode", mgs].map(OsString::from));
            }
        }
    }
    args.extend(["--announce", "--supervised"].map(OsString::from));
    if let Some(config) = &config.config {
        args.extend(["--config".into(), config.clone().into()]);
    }
    // All daemons share one file: each takes a port of its own for its metrics.
    args.extend(["--set", "telemetry.http=127.0.0.1:0"].map(OsString::from));
    for set in &config.set {
        args.extend(["--set".to_owned(), set.clone()].map(OsString::from));
    }
    args
}

/// Where a daemon logs.
pub(crate) fn log_path(dir: &Path, name: &str) -> PathBuf {
    dir.join("log").join(format!("{name}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn osts_are_spread_over_the_servers_and_ports_are_distinct() {
        let mut cluster = Cluster::new("/m".into());
        (cluster.osts, cluster.oss) = (5, 2);
        cluster.daemons = daemons(Path::new("/d"), &cluster).unwrap();
        let names: Vec<_> = cluster.daemons.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["mgs", "mds", "oss0", "oss1", "mount"]);
        assert_eq!(cluster.daemons[2].targets, ["OST0000", "OST0002", "OST0004"]);
        assert_eq!(cluster.daemons[3].dirs, [Path::new("/d/ost1"), Path::new("/d/ost3")]);
        let mut ports: Vec<_> = cluster.daemons.iter().map(|d| d.address.clone()).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
