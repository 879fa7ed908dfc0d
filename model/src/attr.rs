//! Attributes of an inode.

use crate::{Fid, Timestamp};

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// The type bits of `st_mode`.
pub const S_IFMT: u32 = 0o170_000;
/// All permission bits, with setuid, setgid and sticky.
pub const PERM_MASK: u32 = 0o7777;

impl FileKind {
    /// The type bits of `st_mode`.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// From the type bits of `mode`; `None` when they name no type.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & S_IFMT {
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::Regular,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// `d_type` of `getdents`, 4 bits.
    pub const fn dirent_type(self) -> u8 {
        match self {
            Self::Fifo => 1,
            Self::CharDevice => 2,
            Self::Directory => 4,
            Self::BlockDevice => 6,
            Self::Regular => 8,
            Self::Symlink => 10,
            Self::Socket => 12,
        }
    }
}

/// Attributes as the metadata server knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub fid: Fid,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub perm: u32,
    /// Hard links; 2 + subdirectories for a directory; 0 for an orphan.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as Linux encodes 64-bit `dev_t`; else 0.
    pub rdev: u64,
    /// Size in bytes. With `size_lazy` a lower bound: the OSTs' objects may reach further.
    pub size: u64,
    /// Allocated space in 512-byte units, as last reported.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of data.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
    /// Whether some client has (or had, when it died) the file's objects open for writing.
    pub size_lazy: bool,
    /// Changes whenever the layout does, and when data moves between inode and objects.
    pub layout_gen: u32,
    /// Extended attributes, ACLs included.
    pub xattr_count: u32,
    /// The bytes are only in the archive. Lustre: `HS_RELEASED`.
    pub released: bool,
}
