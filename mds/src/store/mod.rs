//! The store: an ordered map of bytes that is an index of the log, and the overlay in which a
//! group of commands is applied before it becomes one batch.

mod closing;
mod gathered;
mod mem;
#[cfg(test)]
mod redb;
mod sled;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use self::sled::{Opened, SledOptions, SledStore, open_or_renew};
pub use gathered::Gathered;
pub use mem::MemStore;

/// Is shown pairs of key and value, until it breaks.
pub type Visit<'v> = &'v mut (dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v);

/// A committed state that can be read.
pub trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Visits pairs with `from <= key < to`, ascending, until told to stop.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;
}

/// Changes of one group of commands: `None` removes the key.
pub type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The store under the state machine. One applier; any number of readers.
pub trait MetaStore: View + Send + Sync + 'static {
    /// Makes all changes visible at once, or none. Durable after [`MetaStore::checkpoint`].
    /// The batch itself carries the applied log index, under the key the engine keeps for it.
    fn apply(&self, batch: &Batch) -> Result<(), StoreError>;
    /// Makes everything applied before durable.
    fn checkpoint(&self) -> Result<(), StoreError>;
    /// Bytes on disk.
    fn disk_bytes(&self) -> Result<u64, StoreError>;
    /// An error once any reader has met damage: such a store is not to be served, but rebuilt
    /// at the next start.
    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl<S: View + ?Sized> View for std::sync::Arc<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        (**self).scan(from, to, visit)
    }
}

impl<S: MetaStore + ?Sized> MetaStore for std::sync::Arc<S> {
    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        (**self).apply(batch)
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        (**self).checkpoint()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        (**self).disk_bytes()
    }

    fn health(&self) -> Result<(), StoreError> {
        (**self).health()
    }
}

/// No key is longer: a kind, a fid, a hash and a name of 255 bytes fit well.
pub const KEY_BYTES_MAX: usize = 1024;
/// No value is longer: inline data and xattrs of up to 64 KiB fit with what stands beside them.
pub const VALUE_BYTES_MAX: usize = 96 << 10;
/// Keys begin with a byte above 0, which is the engine's, and below this.
pub const KEY_END: [u8; 1] = [0xff];

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its own files cannot be read or written.
    #[error("store: {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// Its content is damaged: rebuild it from snapshot and log.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// A value's checksum is wrong.
    #[error("record {key} is damaged: {reason}")]
    Record {
        /// The key, escaped.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A change that the store does not take.
    #[error("key of {key_bytes} bytes with a value of {value_bytes} is beyond the limits")]
    Limits {
        /// Length of the key.
        key_bytes: usize,
        /// Length of the value.
        value_bytes: usize,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}

/// What the overlay held for a key: nothing, a removal, or a value.
type Before = Option<Option<Vec<u8>>>;

/// The store with a group's changes laid over it.
///
/// [`Txn::mark`] and [`Txn::rollback`] undo a command that failed halfway.
pub struct Txn<'a> {
    below: &'a dyn View,
    batch: Batch,
    undo: Vec<(Vec<u8>, Before)>,
}

impl<'a> Txn<'a> {
    /// Over a committed state.
    pub fn new(below: &'a dyn View) -> Self {
        Self { below, batch: Batch::new(), undo: Vec::new() }
    }

    /// Over a committed state and changes that are about to be.
    pub fn with_batch(below: &'a dyn View, batch: Batch) -> Self {
        Self { below, batch, undo: Vec::new() }
    }

    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(key, Some(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.set(key, None);
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let before = self.batch.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    /// Begins a command.
    pub fn mark(&mut self) {
        self.undo.clear();
    }

    /// Takes back everything since the last [`Txn::mark`].
    pub fn rollback(&mut self) {
        for (key, before) in std::mem::take(&mut self.undo).into_iter().rev() {
            match before {
                Some(before) => self.batch.insert(key, before),
                None => self.batch.remove(&key),
            };
        }
    }

    /// Where the command stands now, for [`Txn::rollback_to`].
    pub fn savepoint(&self) -> usize {
        self.undo.len()
    }

    /// Takes back everything since a savepoint of the same command.
    pub fn rollback_to(&mut self, savepoint: usize) {
        let kept = savepoint.min(self.undo.len());
        let undo = self.undo.split_off(kept);
        let before = std::mem::replace(&mut self.undo, undo);
        self.rollback();
        self.undo = before;
    }

    /// Whether anything was set or removed since the last [`Txn::mark`].
    pub fn is_changed(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Refuses keys and values outside the limits, since the last [`Txn::mark`].
    pub fn check_changes(&self) -> Result<(), StoreError> {
        self.check_changes_since(0)
    }

    /// The same, since a savepoint.
    pub fn check_changes_since(&self, savepoint: usize) -> Result<(), StoreError> {
        for (key, value) in self.changes().skip(savepoint) {
            let (key_bytes, value_bytes) = (key.len(), value.map_or(0, <[u8]>::len));
            let ours = key.first().is_some_and(|kind| *kind > 0) && key < KEY_END.as_slice();
            if !ours || key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
                return Err(StoreError::Limits { key_bytes, value_bytes });
            }
        }
        Ok(())
    }

    /// Keys set or removed since the last [`Txn::mark`], in that order, perhaps repeated, with
    /// what they hold now.
    pub fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.undo.iter().map(|(key, _)| {
            (key.as_slice(), self.batch.get(key).and_then(|value| value.as_deref()))
        })
    }

    /// The changes.
    pub fn into_batch(self) -> Batch {
        self.batch
    }
}

impl View for Txn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.batch.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let mut above = self.batch.range(from.to_vec()..to.to_vec()).peekable();
        let mut stopped = false;
        self.below.scan(from, to, &mut |key, value| {
            while let Some((k, v)) = above.next_if(|(k, _)| k.as_slice() < key) {
                if let Some(v) = v
                    && visit(k, v).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match above.next_if(|(k, _)| k.as_slice() == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((_, Some(v))) => visit(key, v),
                None => visit(key, value),
            };
            stopped = flow.is_break();
            flow
        })?;
        if !stopped {
            for (key, value) in above {
                if let Some(value) = value
                    && visit(key, value).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
