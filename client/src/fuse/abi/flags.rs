//! Flag words of requests and answers.

bitflags::bitflags! {
    /// What both sides can do; the answer to INIT picks among what the kernel offered.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Init: u64 {
        const ASYNC_READ = 1 << 0;
        const POSIX_LOCKS = 1 << 1;
        /// LOOKUP of `.` and `..` by any node id: NFS export and `open_by_handle_at`.
        const EXPORT_SUPPORT = 1 << 4;
        const BIG_WRITES = 1 << 5;
        const DONT_MASK = 1 << 6;
        const FLOCK_LOCKS = 1 << 10;
        const AUTO_INVAL_DATA = 1 << 12;
        const DO_READDIRPLUS = 1 << 13;
        const ASYNC_DIO = 1 << 15;
        const PARALLEL_DIROPS = 1 << 18;
        const POSIX_ACL = 1 << 20;
        const ABORT_ERROR = 1 << 21;
        const MAX_PAGES = 1 << 22;
        const CACHE_SYMLINKS = 1 << 23;
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        const SETXATTR_EXT = 1 << 29;
        /// The structure has a second flag word.
        const INIT_EXT = 1 << 30;
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        const HAS_RESEND = 1 << 39;
    }

    /// `fuse_setattr_in.valid`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Setattr: u32 {
        const MODE = 1 << 0;
        const UID = 1 << 1;
        const GID = 1 << 2;
        const SIZE = 1 << 3;
        const ATIME = 1 << 4;
        const MTIME = 1 << 5;
        const FH = 1 << 6;
        const ATIME_NOW = 1 << 7;
        const MTIME_NOW = 1 << 8;
        const LOCKOWNER = 1 << 9;
        const CTIME = 1 << 10;
        const KILL_SUIDGID = 1 << 11;
    }

    /// `fuse_open_out.open_flags`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Fopen: u32 {
        const DIRECT_IO = 1 << 0;
        const KEEP_CACHE = 1 << 1;
        /// Of a directory: keep the listing.
        const CACHE_DIR = 1 << 3;
        const PARALLEL_DIRECT_WRITES = 1 << 6;
    }
}

/// `fuse_write_in.write_flags`: write-back of a shared mapping; the handle is any that can write.
pub(crate) const WRITE_CACHE: u32 = 1 << 0;
/// `fuse_write_in.write_flags`: the writer has no `CAP_FSETID`.
pub(crate) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `fuse_release_in.release_flags`: drop the open file's flock.
pub(crate) const RELEASE_FLOCK_UNLOCK: u32 = 1 << 1;
/// `fuse_lk_in.lk_flags`: `flock`, not `fcntl`.
pub(crate) const LK_FLOCK: u32 = 1 << 0;
/// `fuse_fsync_in.fsync_flags`: `fdatasync`.
pub(crate) const FSYNC_FDATASYNC: u32 = 1 << 0;
/// `fuse_setxattr_in.setxattr_flags`: an access ACL set by somebody outside the group.
pub(crate) const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
