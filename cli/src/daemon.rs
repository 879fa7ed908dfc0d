//! `nacre mgs`, `nacre mds`, `nacre oss`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nacre_mds::MdsConfig;
use nacre_mds::store::{Gathered, SledOptions, open_or_renew};
use nacre_mgs::store::DiskStore;
use nacre_model::map::Deployment;
use nacre_node::config::{ServerSettings, Settings};
use nacre_node::tasks::Blocking;
use nacre_node::{FolderKind, Identity, OsDisk, SystemClock, TargetFolder, TcpNet};
use nacre_oss::{OssConfig, OstFolder};

use crate::args::DaemonArgs;
use crate::process;

const MGS_PORT: u16 = 7400;
const MDS_PORT: u16 = 7401;
const OSS_PORT: u16 = 7402;

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
pub(crate) fn mds(args: DaemonArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args, MDS_PORT)?;
    let advertise = advertised(&settings.server);
    let (server, mds) = (settings.server.clone(), settings.mds.clone());
    process::run(&settings, args.child, move |scope| async move {
        let folder = only_folder(&args, FolderKind::Mdt)?;
        // Takes about twice as much memory as it is told.
        let options = SledOptions { cache_bytes: mds.store_cache_bytes.0 / 2 };
        let store = open_or_renew(&folder.path().join("store"), &options)?;
        let mut config = MdsConfig::new(
            identity(&folder, &args),
            &server.listen,
            Arc::new(TcpNet),
            Arc::new(SystemClock),
            Arc::new(OsDisk::new(folder.path())),
            Arc::new(Gathered::new(store)),
        );
        config.server = server_name("mds");
        config.advertise = advertise;
        config.lease = Duration::from_secs(mds.lease_seconds);
        config.sweep_interval = Duration::from_secs(mds.sweep_seconds);
        // Within 32 bits: Settings::validate has seen to it.
        config.inline_max = u32::try_from(mds.inline_bytes_max.0).unwrap_or(0);
        nacre_mds::run(config, scope).await?;
        drop(folder);
        Ok(())
    })
}

/// Runs an OSS.
pub(crate) fn oss(args: DaemonArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args, OSS_PORT)?;
    let advertise = advertised(&settings.server);
    let (server, oss) = (settings.server.clone(), settings.oss.clone());
    process::run(&settings, args.child, move |scope| async move {
        let mut config =
            OssConfig::new(&server.listen, Arc::new(TcpNet), Arc::new(SystemClock), rand::random());
        config.server = server_name("oss");
        config.advertise = advertise;
        config.io_threads = Some(oss.io_threads);
        let scrub = oss.scrub_bytes_per_second.0;
        config.scrub_bytes_per_second = (scrub > 0).then_some(scrub);
        // Their locks are held until the server has stopped.
        let mut folders = Vec::new();
        for dir in &args.dir {
            let folder = TargetFolder::open(dir, FolderKind::Ost)?;
            let identity = identity(&folder, &args);
            config.osts.push(OstFolder { identity, disk: Arc::new(OsDisk::new(dir)) });
            folders.push(folder);
        }
        nacre_oss::run(config, scope).await?;
        drop(folders);
        Ok(())
    })
}

/// The folder's identity, with the MGS that the command line names, if it does.
fn identity(folder: &TargetFolder, args: &DaemonArgs) -> Identity {
    let mut identity = folder.identity().clone();
    if !args.mgsnode.is_empty() {
        identity.mgs_nodes.clone_from(&args.mgsnode);
    }
    identity
}

/// What peers are told: as said, or where it listens, or this host's name if that is everywhere.
fn advertised(server: &ServerSettings) -> Vec<String> {
    if !server.advertise.is_empty() {
        return server.advertise.clone();
    }
    match server.listen.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]", port)) => vec![format!("{}:{port}", host_name())],
        Some(_) | None => vec![server.listen.clone()],
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn server_name(role: &str) -> String {
    format!("{role}@{}:{}", host_name(), std::process::id())
}
