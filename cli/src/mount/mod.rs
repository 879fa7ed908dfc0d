//! `nacre mount`, and `mount.nacre`.

pub(crate) mod helper;
mod holder;
pub(crate) mod options;
pub(crate) mod source;
pub(crate) mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nacre_client::config::AtimePolicy;
use nacre_client::fuse::{Ended, LockScope, MountOptions, mount_and_serve, serve};
use nacre_client::{Client, ClientConfig};
use nacre_node::config::ClientSettings;
use nacre_node::{Scope, SystemClock, TcpNet, telemetry};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::MountArgs;
use crate::process;
use holder::Legacy;
use options::{Atime, Locks, Options};
use source::Source;

/// Mounts, and serves the mount until it is unmounted or a signal comes.
pub(crate) fn main(mut args: MountArgs) -> anyhow::Result<ExitCode> {
    let options = Options::parse(args.options.iter().map(String::as_str))?;
    let source: Source = args.source.parse()?;
    if options.remount {
        remount(&args.target, &options)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.background {
        rustix::process::setsid().context("leave the terminal")?;
    }
    args.config.config = args.config.config.or_else(|| options.config.clone());
    args.config.set.extend(options.set.iter().cloned());
    let settings = process::settings(&args.config)?;
    let target = table::absolute(&args.target).context("mount point")?;
    if options.holder && !args.held {
        return holder::main(args.child, &target);
    }
    let legacy = args.held.then(holder::receive).transpose()?;
    let client = settings.client.clone();
    let child = args.child;
    process::run(&settings, child, move |stop| async move {
        let mount = Mount { name: args.source, source, target, options };
        mount.serve(&client, legacy, stop).await
    })
}

/// What was asked for.
struct Mount {
    name: String,
    source: Source,
    target: PathBuf,
    options: Options,
}

impl Mount {
    async fn serve(
        self,
        settings: &ClientSettings,
        legacy: Option<Legacy>,
        stop: Scope,
    ) -> anyhow::Result<()> {
        // Outlives the mount: the last writes leave after it is gone.
        let scope = Scope::new();
        let mut config = client_config(&self.source, &self.options, settings, scope.clone());
        let queues = match legacy {
            Some(legacy) => {
                config.journal = legacy.journal;
                Some(legacy.queues)
            }
            None => None,
        };
        let client = tokio::select! {
            client = Client::connect(config) => client?,
            () = stop.stopped() => return Ok(()),
        };
        let (target, mount) = (self.target.clone(), self.kernel_options());
        let ready = || {
            tracing::info!(target = %target.display(), "mounted");
            telemetry::set_ready(true);
        };
        let served = match queues {
            Some(queues) => {
                let leave = when_asked_to_leave(&scope)?;
                serve(client.clone(), mount, queues, stop, leave, ready).await
            }
            None => mount_and_serve(client.clone(), mount, stop, ready).await,
        };
        if let Ok(Ended::HandedOver) = served {
            hand_over(&client).await;
        }
        let flushed = client.disconnect().await;
        scope.join().await;
        match served? {
            Ended::Unmounted | Ended::HandedOver => tracing::info!("unmounted"),
            Ended::Busy => tracing::warn!("unmounted while files are open: they give ENOTCONN now"),
            Ended::Aborted => {
                tracing::warn!("the connection to the kernel was ended by force");
            }
        }
        flushed.context("write out what was not yet written")
    }

    fn kernel_options(&self) -> MountOptions {
        MountOptions {
            source: self.name.clone(),
            target: self.target.clone(),
            flags: kernel_flags(&self.options),
            allow_other: self.options.allow_other,
            locks: match self.options.locks {
                Locks::Cluster => LockScope::Cluster,
                Locks::Local => LockScope::Local,
                Locks::None => LockScope::None,
            },
        }
    }
}

/// Stops when another process shall take over.
fn when_asked_to_leave(scope: &Scope) -> anyhow::Result<Scope> {
    let mut asked = signal(SignalKind::user_defined2()).context("listen to SIGUSR2")?;
    let leave = Scope::new();
    let leaving = leave.clone();
    scope.spawn("hand-over", async move {
        asked.recv().await;
        tracing::info!("handing over to another process");
        leaving.stop();
    });
    Ok(leave)
}

/// Ends this process, so that its holder starts the next. Nothing that still runs may answer the
/// kernel any more, so nothing is wound up.
async fn hand_over(client: &Client) -> ! {
    if let Err(error) = client.hand_over().await {
        tracing::error!(%error, "not everything could be written before the hand-over");
    }
    std::process::exit(holder::HANDED_OVER)
}

fn client_config(
    source: &Source,
    options: &Options,
    settings: &ClientSettings,
    scope: Scope,
) -> ClientConfig {
    let (net, clock) = (Arc::new(TcpNet), Arc::new(SystemClock));
    let mut config =
        ClientConfig::new(net, clock, scope, source.mgs.clone(), source.fsname.as_str());
    config.subdir = source.subdir.clone().into_bytes();
    config.read_only = options.read_only;
    config.leases = options.leases;
    config.sync_on_close = options.sync_on_close;
    config.atime = match options.atime {
        Atime::Relatime => AtimePolicy::Relatime,
        Atime::Noatime => AtimePolicy::Noatime,
        Atime::Strictatime => AtimePolicy::Strictatime,
    };
    config.connect_deadline = Duration::from_secs(options.retry_seconds);
    config.mds_deadline = Duration::from_secs(settings.mds_deadline_seconds);
    config.ost_deadline = Duration::from_secs(settings.ost_deadline_seconds);
    // Within 32 bits: Settings::validate has seen to it.
    config.dirty_bytes_max = u32::try_from(settings.dirty_bytes_max.0).unwrap_or(u32::MAX);
    config.readahead_bytes_max = u32::try_from(settings.readahead_bytes_max.0).unwrap_or(u32::MAX);
    config.retained_bytes_max = settings.retained_bytes_max.0;
    config.rpc_bytes = settings.rpc_bytes.0;
    config
}

/// Changes the flags of a mount that is there. The kernel enforces them.
pub(crate) fn remount(target: &Path, options: &Options) -> anyhow::Result<()> {
    let flags = kernel_flags(options);
    rustix::mount::mount_remount(target, flags, "")
        .with_context(|| format!("remount {}", target.display()))
}

/// Options that the kernel keeps for us.
pub(crate) fn kernel_flags(options: &Options) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NODEV, !options.dev);
    flags.set(MountFlags::NOSUID, !options.suid);
    flags.set(MountFlags::NOEXEC, !options.exec);
    flags.set(MountFlags::SYNCHRONOUS, options.sync);
    flags.set(MountFlags::DIRSYNC, options.dirsync);
    flags.set(MountFlags::NOATIME, options.atime == Atime::Noatime);
    flags.set(MountFlags::RELATIME, options.atime == Atime::Relatime);
    flags.set(MountFlags::STRICTATIME, options.atime == Atime::Strictatime);
    flags
}

/// Takes a mount away at once, though files in it may be open and its server dead.
pub(crate) fn unmount_lazily(target: &Path) -> anyhow::Result<()> {
    rustix::mount::unmount(target, UnmountFlags::DETACH)
        .with_context(|| format!("unmount {}", target.display()))
}
