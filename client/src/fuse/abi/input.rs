//! Structures that the kernel sends. Every bit pattern is a value; meaning is checked later.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! wire {
    ($($(#[$attr:meta])* struct $name:ident { $($(#[$note:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name { $($(#[$note])* pub(crate) $field: $kind,)* }
    )*};
}
pub(super) use wire;

wire! {
    /// Before every request.
    struct InHeader {
        len: u32,
        opcode: u32,
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        /// Length of what follows the arguments, in units of 8 bytes.
        total_extlen: u16,
        _padding: u16,
    }

    /// The part of INIT that every kernel since 7.6 sends; `flags2` follows with `INIT_EXT`.
    struct InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    }

    struct ForgetIn {
        lookups: u64,
    }

    /// `BATCH_FORGET`: so many [`ForgetOne`] follow.
    struct BatchForgetIn {
        count: u32,
        _dummy: u32,
    }

    struct ForgetOne {
        nodeid: u64,
        lookups: u64,
    }

    struct SetattrIn {
        valid: u32,
        _padding: u32,
        fh: u64,
        size: u64,
        _lock_owner: u64,
        atime: i64,
        mtime: i64,
        _ctime: i64,
        atime_nsec: u32,
        mtime_nsec: u32,
        _ctime_nsec: u32,
        mode: u32,
        _unused4: u32,
        uid: u32,
        gid: u32,
        _unused5: u32,
    }

    struct MknodIn {
        mode: u32,
        rdev: u32,
        umask: u32,
        _padding: u32,
    }

    struct MkdirIn {
        mode: u32,
        umask: u32,
    }

    struct RenameIn {
        newdir: u64,
    }

    struct Rename2In {
        newdir: u64,
        flags: u32,
        _padding: u32,
    }

    struct LinkIn {
        oldnodeid: u64,
    }

    struct OpenIn {
        flags: u32,
        open_flags: u32,
    }

    /// CREATE and TMPFILE.
    struct CreateIn {
        flags: u32,
        mode: u32,
        umask: u32,
        open_flags: u32,
    }

    struct ReleaseIn {
        fh: u64,
        _flags: u32,
        release_flags: u32,
        lock_owner: u64,
    }

    struct FlushIn {
        fh: u64,
        _unused: u32,
        _padding: u32,
        lock_owner: u64,
    }

    /// READ, READDIR and READDIRPLUS.
    struct ReadIn {
        fh: u64,
        offset: u64,
        size: u32,
        _read_flags: u32,
        _lock_owner: u64,
        flags: u32,
        _padding: u32,
    }

    struct WriteIn {
        fh: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        _lock_owner: u64,
        flags: u32,
        _padding: u32,
    }

    struct FsyncIn {
        fh: u64,
        flags: u32,
        _padding: u32,
    }

    /// With `SETXATTR_EXT`; without it the last two fields are absent.
    struct SetxattrIn {
        size: u32,
        flags: u32,
        setxattr_flags: u32,
        _padding: u32,
    }

    struct SetxattrCompatIn {
        size: u32,
        flags: u32,
    }

    /// GETXATTR and LISTXATTR.
    struct GetxattrIn {
        size: u32,
        _padding: u32,
    }

    struct LkIn {
        fh: u64,
        owner: u64,
        start: u64,
        /// Inclusive.
        end: u64,
        kind: u32,
        pid: u32,
        lk_flags: u32,
        _padding: u32,
    }

    struct InterruptIn {
        unique: u64,
    }

    struct FallocateIn {
        fh: u64,
        offset: u64,
        length: u64,
        mode: u32,
        _padding: u32,
    }

    struct LseekIn {
        fh: u64,
        offset: u64,
        whence: u32,
        _padding: u32,
    }

    struct CopyFileRangeIn {
        fh_in: u64,
        off_in: u64,
        nodeid_out: u64,
        fh_out: u64,
        off_out: u64,
        len: u64,
        flags: u64,
    }
}

/// Sizes that the kernel's header states.
const _: () = {
    assert!(size_of::<InHeader>() == 40, "fuse_in_header");
    assert!(size_of::<SetattrIn>() == 88, "fuse_setattr_in");
    assert!(size_of::<ReadIn>() == 40, "fuse_read_in");
    assert!(size_of::<WriteIn>() == 40, "fuse_write_in");
    assert!(size_of::<LkIn>() == 48, "fuse_lk_in");
    assert!(size_of::<CopyFileRangeIn>() == 56, "fuse_copy_file_range_in");
};
