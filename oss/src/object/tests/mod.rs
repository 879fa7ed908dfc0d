//! Tests of the store as a whole, on a disk that forgets.

mod basic;
mod model;
mod power;

use std::sync::Arc;

use nacre_model::checksum::Crc32c;
use nacre_model::{Fid, ObjectId, OstIndex, Timestamp};
use nacre_node::Clock;
use nacre_node::disk::mem::MemDisk;

use super::store::{ObjectInfo, ObjectStore, StoreOptions};
use crate::error::OssError;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp { secs: 43_200, nanos: 7 }
    }
}

fn open(disk: &MemDisk) -> ObjectStore {
    try_open(disk).expect("opens")
}

fn try_open(disk: &MemDisk) -> Result<ObjectStore, OssError> {
    // Both ways of cleaning in turn, by whatever differs between two openings.
    let together = if disk.calls().is_multiple_of(2) { 1 } else { usize::MAX };
    let options = StoreOptions { sync_all_from: together, ..StoreOptions::new(OstIndex(3), 77) };
    ObjectStore::open(Arc::new(disk.clone()), Arc::new(Noon), options)
}

fn id(oid: u32) -> ObjectId {
    let fid = Fid { seq: 0x2_0000_0401, oid, ver: 0 };
    ObjectId { fid, component: 0, stripe: 1, generation: 2 }
}

/// Bytes that differ by place and by `seed`.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

fn put(store: &ObjectStore, id: ObjectId, at: u64, data: &[u8]) -> Result<ObjectInfo, OssError> {
    store.write(id, at, data, Crc32c::of(data))
}

/// Cleans until nothing is in doubt.
fn clean(store: &ObjectStore) {
    for _ in 0..3 {
        store.clean_round().expect("cleans");
    }
    assert_eq!(store.slots.doubtful_count(), 0);
}
