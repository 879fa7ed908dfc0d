//! The namespace: a deterministic state machine over the store.
//!
//! [`apply`] carries out one [`Command`] on a [`Txn`]; everything else here only reads. There is no
//! clock, no randomness and no I/O but through the store's traits, and no iteration over anything
//! unordered: the same commands in the same order give the same rows, byte for byte.
//!
//! Permissions are not checked here: the kernels of the clients do that (`default_permissions`).
//! What changes by itself is done here: ACL inheritance, set-id bits, times, link counts.
//!
//! What a regular file's bytes are:
//!
//! | state | bytes |
//! |---|---|
//! | inline | the inline row, then zeros up to the size, which may lie far beyond: `truncate` to 1 GiB of an empty file makes no objects |
//! | objects | what the OSTs hold, then zeros up to the size; while `size_lazy`, objects may reach beyond it |
//!
//! A file is born inline, leaves by `instantiate` (nothing inline) or `promote` (moves the bytes),
//! and comes back by being cut to 0.

mod acl;
mod apply;
mod batch;
mod check;
mod copies;
mod create;
mod ctx;
mod data;
mod error;
pub mod export;
mod free;
pub mod hsm;
mod import;
mod layout;
mod link;
pub mod read;
mod rename;
pub mod repository;
mod rows;
mod session;
mod setattr;
mod xattr;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use check::{FINDINGS_MAX, Finding, ObjectState, check, objects};
pub use error::NsError;

use nacre_model::{Fid, FileKind, Timestamp};

use crate::record::{Body, Counters, HASH_BITS, Record, Superblock, key as keys};
use crate::store::Batch;

#[cfg(doc)]
use crate::command::Command;
#[cfg(doc)]
use crate::store::Txn;

/// Most hard links of a file. As ext4.
pub const LINKS_MAX: u32 = 65_000;
/// Most bytes of all extended attribute values of one inode.
pub const XATTR_TOTAL_BYTES_MAX: u32 = 1 << 20;
/// Most bytes of all extended attribute names of one inode, a NUL each. Linux: `XATTR_LIST_MAX`.
pub const XATTR_NAMES_BYTES_MAX: u32 = 64 << 10;
/// Slots that a session may use: `0..SLOTS_MAX`.
pub const SLOTS_MAX: u32 = 256;
/// Most names that an inode remembers; more are counted only.
pub const LINKS_KEPT_MAX: usize = 128;
/// Bytes of a file that live in its inode, unless the server says less.
pub const INLINE_BYTES_MAX: u32 = 16 << 10;

/// Size that directories show, in bytes.
const DIRECTORY_BYTES: u64 = 4096;
/// Bytes in a unit of `st_blocks`.
const BLOCK_UNIT: u64 = 512;

/// The first rows of a new file system: superblock, counters and root directory.
///
/// The caller chooses `hash_key` at random. Fids come later, with `AddSequences`.
pub fn format(fsname: &str, hash_key: [u64; 2], time: Timestamp) -> Batch {
    format_with(fsname, hash_key, time, HASH_BITS)
}

fn format_with(fsname: &str, hash_key: [u64; 2], time: Timestamp, hash_bits: u32) -> Batch {
    let superblock = Superblock {
        fsname: fsname.to_owned(),
        hash_key,
        hash_bits,
        last_repository: 0,
        linked: false,
        exporting: false,
    };
    let counters = Counters { next_session: 1, next_work: 1, inodes: 1, ..Counters::default() };
    let body = Body::Directory(None);
    let mut root = create::nameless(Fid::ROOT, FileKind::Directory, body, time);
    root.attr.perm = 0o755;
    Batch::from([
        (keys::superblock(), Some(superblock.encode())),
        (keys::counters(), Some(counters.encode())),
        (keys::inode(Fid::ROOT), Some(root.encode())),
    ])
}
