//! `nacre mgs`, `nacre mds`, `nacre oss`.

use std::process::ExitCode;
use std::sync::Arc;

use nacre_mgs::store::DiskStore;
use nacre_model::map::Deployment;
use nacre_node::config::Settings;
use nacre_node::tasks::Blocking;
use nacre_node::{FolderKind, TargetFolder, TcpNet};

use crate::args::DaemonArgs;
use crate::process;

const MGS_PORT: u16 = 7400;

/// Settings with the flags over them.
fn settings(args: &DaemonArgs, port: u16) -> anyhow::Result<Settings> {
    let mut settings = process::settings(&args.config)?;
    if let Some(listen) = &args.listen {
        settings.server.listen.clone_from(listen);
    }
    if settings.server.listen.is_empty() {
        settings.server.listen = format!("0.0.0.0:{port}");
    }
    if !args.advertise.is_empty() {
        settings.server.advertise.clone_from(&args.advertise);
    }
    settings.validate()?;
    Ok(settings)
}

/// The one folder of a daemon that has only one.
fn only_folder(args: &DaemonArgs, kind: FolderKind) -> anyhow::Result<TargetFolder> {
    match args.dir.as_slice() {
        [dir] => Ok(TargetFolder::open(dir, kind)?),
        dirs => anyhow::bail!("one --dir, please: {} were given", dirs.len()),
    }
}

/// Runs an MGS.
pub(crate) fn mgs(args: DaemonArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args, MGS_PORT)?;
    let deployment = match settings.mgs.deployment.as_str() {
        "persistent" => Deployment::Persistent,
        _ => Deployment::Scratch,
    };
    let listen = settings.server.listen.clone();
    process::run(&settings, args.child, move |scope| async move {
        let folder = only_folder(&args, FolderKind::Mgs)?;
        let config = nacre_mgs::Config {
            fsname: folder.identity().fsname.clone(),
            deployment,
            listen,
            net: Arc::new(TcpNet),
            store: Arc::new(DiskStore::open(folder.path())?),
            blocking: Blocking::threads(1),
        };
        nacre_mgs::run(config, scope).await?;
        drop(folder);
        Ok(())
    })
}

/// Runs an MDS.
pub(crate) fn mds(_args: DaemonArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the metadata server is not part of this version")
}

/// Runs an OSS.
pub(crate) fn oss(_args: DaemonArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the object storage server is not part of this version")
}
