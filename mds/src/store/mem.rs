//! A store in memory: the reference of the others, and the simulator's.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::{Batch, MetaStore, StoreError, View, Visit};

/// An ordered map behind a lock.
#[derive(Debug, Default)]
pub struct MemStore {
    map: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl View for MemStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.map.read().get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from < to {
            for (key, value) in self.map.read().range(from.to_vec()..to.to_vec()) {
                if visit(key, value).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl MetaStore for MemStore {
    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut map = self.map.write();
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}
