//! How far the store is: one record of it, written with every batch.
//!
//! | offset | bytes | what (little endian) |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 8 | index of the last applied command |
//! | 9 | 8 | its term |
//! | 17 | 8 | rolling hash of all changes up to it |

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::store::{Batch, StoreError, Txn, View};

/// Keys that begin with this byte are the engine's own.
pub const RESERVED_PREFIX: u8 = 0;
const HEAD_KEY: [u8; 2] = [RESERVED_PREFIX, b'a'];
/// There while the store is being filled from a snapshot: what it holds then means nothing.
const REBUILDING_KEY: [u8; 2] = [RESERVED_PREFIX, b'r'];
const VERSION: u8 = 1;

/// The last applied command, and the hash of all states up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Index in the log; 0 before the first.
    pub applied: u64,
    /// Its term.
    pub term: u64,
    /// The same on all replicas and after every rebuild that applied the same commands.
    pub hash: u64,
}

impl Head {
    /// That of a store; the default for an empty one.
    pub fn load(view: &dyn View) -> Result<Self, StoreError> {
        let Some(bytes) = view.get(&HEAD_KEY)? else { return Ok(Self::default()) };
        Self::decode(&bytes).ok_or_else(|| StoreError::Record {
            key: "head".to_owned(),
            reason: "not the applied index of a store of this version",
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.strip_prefix(&[VERSION])?;
        let at = |at: usize| fields.get(at..)?.first_chunk().map(|c| u64::from_le_bytes(*c));
        let head = Self { applied: at(0)?, term: at(8)?, hash: at(16)? };
        (fields.len() == 24).then_some(head)
    }

    /// Adds this to what is applied.
    pub(crate) fn store_in(self, batch: &mut Batch) {
        let mut bytes = vec![VERSION];
        for field in [self.applied, self.term, self.hash] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        batch.insert(HEAD_KEY.to_vec(), Some(bytes));
    }

    /// After the command whose changes `txn` holds since its mark.
    #[must_use]
    pub(super) fn advance(self, index: u64, term: u64, txn: &Txn<'_>) -> Self {
        let mut hasher = SipHasher13::new_with_keys(self.hash, index);
        for (key, value) in txn.changes() {
            hasher.write_u64(key.len() as u64);
            hasher.write(key);
            match value {
                Some(value) => {
                    hasher.write_u64(value.len() as u64);
                    hasher.write(value);
                }
                None => hasher.write_u64(u64::MAX),
            }
        }
        Self { applied: index, term, hash: hasher.finish() }
    }
}

/// Whether filling the store from a snapshot was begun and not finished.
pub(crate) fn is_rebuilding(view: &dyn View) -> Result<bool, StoreError> {
    Ok(view.get(&REBUILDING_KEY)?.is_some())
}

/// Marks the store as being filled from a snapshot, or as filled.
pub(crate) fn set_rebuilding(batch: &mut Batch, rebuilding: bool) {
    batch.insert(REBUILDING_KEY.to_vec(), rebuilding.then(|| vec![VERSION]));
}
