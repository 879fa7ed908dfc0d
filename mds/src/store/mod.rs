//! The store: an ordered map of bytes that is an index of the log, and the overlay in which a
//! group of commands is applied before it becomes one batch.

mod mem;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

pub use mem::MemStore;

/// A committed state that can be read.
pub trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Visits pairs with `from <= key < to`, ascending, until told to stop.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
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
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its own files cannot be read or written.
    #[error("store i/o")]
    Io(#[source] std::io::Error),
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
}

/// The store with a group's changes laid over it.
///
/// [`Txn::mark`] and [`Txn::rollback`] undo a command that failed halfway.
pub struct Txn<'a> {
    below: &'a dyn View,
    batch: Batch,
    undo: Vec<(Vec<u8>, Option<Option<Vec<u8>>>)>,
}

impl<'a> Txn<'a> {
    /// Over a committed state.
    pub fn new(below: &'a dyn View) -> Self {
        Self { below, batch: Batch::new(), undo: Vec::new() }
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

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
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
