//! Attributes as the kernel takes them.

use nacre_model::{Attr, FileKind, Timestamp};

use super::abi::output::{AttrOut, AttrWire, EntryOut, StatfsOut, StatxOut, StatxTime};
use super::lease::Validity;
use super::nodes::Nodes;
use crate::types::StatFs;

/// What `stat` recommends for I/O. Standard I/O takes buffers of this size, so a megabyte would
/// cost every opened `FILE` that much, and a page would cost a request each.
const BLKSIZE: u32 = 128 << 10;
/// Unit of `statfs`.
const STATFS_BLOCK: u32 = 4096;
/// `STATX_BASIC_STATS | STATX_BTIME`.
const STATX_MASK: u32 = 0x07ff | 0x0800;

/// Sizes beyond are refused by the kernel, which then takes the inode for broken.
fn size(bytes: u64) -> u64 {
    bytes.min(i64::MAX.cast_unsigned())
}

fn mode(attr: &Attr) -> u32 {
    attr.kind.mode_bits() | attr.perm
}

/// The low half is the kernel's own 32-bit encoding for all device numbers that exist (12 bits of
/// major, 20 of minor).
fn rdev(attr: &Attr) -> u32 {
    u32::try_from(attr.rdev & u64::from(u32::MAX)).unwrap_or_default()
}

pub(super) fn attr(attr: &Attr) -> AttrWire {
    AttrWire {
        ino: attr.fid.ino(),
        size: size(attr.size),
        blocks: attr.blocks,
        atime: attr.atime.secs,
        mtime: attr.mtime.secs,
        ctime: attr.ctime.secs,
        atime_nsec: attr.atime.nanos,
        mtime_nsec: attr.mtime.nanos,
        ctime_nsec: attr.ctime.nanos,
        mode: mode(attr),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: rdev(attr),
        blksize: BLKSIZE,
        flags: 0,
    }
}

pub(super) fn attr_out(of: &Attr, validity: Validity) -> AttrOut {
    AttrOut {
        attr_valid: validity.attr.as_secs(),
        attr_valid_nsec: validity.attr.subsec_nanos(),
        dummy: 0,
        attr: attr(of),
    }
}

pub(super) fn entry_out(nodes: Nodes, of: &Attr, validity: Validity) -> EntryOut {
    EntryOut {
        nodeid: nodes.id(of.fid),
        // Fids are never used twice, so neither are node ids.
        generation: 0,
        entry_valid: validity.entry.as_secs(),
        attr_valid: validity.attr.as_secs(),
        entry_valid_nsec: validity.entry.subsec_nanos(),
        attr_valid_nsec: validity.attr.subsec_nanos(),
        attr: attr(of),
    }
}

/// "Look it up when you need it": what READDIRPLUS says of an entry without attributes.
pub(super) fn no_entry() -> EntryOut {
    zerocopy::FromZeros::new_zeroed()
}

/// What READDIRPLUS says of its last entry: `number`, and attributes that no inode has.
pub(super) fn listing_entry(number: u64) -> EntryOut {
    EntryOut { nodeid: number, ..no_entry() }
}

/// "There is no such name."
pub(super) fn absent(validity: Validity) -> EntryOut {
    EntryOut {
        entry_valid: validity.entry.as_secs(),
        entry_valid_nsec: validity.entry.subsec_nanos(),
        ..no_entry()
    }
}

const fn statx_time(time: Timestamp) -> StatxTime {
    StatxTime { secs: time.secs, nanos: time.nanos, reserved: 0 }
}

pub(super) fn statx_out(of: &Attr, validity: Validity) -> StatxOut {
    let device = rdev(of);
    StatxOut {
        attr_valid: validity.attr.as_secs(),
        attr_valid_nsec: validity.attr.subsec_nanos(),
        flags: 0,
        spare: [0; 2],
        mask: STATX_MASK,
        blksize: BLKSIZE,
        attributes: 0,
        nlink: of.nlink,
        uid: of.uid,
        gid: of.gid,
        mode: u16::try_from(mode(of)).unwrap_or_default(),
        spare0: 0,
        ino: of.fid.ino(),
        size: size(of.size),
        blocks: of.blocks,
        attributes_mask: 0,
        atime: statx_time(of.atime),
        btime: statx_time(of.btime),
        ctime: statx_time(of.ctime),
        mtime: statx_time(of.mtime),
        rdev_major: (device >> 8) & 0xfff,
        rdev_minor: (device & 0xff) | ((device >> 12) & 0xf_ff00),
        dev_major: 0,
        dev_minor: 0,
        spare2: [0; 14],
    }
}

pub(super) fn statfs(of: &StatFs) -> StatfsOut {
    let blocks = |bytes: u64| bytes / u64::from(STATFS_BLOCK);
    StatfsOut {
        blocks: blocks(of.bytes_total),
        bfree: blocks(of.bytes_free),
        bavail: blocks(of.bytes_available),
        files: of.inodes_used.saturating_add(of.inodes_free),
        ffree: of.inodes_free,
        bsize: STATFS_BLOCK,
        namelen: 255,
        frsize: STATFS_BLOCK,
        padding: 0,
        spare: [0; 6],
    }
}

/// `d_type` of a directory record.
pub(super) fn dirent_kind(kind: FileKind) -> u32 {
    u32::from(kind.dirent_type())
}
