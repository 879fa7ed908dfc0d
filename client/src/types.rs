//! What operations take and give.

use bitflags::bitflags;
use nacre_model::{Attr, Errno, Fid, FileKind, LayoutTemplate, Name, OstIndex, Timestamp};

use crate::ClientError;

/// Who asks. Permissions were checked by the kernel (`default_permissions`) or are the metadata
/// server's to check; the client itself checks none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// User, for file-system purposes.
    pub uid: u32,
    /// Group, for file-system purposes.
    pub gid: u32,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`: the metadata server's clock.
    Now,
    /// This one.
    At(Timestamp),
}

/// What `setattr` changes; everything absent stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits, 12 of them.
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncate or extend to so many bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of data.
    pub mtime: Option<SetTime>,
    /// Clear setuid and setgid as a write by a non-owner does (`FATTR_KILL_SUIDGID`).
    pub kill_suidgid: bool,
}

/// What `create` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link with this target: 1 to 4095 bytes.
    Symlink(Vec<u8>),
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device with this number.
    CharDevice(u64),
    /// Block device with this number.
    BlockDevice(u64),
}

impl CreateKind {
    /// The kind of inode.
    pub const fn file_kind(&self) -> FileKind {
        match self {
            Self::Regular => FileKind::Regular,
            Self::Directory => FileKind::Directory,
            Self::Symlink(_) => FileKind::Symlink,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
            Self::CharDevice(_) => FileKind::CharDevice,
            Self::BlockDevice(_) => FileKind::BlockDevice,
        }
    }
}

/// A new inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// What it is.
    pub kind: CreateKind,
    /// Permission bits as the application gave them, before the umask.
    pub perm: u32,
    /// Applied by the server unless the parent has a default ACL.
    pub umask: u32,
    /// Layout of a regular file; `None`: the directory's default.
    pub layout: Option<LayoutTemplate>,
}

bitflags! {
    /// How a file is opened.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct OpenFlags: u32 {
        /// Reads are allowed.
        const READ = 1;
        /// Writes are allowed.
        const WRITE = 1 << 1;
        /// Every write goes to the end.
        const APPEND = 1 << 2;
        /// Data goes straight to the servers.
        const DIRECT = 1 << 3;
        /// Writes return when they are on disk (`O_SYNC`, `O_DSYNC`).
        const SYNC = 1 << 4;
        /// Reads leave the access time.
        const NOATIME = 1 << 5;
        /// Cut to nothing first.
        const TRUNCATE = 1 << 6;
        /// With creation: an existing name is EEXIST.
        const EXCLUSIVE = 1 << 7;
    }
}

bitflags! {
    /// How one write is done, over and above the flags of its handle.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct WriteFlags: u32 {
        /// To the end of the file, wherever that is; the offset is ignored.
        const APPEND = 1;
        /// On disk before it returns.
        const SYNC = 1 << 1;
        /// Straight to the servers.
        const DIRECT = 1 << 2;
        /// Clear setuid and setgid (`FUSE_WRITE_KILL_SUIDGID`).
        const KILL_SUIDGID = 1 << 3;
        /// Written back from the page cache (mmap): the size is not extended beyond the file's.
        const PAGE_CACHE = 1 << 4;
    }
}

bitflags! {
    /// `renameat2` flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RenameFlags: u32 {
        /// EEXIST if the new name exists.
        const NOREPLACE = 1;
        /// Swap the two.
        const EXCHANGE = 1 << 1;
    }
}

/// What `fallocate` does. Collapsing and inserting ranges are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocateMode {
    /// Reserve space, and extend the file to the end of the range.
    Reserve,
    /// Reserve space, keep the size.
    ReserveKeepSize,
    /// Free the space; the range reads as zeros; the size stays.
    PunchHole,
    /// The range reads as zeros; extends the file.
    ZeroRange,
    /// The range reads as zeros; the size stays.
    ZeroRangeKeepSize,
}

impl AllocateMode {
    /// From the `mode` of `fallocate(2)`.
    ///
    /// # Errors
    /// EOPNOTSUPP for collapse, insert and unknown flags, EINVAL for impossible combinations.
    pub fn from_bits(mode: i32) -> Result<Self, ClientError> {
        match mode {
            0 => Ok(Self::Reserve),
            1 => Ok(Self::ReserveKeepSize),
            3 => Ok(Self::PunchHole),
            0x10 => Ok(Self::ZeroRange),
            0x11 => Ok(Self::ZeroRangeKeepSize),
            _ => Err(ClientError::refused(Errno::EOPNOTSUPP, "fallocate mode is not supported")),
        }
    }
}

/// Where `lseek` looks from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekFrom {
    /// The first data at or after this offset.
    Data(u64),
    /// The first hole at or after this offset; the end of the file counts as one.
    Hole(u64),
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: Name,
    /// Hand it back to go on after this entry: 3 to 2^63 - 1, ascending.
    pub cookie: u64,
    /// The inode.
    pub fid: Fid,
    /// What it is.
    pub kind: FileKind,
    /// Its attributes, when asked for.
    pub attr: Option<Attr>,
}

/// A run of a directory's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirPage {
    /// Without `.` and `..`.
    pub entries: Vec<DirEntry>,
    /// Nothing comes after these.
    pub eof: bool,
    /// What `..` is.
    pub parent: Fid,
}

/// When `setxattr` refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrSet {
    /// Never: create or replace.
    #[default]
    Any,
    /// EEXIST if it is there (`XATTR_CREATE`).
    Create,
    /// ENODATA if it is not (`XATTR_REPLACE`).
    Replace,
}

/// Who holds a lock: the kernel's lock owner, and the process for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockOwner {
    /// The kernel's number of the owner.
    pub owner: u64,
    /// Process id, told to others by `F_GETLK`.
    pub pid: u32,
}

/// Which of the two families of locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockKind {
    /// `fcntl`, by range.
    Posix,
    /// `flock`, whole file.
    Flock,
}

/// Shared or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
}

/// A lock held, or wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockHold {
    /// Family.
    pub kind: LockKind,
    /// Shared or exclusive.
    pub mode: LockMode,
    /// Whose.
    pub owner: LockOwner,
    /// First byte; 0 for flock.
    pub start: u64,
    /// Last byte, inclusive; `i64::MAX` for "to the end" and for flock.
    pub end: u64,
}

/// Space of one OST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OstSpace {
    /// Which.
    pub ost: OstIndex,
    /// Whether it answers.
    pub up: bool,
    /// Size in bytes.
    pub bytes_total: u64,
    /// Free to root, in bytes.
    pub bytes_free: u64,
    /// Free to users, in bytes.
    pub bytes_available: u64,
    /// Objects on it.
    pub objects_used: u64,
    /// Objects that it may still take.
    pub objects_free: u64,
}

/// Space of the file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatFs {
    /// Sum over the OSTs that answer, in bytes.
    pub bytes_total: u64,
    /// Free to root, in bytes.
    pub bytes_free: u64,
    /// Free to users, in bytes.
    pub bytes_available: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Inodes that may still be made.
    pub inodes_free: u64,
    /// Size of the MDT, in bytes.
    pub mdt_bytes_total: u64,
    /// Free on the MDT, in bytes.
    pub mdt_bytes_free: u64,
    /// Each OST of the map, ascending.
    pub osts: Vec<OstSpace>,
}
