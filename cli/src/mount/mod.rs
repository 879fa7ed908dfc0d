//! `nacre mount`, and `mount.nacre`.

pub(crate) mod helper;
pub(crate) mod options;
pub(crate) mod source;
pub(crate) mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::args::MountArgs;
use options::{Atime, Options};
use source::Source;

/// Mounts, and serves the mount until it is unmounted or a signal comes.
pub(crate) fn main(args: MountArgs) -> anyhow::Result<ExitCode> {
    let options = Options::parse(args.options.iter().map(String::as_str))?;
    let source: Source = args.source.parse()?;
    if options.remount {
        remount(&args.target, &options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let _ = source;
    anyhow::bail!("the client is not part of this version")
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
