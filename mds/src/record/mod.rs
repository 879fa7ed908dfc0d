//! Keys and values of the metadata store, and entries of its log.
//!
//! ```text
//! key                                      value (one version byte, then a message of record.proto)
//! 'S'                                      superblock: what format fixed
//! 'C'                                      counters
//! 'I' fid                                  inode
//! 'B' fid                                  inline bytes of a small file (version byte, raw bytes)
//! 'D' parent fid, cookie                   directory entry
//! 'X' fid, name                            extended attribute (version byte, raw bytes)
//! 'O' fid                                  orphan: an inode without a name that is in use (empty)
//! 'N' session                              session
//! 'U' client uuid                          session of that mount
//! 'R' session, slot                        reply kept for a resend
//! 'W' sequence number                      work for OSTs
//! 'H' fid                                  what an archive knows of a file
//! 'A' cookie                               action of the HSM coordinator
//! 'P' id                                   data repository
//! 'E' fid                                  what buckets have of an inode, and should have
//! 'K' repository, object key               an object that we know of
//! ```
//!
//! Fids and numbers in keys are big endian, so that one directory, one inode's attributes and one
//! session's replies are contiguous, and work comes oldest first. Keys that begin with a byte
//! below `'A'` belong to the engine. Inline bytes stand apart from the inode, so that a `stat`
//! does not read them and a change of attributes does not write them again.
//!
//! Decoders never panic and never trust a length; the store checks checksums below them.

mod command;
mod counters;
mod entry;
mod hsm;
mod inode;
pub mod key;
mod session;
#[cfg(test)]
mod tests;
mod work;

pub use command::BadCommand;
pub use counters::{Counters, HASH_BITS, Superblock};
pub use entry::Entry;
pub use hsm::HsmFlags;
pub use inode::{Body, FileBody, FileComponent, Inode, Link, Pending, XattrUse};
pub use session::{Reply, Session, SessionId};
pub use work::WorkItem;

use bytes::Bytes;
use nacre_proto::convert::BadMessage;

/// Version of every value written now.
pub const VERSION: u8 = 1;

/// Most bytes of a value of the store, whatever it holds.
pub const VALUE_BYTES_MAX: usize = (64 << 10) + 64;

/// Bytes that are not the record they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Not even a version.
    #[error("record is empty")]
    Empty,
    /// Written by a later version, or not a record.
    #[error("record has version {0}, newer than {VERSION}")]
    Version(u8),
    /// Not the message.
    #[error("record is not a message: {0}")]
    Message(prost::DecodeError),
    /// A message that says something impossible.
    #[error("record makes no sense")]
    Content(#[from] BadMessage),
    /// A key that is none.
    #[error("record has a malformed key")]
    Key,
}

/// A typed value of the store.
pub trait Record: Sized {
    /// To bytes, version first.
    fn encode(&self) -> Vec<u8>;
    /// From bytes.
    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord>;
}

/// A message behind the version byte.
pub(crate) fn encode_message(message: &impl prost::Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.encoded_len().saturating_add(1));
    out.push(VERSION);
    message.encode_raw(&mut out);
    out
}

/// The inverse of [`encode_message`].
pub(crate) fn decode_message<M: prost::Message + Default>(bytes: Vec<u8>) -> Result<M, BadRecord> {
    M::decode(decode_raw(bytes)?).map_err(BadRecord::Message)
}

/// Raw bytes behind the version byte.
pub fn encode_raw(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().saturating_add(1));
    out.push(VERSION);
    out.extend_from_slice(bytes);
    out
}

/// The inverse of [`encode_raw`].
pub fn decode_raw(bytes: Vec<u8>) -> Result<Bytes, BadRecord> {
    match bytes.first() {
        None => Err(BadRecord::Empty),
        Some(&VERSION) => Ok(Bytes::from(bytes).slice(1..)),
        Some(other) => Err(BadRecord::Version(*other)),
    }
}

/// A number from the record that must fit a narrower type.
pub(crate) fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Result<T, BadMessage> {
    T::try_from(value).map_err(|_| BadMessage::Range { field, value: value.into() })
}

/// OST indices of a record.
pub(crate) fn osts(list: Vec<u32>) -> Result<Vec<nacre_model::OstIndex>, BadMessage> {
    list.into_iter().map(|ost| Ok(nacre_model::OstIndex(narrow("osts", ost)?))).collect()
}

/// OST indices to a record.
pub(crate) fn wire_osts(list: &[nacre_model::OstIndex]) -> Vec<u32> {
    list.iter().map(|ost| ost.0.into()).collect()
}
