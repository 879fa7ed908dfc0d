use std::sync::Arc;

use nacre_model::{Fid, OstIndex};
use nacre_node::SystemClock;
use nacre_node::disk::mem::{Crash, MemDisk};

use super::*;
use crate::object::files::paths;
use crate::object::{ObjectStore, StoreOptions};

fn open(disk: &MemDisk) -> ObjectStore {
    let options = StoreOptions::new(OstIndex(0), 1);
    ObjectStore::open(Arc::new(disk.clone()), Arc::new(SystemClock), options).unwrap()
}

fn id(oid: u32) -> ObjectId {
    let fid = Fid { seq: 0x2_0000_0401, oid, ver: 0 };
    ObjectId { fid, component: 0, stripe: 0, generation: 0 }
}

fn put(store: &ObjectStore, oid: u32, at: u64, len: usize) {
    let data = vec![7; len];
    store.write(id(oid), at, &data, Crc32c::of(&data)).unwrap();
}

fn run(disk: &MemDisk) -> (Summary, Vec<Finding>) {
    let before = disk.calls();
    let mut findings = Vec::new();
    let summary = check(disk, true, |finding| findings.push(finding)).unwrap();
    assert_eq!(disk.calls(), before, "a check changes nothing");
    (summary, findings)
}

#[test]
fn an_empty_folder_and_a_clean_one_are_sound() {
    let disk = MemDisk::default();
    assert!(!is_initialised(&disk).unwrap());
    assert_eq!(run(&disk).0, Summary::default());
    let store = open(&disk);
    put(&store, 1, 0, 10_000);
    put(&store, 2, 1 << 30, 1);
    store.destroy(&[id(3)], Fate::Gone).unwrap();
    store.destroy(&[id(4), id(5)], Fate::Replaced).unwrap();
    store.close().unwrap();
    let (summary, findings) = run(&disk);
    let bytes = 10_000 + (1 << 30) + 1;
    assert_eq!(summary, Summary { objects: 2, bytes, gone: 1, replaced: 2, ..Summary::default() });
    assert!(summary.is_sound());
    assert_eq!(findings.len(), 2);
}

#[test]
fn rot_lost_data_strangers_and_leftovers_are_told_of() {
    let disk = MemDisk::default();
    let store = open(&disk);
    for oid in 1..=4 {
        put(&store, oid, 0, 20_000);
    }
    store.close().unwrap();
    let data = |oid| disk.open(&paths(id(oid)).0).unwrap();
    data(1).write_at(b"x", 5_000).unwrap();
    data(2).set_len(10_000).unwrap();
    disk.remove(&paths(id(3)).0).unwrap();
    disk.create(&folder_path(0).join("lost+found"))
        .or_else(|_| {
            disk.create_dir(&folder_path(0)).unwrap();
            disk.create(&folder_path(0).join("lost+found"))
        })
        .unwrap();
    let (summary, findings) = run(&disk);
    assert_eq!((summary.objects, summary.corrupt), (3, 2));
    assert_eq!((summary.leftovers, summary.strangers), (1, 1));
    assert!(!summary.is_sound());
    let corrupt = |oid| {
        findings.iter().find_map(|finding| match finding {
            Finding::Object(object) if object.id == id(oid) => Some(object.corrupt.clone()),
            Finding::Object(_) | Finding::Leftover(_) | Finding::Stranger(_) => None,
        })
    };
    assert_eq!(corrupt(1), Some(vec![(4_096, 8_192)]));
    assert_eq!(corrupt(2), Some(vec![(8_192, 20_480)]));
    assert_eq!(corrupt(4), Some(vec![]));
}

#[test]
fn what_a_crash_leaves_in_doubt_is_not_damage() {
    let disk = MemDisk::default();
    let store = open(&disk);
    put(&store, 1, 0, 20_000);
    store.clean_round().unwrap();
    store.clean_round().unwrap();
    put(&store, 1, 100, 5_000);
    put(&store, 2, 0, 5_000);
    store.commit(&[id(2)]).unwrap();
    disk.crash(Crash::DropAll, 1);
    let (summary, _) = run(&disk);
    assert_eq!((summary.objects, summary.doubtful, summary.corrupt), (2, 2, 0));
    assert!(summary.is_sound());
}
