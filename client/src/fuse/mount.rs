//! Mounting and unmounting.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::device::Device;
use super::fusermount;
use super::options::MountOptions;

/// The type in the mount table. With its own name after the dot, so that `mount -t fuse.nacre` and
/// `findmnt` find it.
pub(super) const FS_TYPE: &str = "fuse.nacre";
/// Stale mounts that are taken away from one directory; more are a mistake of somebody else.
const STALE_MAX: usize = 8;

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point is not there, or not to be had.
    #[error("mount point {target}")]
    Target {
        /// Where it should be.
        target: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The mount point is not a directory.
    #[error("mount point {target} is not a directory")]
    NotDirectory {
        /// What it is instead.
        target: PathBuf,
    },
    /// No `/dev/fuse`: the kernel has no FUSE, or this container may not use it.
    #[error("open /dev/fuse")]
    Device(#[source] io::Error),
    /// The kernel refused.
    #[error("mount {source_name} on {target}")]
    Refused {
        /// What.
        source_name: String,
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Without the right to mount, `fusermount3` does it; it did not.
    #[error("fusermount3: {said}")]
    Helper {
        /// Its own words, or why it could not be run.
        said: String,
    },
}

/// Mounts, and makes `options.target` the path that it will be unmounted by. A mount that stands on
/// the same directory, and whose process is gone, is taken away first.
/// `device` is connected to it, unless the mount helper brings one of its own.
pub(super) fn mount(options: &mut MountOptions, device: Device) -> Result<Device, MountError> {
    clear_stale(&options.target)?;
    options.target = options.target.canonicalize().map_err(|source| at(&options.target, source))?;
    if rustix::process::geteuid().is_root() {
        mount_directly(options, device)
    } else {
        fusermount::mount(options)
    }
}

/// Takes away what a killed process left: nothing could unmount in its place.
fn clear_stale(target: &Path) -> Result<(), MountError> {
    for _ in 0..STALE_MAX {
        match rustix::fs::stat(target) {
            Ok(stat) => {
                return if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
                    Ok(())
                } else {
                    Err(MountError::NotDirectory { target: target.to_owned() })
                };
            }
            Err(Errno::NOTCONN | Errno::CONNABORTED) => {
                tracing::info!(target = %target.display(), "taking a dead mount away");
                unmount_lazily(target).map_err(|source| at(target, source))?;
            }
            Err(error) => return Err(at(target, error.into())),
        }
    }
    Err(at(target, Errno::BUSY.into()))
}

fn at(target: &Path, source: io::Error) -> MountError {
    MountError::Target { target: target.to_owned(), source }
}

fn mount_directly(options: &MountOptions, device: Device) -> Result<Device, MountError> {
    let allow_other = if options.allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{allow_other}",
        device.fd().as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let data = CString::new(data).expect("numbers and words have no NUL");
    rustix::mount::mount(
        options.source.as_str(),
        &options.target,
        FS_TYPE,
        options.flags,
        data.as_c_str(),
    )
    .map_err(|error| MountError::Refused {
        source_name: options.source.clone(),
        target: options.target.clone(),
        source: error.into(),
    })?;
    Ok(device)
}

/// What became of a mount that was to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmounted {
    /// It is gone from here; other mount namespaces may have it still.
    Now,
    /// It is out of sight; whoever has files open in it goes on until they are closed.
    WhenIdle,
}

/// Unmounts; lazily when it is busy. Blocks while the kernel flushes, so not on a thread that the
/// mount is served by.
pub(super) fn unmount(target: &Path) -> io::Result<Unmounted> {
    if !rustix::process::geteuid().is_root() {
        return fusermount::unmount(target).map(|()| Unmounted::WhenIdle);
    }
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(Unmounted::Now),
        // Somebody else was faster, and lazy.
        Err(Errno::INVAL) => Ok(Unmounted::WhenIdle),
        Err(Errno::BUSY) => {
            rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
            Ok(Unmounted::WhenIdle)
        }
        Err(error) => Err(error.into()),
    }
}

fn unmount_lazily(target: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        Ok(rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
    } else {
        fusermount::unmount(target)
    }
}
