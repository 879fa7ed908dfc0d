//! A store that hands changes down in larger batches.
//!
//! The log is what makes changes last; the store is brought up to it after a crash. So batches need
//! not reach the store below one by one: sled writes and syncs a few hundred bytes for each, which
//! took more than half of the server's processor time. What has not been handed down is read from
//! memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Batch, MetaStore, StoreError, Txn, View, Visit};

/// Keys that wait at most, about.
const KEYS_MAX: usize = 2048;
/// And bytes.
const BYTES_MAX: usize = 8 << 20;

/// Keeps the newest changes in memory, over a store.
#[derive(Debug)]
pub struct Gathered<S> {
    below: S,
    waiting: RwLock<Waiting>,
    /// One at a time hands down.
    handing: Mutex<()>,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    young: Batch,
    /// Of `young`, about.
    bytes: usize,
    /// Being handed down: it may be below already, or not yet.
    leaving: Arc<Batch>,
}

impl Waiting {
    /// What waits for a key: nothing, a removal, or a value.
    fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.young.get(key).or_else(|| self.leaving.get(key))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Batch {
        let range = || (Bound::Included(from), Bound::Excluded(to));
        let copy = |batch: &Batch| -> Batch {
            let some = batch.range::<[u8], _>(range());
            some.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let mut all = copy(&self.leaving);
        all.append(&mut copy(&self.young));
        all
    }
}

impl<S: MetaStore> Gathered<S> {
    /// Over a store that nobody else changes.
    pub fn new(below: S) -> Self {
        Self::with_limit(below, KEYS_MAX)
    }

    pub(super) fn with_limit(below: S, keys_max: usize) -> Self {
        Self { below, waiting: RwLock::default(), handing: Mutex::new(()), keys_max }
    }

    /// All that was applied before is below when this returns. What could not be handed down
    /// stays, and is seen as before.
    fn hand_down(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.handing.lock();
        let leaving = {
            let mut waiting = self.waiting.write();
            let young = std::mem::take(&mut waiting.young);
            waiting.bytes = 0;
            if waiting.leaving.is_empty() {
                waiting.leaving = Arc::new(young);
            } else {
                // The last attempt failed.
                let mut all = BTreeMap::clone(&waiting.leaving);
                all.extend(young);
                waiting.leaving = Arc::new(all);
            }
            Arc::clone(&waiting.leaving)
        };
        if leaving.is_empty() {
            return Ok(());
        }
        self.below.apply(&leaving)?;
        self.waiting.write().leaving = Arc::default();
        Ok(())
    }
}

impl<S: MetaStore> View for Gathered<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // In this order: what leaves in between is below by then.
        if let Some(value) = self.waiting.read().get(key) {
            return Ok(value.clone());
        }
        self.below.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        // Copied, so that nothing is locked while somebody looks.
        let waiting = self.waiting.read().range(from, to);
        Txn::with_batch(&self.below, waiting).scan(from, to, visit)
    }
}

impl<S: MetaStore> MetaStore for Gathered<S> {
    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let full = {
            let mut waiting = self.waiting.write();
            for (key, value) in batch {
                let len = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
                waiting.bytes = waiting.bytes.saturating_add(len);
                waiting.young.insert(key.clone(), value.clone());
            }
            waiting.young.len() >= self.keys_max || waiting.bytes >= BYTES_MAX
        };
        if full { self.hand_down() } else { Ok(()) }
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        self.hand_down()?;
        self.below.checkpoint()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.below.disk_bytes()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.below.health()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::MemStore;
    use super::*;

    /// Takes nothing while it is full.
    #[derive(Debug, Default)]
    struct Full(MemStore, AtomicBool);

    impl View for Full {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(key)
        }

        fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
            self.0.scan(from, to, visit)
        }
    }

    impl MetaStore for Full {
        fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
            if self.1.load(Ordering::Relaxed) {
                return Err(StoreError::Damaged("full".to_owned()));
            }
            self.0.apply(batch)
        }

        fn checkpoint(&self) -> Result<(), StoreError> {
            self.0.checkpoint()
        }

        fn disk_bytes(&self) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    fn keys(store: &dyn View) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let visit: Visit<'_> = &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        store.scan(&[1], &[9], visit).unwrap();
        keys
    }

    fn put(key: u8, value: Option<u8>) -> Batch {
        Batch::from([(vec![key], value.map(|value| vec![value]))])
    }

    #[test]
    fn what_waits_is_seen_and_a_checkpoint_hands_it_down() {
        let store = Gathered::with_limit(MemStore::default(), 3);
        store.apply(&put(1, Some(1))).unwrap();
        store.apply(&put(2, Some(2))).unwrap();
        assert_eq!(store.below.get(&[1]).unwrap(), None);
        assert_eq!((store.get(&[1]).unwrap(), keys(&store).len()), (Some(vec![1]), 2));
        store.apply(&put(3, Some(3))).unwrap();
        assert_eq!(store.below.get(&[1]).unwrap(), Some(vec![1]), "there were enough");
        store.apply(&put(1, None)).unwrap();
        assert_eq!((store.get(&[1]).unwrap(), keys(&store)), (None, vec![vec![2], vec![3]]));
        store.checkpoint().unwrap();
        assert_eq!(keys(&store.below), [[2], [3]]);
    }

    #[test]
    fn what_could_not_be_handed_down_is_seen_and_goes_with_the_next() {
        let store = Gathered::with_limit(Full::default(), 2);
        store.below.1.store(true, Ordering::Relaxed);
        store.apply(&put(1, Some(1))).unwrap();
        assert!(store.apply(&put(2, Some(2))).is_err());
        assert!(store.checkpoint().is_err());
        store.apply(&put(1, Some(9))).unwrap();
        assert_eq!((store.get(&[1]).unwrap(), keys(&store).len()), (Some(vec![9]), 2));
        store.below.1.store(false, Ordering::Relaxed);
        store.checkpoint().unwrap();
        assert_eq!(store.below.get(&[1]).unwrap(), Some(vec![9]));
        assert_eq!(keys(&store.below), [[1], [2]]);
    }
}
