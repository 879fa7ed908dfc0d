//! What a mount is asked to be.

use std::path::PathBuf;

use rustix::mount::MountFlags;

/// Settings of one mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// What is mounted, as `df` and the mount table show it.
    pub source: String,
    /// Where: an existing directory.
    pub target: PathBuf,
    /// Flags that the kernel enforces: read-only, nodev, nosuid, noexec, sync.
    pub flags: MountFlags,
    /// Whether other users than the mounting one may use the mount. Permissions are checked in
    /// either case.
    pub allow_other: bool,
    /// Who decides on locks.
    pub locks: LockScope,
}

impl MountOptions {
    /// A mount for all users with cluster-wide locks; without devices and setuid programs.
    pub fn new(source: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            flags: MountFlags::NODEV | MountFlags::NOSUID,
            allow_other: true,
            locks: LockScope::Cluster,
        }
    }
}

/// Who decides on `flock` and `fcntl` locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockScope {
    /// The metadata server, for all clients.
    Cluster,
    /// This machine's kernel, for itself: Lustre's `localflock`.
    Local,
    /// Nobody; locking fails with `ENOSYS`: Lustre's `noflock`.
    None,
}
