//! Every store against an ordered map, and the overlay against both.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::redb::RedbStore;
use super::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn all(view: &dyn View, from: &[u8], to: &[u8]) -> Pairs {
    let mut pairs = Vec::new();
    view.scan(from, to, &mut |key, value| {
        pairs.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    pairs
}

fn ready(dir: &std::path::Path) -> SledStore {
    match SledStore::open(dir, &SledOptions { cache_bytes: 1 << 20 }).unwrap() {
        Opened::Ready(store) => store,
        Opened::MustRebuild(reason) => panic!("{reason}"),
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(1..4_u8, 1..4)
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let value = proptest::option::of(vec(any::<u8>(), 0..40));
    vec(proptest::collection::btree_map(key(), value, 1..8), 1..12)
}

fn behaves_as_a_map(store: &dyn MetaStore, batches: &[Batch]) {
    let mut model = BTreeMap::new();
    for batch in batches {
        let mut txn = Txn::new(store);
        for (key, value) in batch {
            if let Some(value) = value {
                txn.put(key.clone(), value.clone());
                model.insert(key.clone(), value.clone());
            } else {
                txn.remove(key.clone());
                model.remove(key);
            }
        }
        let expected: Pairs = model.clone().into_iter().collect();
        assert_eq!(all(&txn, &[1], &KEY_END), expected, "the overlay before");
        txn.mark();
        txn.put(vec![2], vec![9]);
        txn.remove(vec![1]);
        txn.rollback();
        store.apply(&txn.into_batch()).unwrap();
        assert_eq!(all(store, &[1], &KEY_END), expected, "the store after");
        let part: Pairs =
            model.range(vec![1, 2]..vec![2, 3]).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(all(store, &[1, 2], &[2, 3]), part);
        for key in batch.keys() {
            assert_eq!(store.get(key).unwrap(), model.get(key).cloned());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_memory_store_behaves_as_a_map(batches in batches()) {
        behaves_as_a_map(&MemStore::default(), &batches);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_store_that_gathers_behaves_as_a_map(batches in batches(), keys_max in 1..9_usize) {
        behaves_as_a_map(&Gathered::with_limit(MemStore::default(), keys_max), &batches);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn the_sled_store_behaves_as_a_map(batches in batches()) {
        let dir = TempDir::new().unwrap();
        behaves_as_a_map(&ready(&dir.path().join("store")), &batches);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn the_redb_store_behaves_as_a_map(batches in batches()) {
        let dir = TempDir::new().unwrap();
        behaves_as_a_map(&RedbStore::open(&dir.path().join("store")).unwrap(), &batches);
    }
}

#[test]
fn what_the_redb_store_has_checkpointed_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let store = RedbStore::open(&path).unwrap();
    let batch: Batch = (1..60_u8).map(|n| (vec![1, n], Some(vec![n; 60 << 10]))).collect();
    store.apply(&batch).unwrap();
    store.checkpoint().unwrap();
    assert!(store.disk_bytes().unwrap() > 59 * (60 << 10));
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    for (key, value) in &batch {
        assert_eq!(&store.get(key).unwrap(), value);
    }
    assert_eq!(all(&store, &[1], &KEY_END).len(), batch.len());
}

#[test]
fn what_was_checkpointed_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let store = ready(&path);
    let batch: Batch = (1..60_u8).map(|n| (vec![1, n], Some(vec![n; 60 << 10]))).collect();
    store.apply(&batch).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    plant(&path, "snap.0000000000000001.generating");
    let mut store = ready(&path);
    for (key, value) in &batch {
        assert_eq!(&store.get(key).unwrap(), value);
    }
    // A flush that has nothing to write must not look like one that does not reach the disk.
    for _ in 0..3 {
        drop(store);
        store = ready(&path);
    }
    assert_eq!(all(&store, &[1], &KEY_END).len(), batch.len());
}

/// A power cut takes blobs, and what was in them is then missing without a word.
#[test]
fn no_row_is_ever_put_into_a_file_of_its_own() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let store = ready(&path);
    let key = |n: u8| [&[1, n][..], &vec![n; KEY_BYTES_MAX - 2]].concat();
    for round in 0..6_u8 {
        // All in one leaf, as long as it holds; then most go, so that leaves merge.
        let value = |n: u8| Some(vec![n ^ round; VALUE_BYTES_MAX]);
        let kept = |n: u8| round % 2 == 0 || n.is_multiple_of(5);
        let batch: Batch = (0..40).map(|n| (key(n), value(n).filter(|_| kept(n)))).collect();
        store.apply(&batch).unwrap();
        for n in 0..20 {
            store.apply(&Batch::from([(key(n), value(n + 1))])).unwrap();
        }
        store.checkpoint().unwrap();
        let blobs = std::fs::read_dir(path.join("blobs")).unwrap().count();
        assert_eq!(blobs, 0, "round {round}");
    }
}

fn plant(dir: &std::path::Path, name: &str) {
    std::fs::write(dir.join(name), b"half").unwrap();
}

#[test]
fn a_store_that_met_damage_is_moved_aside_at_the_next_open() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let store = ready(&path);
    store.apply(&Batch::from([(vec![1], Some(vec![7; 100]))])).unwrap();
    store.db_for_tests().insert([1], vec![7; 104]).unwrap();

    assert!(matches!(store.get(&[1]), Err(StoreError::Record { .. })));
    assert!(store.health().is_err());
    drop(store);

    let options = SledOptions::default();
    assert!(matches!(SledStore::open(&path, &options).unwrap(), Opened::MustRebuild(_)));
    let fresh = open_or_renew(&path, &options).unwrap();
    assert_eq!(fresh.get(&[1]).unwrap(), None);
    assert!(dir.path().join("store.damaged").exists());
    assert!(!dir.path().join("store.suspect").exists());
}

#[test]
fn changes_outside_the_limits_are_refused() {
    let store = MemStore::default();
    for (key, len) in [(vec![], 0), (vec![0, 1], 0), (vec![0xff], 0), (vec![1; 1025], 0)]
        .into_iter()
        .chain([(vec![1], VALUE_BYTES_MAX + 1)])
    {
        let mut txn = Txn::new(&store);
        txn.mark();
        txn.put(key, vec![0; len]);
        assert!(matches!(txn.check_changes(), Err(StoreError::Limits { .. })));
    }
}
