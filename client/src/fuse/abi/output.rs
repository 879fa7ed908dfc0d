//! Structures that the kernel is answered with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::input::wire;

wire! {
    /// Before every answer.
    struct OutHeader {
        len: u32,
        /// 0 or a negative errno; a notification's code, when `unique` is 0.
        error: i32,
        unique: u64,
    }

    struct InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }

    struct AttrWire {
        ino: u64,
        size: u64,
        blocks: u64,
        atime: i64,
        mtime: i64,
        ctime: i64,
        atime_nsec: u32,
        mtime_nsec: u32,
        ctime_nsec: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
        blksize: u32,
        flags: u32,
    }

    struct EntryOut {
        /// 0: there is no such name, for as long as `entry_valid` says.
        nodeid: u64,
        generation: u64,
        entry_valid: u64,
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: AttrWire,
    }

    struct AttrOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        dummy: u32,
        attr: AttrWire,
    }

    struct StatxTime {
        secs: i64,
        nanos: u32,
        reserved: i32,
    }

    struct StatxOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        flags: u32,
        spare: [u64; 2],
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: StatxTime,
        btime: StatxTime,
        ctime: StatxTime,
        mtime: StatxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        spare2: [u64; 14],
    }

    struct OpenOut {
        fh: u64,
        open_flags: u32,
        padding: u32,
    }

    struct WriteOut {
        size: u32,
        padding: u32,
    }

    struct CopyOut {
        bytes: u64,
    }

    struct LseekOut {
        offset: u64,
    }

    struct StatfsOut {
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }

    struct GetxattrOut {
        size: u32,
        padding: u32,
    }

    struct LkOut {
        start: u64,
        end: u64,
        kind: u32,
        pid: u32,
    }

    /// Notification: forget an inode's attributes and, unless `off` is negative, its pages.
    struct InvalInodeOut {
        ino: u64,
        off: i64,
        /// 0: to the end.
        len: i64,
    }

    struct Dirent {
        ino: u64,
        /// Where to go on after this entry.
        off: u64,
        namelen: u32,
        kind: u32,
    }
}

/// `FUSE_NOTIFY_INVAL_INODE`.
pub(crate) const NOTIFY_INVAL_INODE: i32 = 2;
/// `FUSE_NOTIFY_RESEND`: all requests that were read and not answered are to be sent again, with a
/// bit of their number set.
pub(crate) const NOTIFY_RESEND: i32 = 7;
/// `FUSE_NOTIFY_INC_EPOCH`: all names that were looked up before are to be looked up again.
pub(crate) const NOTIFY_INC_EPOCH: i32 = 8;

/// Sizes that the kernel's header states.
const _: () = {
    assert!(size_of::<OutHeader>() == 16, "fuse_out_header");
    assert!(size_of::<InitOut>() == 64, "fuse_init_out");
    assert!(size_of::<AttrWire>() == 88, "fuse_attr");
    assert!(size_of::<EntryOut>() == 128, "fuse_entry_out");
    assert!(size_of::<StatxOut>() == 32 + 256, "fuse_statx_out");
    assert!(size_of::<StatfsOut>() == 80, "fuse_statfs_out");
    assert!(size_of::<InvalInodeOut>() == 24, "fuse_notify_inval_inode_out");
};
