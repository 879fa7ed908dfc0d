//! The object store of one OST.
//!
//! An object is two files in one of 256 folders, see [`header`] for their bytes. All calls block:
//! async code runs them on [`nacre_node::tasks::Blocking`].
//!
//! # In doubt
//!
//! A block is *clean* when its stored checksum is known to be true: a mismatch is then rot, never
//! the trace of a crash. What is being changed is *in doubt*, and named so durably before the
//! change begins: a new object, and what lies beyond the clean end of an old one, by the header
//! (so streaming pays nothing); a clean range by a record in the [`intent`] log. In the running
//! process checksums in doubt are as good as any; after a crash they are computed anew, from the
//! data, before the range is first used, and in the background.
//!
//! ```text
//! clean --intent durable--> in doubt --data and checksums synced, then header synced--> clean
//! ```

pub(crate) mod clean;
pub(crate) mod destroy;
pub(crate) mod files;
pub(crate) mod graves;
pub mod header;
pub(crate) mod intent;
pub(crate) mod load;
pub(crate) mod range_lock;
pub(crate) mod ranges;
pub(crate) mod read;
pub(crate) mod recheck;
pub(crate) mod resize;
pub(crate) mod slot;
pub(crate) mod slots;
pub(crate) mod space;
pub(crate) mod store;
pub(crate) mod sums;
pub(crate) mod walk;
pub(crate) mod write;

#[cfg(test)]
mod tests;

pub use graves::Fate;
pub use header::Owner;
pub use read::ReadData;
pub use store::{ObjectInfo, ObjectStore, StoreOptions, Verifier};

use nacre_model::ObjectId;
use nacre_model::checksum::BLOCK_BYTES;

use crate::error::OssError;

/// Bytes covered by one checksum.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;
/// Largest object, in bytes: what a file offset can say, in whole blocks.
pub const OBJECT_BYTES_MAX: u64 = (i64::MAX as u64 / BLOCK) * BLOCK;

/// Start of the block that `offset` is in.
pub(crate) fn block_start(offset: u64) -> u64 {
    offset - offset % BLOCK
}

/// End of the block that the byte before `offset` is in.
pub(crate) fn block_end(offset: u64) -> u64 {
    offset.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// The end of a range that an object can hold.
pub(crate) fn range_end(object: ObjectId, offset: u64, len: u64) -> Result<u64, OssError> {
    let end = offset.checked_add(len).filter(|&end| end <= OBJECT_BYTES_MAX);
    end.ok_or(OssError::TooLarge { object, offset, len })
}
