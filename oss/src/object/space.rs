//! Room on the disk, asked before data is accepted.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use nacre_node::Disk;
use nacre_node::disk::Space;

use crate::error::OssError;

/// The disk is asked again after this much was accepted, or this many changes.
const ASK_EVERY_BYTES: i64 = 16 << 20;
const ASK_EVERY_CHANGES: u32 = 64;
/// With less than this left, space is reserved before data is written: others may use the disk,
/// and what they take between the question and the write would be missing in its middle.
const TIGHT_BYTES: i64 = 256 << 20;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// More than enough.
    Plenty,
    /// Reserve before writing.
    Tight,
    /// None for anything new.
    Full {
        /// Bytes, without the reserve.
        available: u64,
    },
}

/// Remembers what the disk said of its space.
#[derive(Debug)]
pub(crate) struct Budget {
    reserve_bytes: u64,
    left: AtomicI64,
    since: AtomicI64,
    changes: AtomicU32,
}

impl Budget {
    /// The reserve stays free for checksums, the logs and the file system's own needs.
    pub(crate) fn new(reserve_bytes: u64) -> Self {
        Self {
            reserve_bytes,
            left: AtomicI64::new(0),
            since: AtomicI64::new(0),
            changes: AtomicU32::new(0),
        }
    }

    /// How much room there is for `len` more bytes.
    pub(crate) fn admit(&self, disk: &dyn Disk, len: u64) -> Result<Room, OssError> {
        let wanted = i64::try_from(len).unwrap_or(i64::MAX);
        let since = self.since.fetch_add(wanted, Ordering::Relaxed).saturating_add(wanted);
        let changes = self.changes.fetch_add(1, Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed).saturating_sub(since);
        let fresh = since < ASK_EVERY_BYTES && !changes.is_multiple_of(ASK_EVERY_CHANGES);
        if fresh && left > TIGHT_BYTES {
            return Ok(Room::Plenty);
        }
        let available = self.space(disk).map_err(OssError::disk("statfs"))?.bytes_available;
        let left = i64::try_from(available).unwrap_or(i64::MAX);
        self.left.store(left, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        match left.saturating_sub(wanted) {
            rest if rest < 0 => Ok(Room::Full { available }),
            rest if rest < TIGHT_BYTES => Ok(Room::Tight),
            _ => Ok(Room::Plenty),
        }
    }

    /// The disk's space without the reserve.
    pub(crate) fn space(&self, disk: &dyn Disk) -> io::Result<Space> {
        point!("oss::disk::space");
        let space = disk.space()?;
        let reserve = self.reserve_bytes.min(space.bytes_total / 20);
        Ok(Space {
            bytes_total: space.bytes_total.saturating_sub(reserve),
            bytes_free: space.bytes_free.saturating_sub(reserve),
            bytes_available: space.bytes_available.saturating_sub(reserve),
            ..space
        })
    }
}
