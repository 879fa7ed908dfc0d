//! Every disk call of the object store fails once, with EIO and with ENOSPC: the caller gets a
//! clear error, and nothing that was committed is lost or changed.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a helper that fails has found what the test looks for")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use nacre_model::checksum::Crc32c;
use nacre_model::{Errno, Fid, ObjectId, OstIndex, ServiceError};
use nacre_node::disk::mem::{Crash, MemDisk};
use nacre_node::{Disk, SystemClock};
use nacre_oss::object::Fate;
use nacre_oss::{ObjectStore, OssError, StoreOptions};

fn id(oid: u32) -> ObjectId {
    let fid = Fid { seq: 0x2_0000_0401, oid, ver: 0 };
    ObjectId { fid, component: 0, stripe: 0, generation: 0 }
}

fn try_open(disk: &MemDisk) -> Result<ObjectStore, OssError> {
    // One object alone is cleaned by itself, several together.
    let options = StoreOptions { sync_all_from: 2, ..StoreOptions::new(OstIndex(0), 1) };
    ObjectStore::open(Arc::new(disk.clone()), Arc::new(SystemClock), options)
}

fn put(store: &ObjectStore, oid: u32, at: u64, byte: u8, len: usize) -> Result<(), OssError> {
    let data = vec![byte; len];
    store.write(id(oid), at, &data, Crc32c::of(&data)).map(drop)
}

/// Names of all fail points in the sources, so that none is forgotten here.
fn points() -> BTreeSet<String> {
    fn walk(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let quoted = text.split('"').filter(|text| text.starts_with("oss::"));
            names.extend(quoted.map(str::to_owned));
        }
    }
    let mut names = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

/// A disk with a committed object, a clean one, and one that a kill left in doubt.
fn prepared() -> MemDisk {
    let disk = MemDisk::default();
    let store = try_open(&disk).unwrap();
    put(&store, 1, 0, 1, 20_000).unwrap();
    put(&store, 2, 0, 2, 20_000).unwrap();
    store.clean_round().unwrap();
    store.clean_round().unwrap();
    put(&store, 2, 0, 2, 20_000).unwrap();
    store.commit(&[id(1), id(2)]).unwrap();
    disk
}

/// Everything that the store can do. The first errors of all, one for each step that failed.
fn everything(disk: &MemDisk) -> Vec<OssError> {
    let store = match try_open(disk) {
        Ok(store) => store,
        Err(error) => return vec![error],
    };
    let steps: [&dyn Fn() -> Result<(), OssError>; 17] = [
        &|| store.space().map(drop),
        &|| store.read(id(2), 0, 20_000).map(drop),
        &|| put(&store, 3, 0, 3, 30_000),
        &|| store.commit(&[id(3)]),
        &|| put(&store, 1, 100, 9, 5_000),
        &|| put(&store, 1, 24_000, 9, 5_000),
        &|| store.seek(id(1), 0, true).map(drop),
        &|| store.punch(id(3), 1_000, 20_000).map(drop),
        &|| store.allocate(id(3), 1 << 20, 1 << 20, true).map(drop),
        &|| store.truncate(id(3), 5_000).map(drop),
        &|| store.recheck_object(id(2)),
        &|| store.clean_round().and_then(|_| store.clean_round()).map(drop),
        &|| store.commit(&[id(1), id(2), id(3)]),
        &|| put(&store, 3, 0, 3, 5_000),
        &|| store.clean_round().and_then(|_| store.clean_round()).map(drop),
        &|| store.destroy(&[id(3)], Fate::Gone),
        &|| store.close(),
    ];
    steps.iter().filter_map(|step| step().err()).collect()
}

/// What was committed before the trouble is as it was, but for what was written over it.
fn check(disk: &MemDisk) {
    let store = try_open(disk).unwrap();
    let read = store.read(id(1), 0, 40_000).unwrap();
    assert!((20_000..=29_000).contains(&read.size), "{}", read.size);
    for (at, &byte) in read.data.iter().enumerate() {
        let fresh = (100..5_100).contains(&at) || (24_000..29_000).contains(&at);
        let known = match at {
            0..20_000 => byte == 1,
            _ => byte == 0,
        };
        assert!(known || (fresh && byte == 9), "byte {at} is {byte}");
    }
    let read = store.read(id(2), 0, 40_000).unwrap();
    assert!(read.size == 20_000 && read.data.iter().all(|&byte| byte == 2));
    store.read(id(3), 0, 4 << 20).unwrap();
}

#[test]
fn every_disk_call_may_fail_and_nothing_committed_is_lost() {
    let scenario = fail::FailScenario::setup();
    assert!(everything(&prepared()).is_empty());
    let points = points();
    assert!(points.len() >= 20, "{points:?}");
    for point in &points {
        for (name, errno) in [("EIO", Errno::EIO), ("ENOSPC", Errno::ENOSPC)] {
            let disk = prepared();
            fail::cfg(point, &format!("return({name})")).unwrap();
            let errors = everything(&disk);
            fail::remove(point);
            // That no step fails means that the call is never made: then it needs no point.
            let first = errors.first().unwrap_or_else(|| panic!("{point} was not reached"));
            assert_eq!(first.errno(), errno, "{point}: {first}");
            assert!(std::error::Error::source(first).is_some(), "{point}: {first} has no cause");
            check(&disk);
            disk.crash(Crash::DropAll, 1);
            check(&disk);
        }
    }
    scenario.teardown();
}

#[test]
fn a_full_disk_in_the_middle_of_a_write_leaves_what_was_there_or_what_was_written() {
    let scenario = fail::FailScenario::setup();
    let disk = prepared();
    let store = try_open(&disk).unwrap();
    fail::cfg("oss::data::write", "1*return(ENOSPC)").unwrap();
    assert_eq!(put(&store, 1, 0, 9, 20_000).unwrap_err().errno(), Errno::ENOSPC);
    let read = store.read(id(1), 0, 20_000).unwrap();
    assert!(read.data.iter().all(|byte| [1, 9].contains(byte)));
    fail::cfg("oss::data::write", "1*return(ENOSPC)").unwrap();
    assert_eq!(put(&store, 1, 24_000, 9, 5_000).unwrap_err().errno(), Errno::ENOSPC);
    // Half of that was written: what else is written to the same block goes with it.
    put(&store, 1, 25_000, 7, 10).unwrap();
    let read = store.read(id(1), 20_000, 20_000).unwrap();
    assert!(read.data.iter().all(|byte| [0, 7, 9].contains(byte)));
    store.truncate(id(1), 100_000).unwrap();
    assert!(store.read(id(1), 30_000, 70_000).unwrap().data.iter().all(|&byte| byte == 0));
    put(&store, 1, 0, 8, 20_000).unwrap();
    assert!(store.read(id(1), 0, 20_000).unwrap().data.iter().all(|&byte| byte == 8));
    assert!(disk.exists(Path::new("intents")).unwrap());
    scenario.teardown();
}
