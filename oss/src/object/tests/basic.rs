use std::path::{Path, PathBuf};

use nacre_model::checksum::Crc32c;
use nacre_model::{Errno, Retry, ServiceError};
use nacre_node::Disk;
use nacre_node::disk::mem::MemDisk;

use super::super::files::paths;
use super::super::graves::Fate;
use super::*;

fn flip(disk: &MemDisk, path: &Path, at: u64) {
    let file = disk.open(path).expect("is there");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("reads");
    file.write_at(&[byte[0] ^ 0x10], at).expect("writes");
}

fn data_path(oid: u32) -> PathBuf {
    paths(id(oid)).0
}

#[test]
fn what_was_written_is_read_with_its_checksum() {
    let store = open(&MemDisk::default());
    let data = bytes(1, 10_000);
    let info = put(&store, id(1), 5_000, &data).unwrap();
    assert_eq!(info.size, 15_000);
    let read = store.read(id(1), 4_000, 20_000).unwrap();
    assert_eq!(read.size, 15_000);
    assert!(read.data[..1_000].iter().all(|&byte| byte == 0), "a hole reads as zeros");
    assert_eq!(read.data[1_000..], data);
    assert_eq!(read.crc, Crc32c::of(&read.data));
}

#[test]
fn an_object_that_does_not_exist_is_empty_and_is_not_made_by_asking() {
    let disk = MemDisk::default();
    let store = open(&disk);
    assert_eq!(store.read(id(1), 0, 10).unwrap().size, 0);
    assert_eq!(store.stat(id(1)).unwrap(), None);
    assert_eq!(store.truncate(id(1), 10).unwrap(), None);
    assert_eq!(store.punch(id(1), 0, 10).unwrap(), None);
    assert_eq!(store.seek(id(1), 0, true).unwrap(), (None, 0));
    store.commit(&[id(1)]).unwrap();
    assert!(!disk.exists(&data_path(1)).unwrap());
}

#[test]
fn a_write_that_arrives_changed_is_refused_and_may_be_sent_again() {
    let store = open(&MemDisk::default());
    let error = store.write(id(1), 0, b"mother of pearl", Crc32c(1)).unwrap_err();
    assert!(matches!(error, OssError::RequestChecksum { .. }));
    assert_eq!((error.errno(), error.retry()), (Errno::EIO, Retry::SameTarget));
    assert_eq!(store.stat(id(1)).unwrap(), None);
}

#[test]
fn invariant_2_no_byte_is_returned_whose_checksum_does_not_match() {
    let disk = MemDisk::default();
    let mut store = open(&disk);
    put(&store, id(1), 0, &bytes(1, 20_000)).unwrap();
    for _ in ["in the process that wrote it", "after a restart"] {
        flip(&disk, &data_path(1), 9_000);
        let error = store.read(id(1), 0, 20_000).unwrap_err();
        let OssError::Corrupt { object, start, end } = error else { panic!("{error}") };
        assert_eq!((object, start, end), (id(1), 8_192, 12_288));
        // Other blocks are as good as ever; a write over a part of the bad one is not believed.
        assert_eq!(store.read(id(1), 0, 8_192).unwrap().data.len(), 8_192);
        let error = put(&store, id(1), 9_000, b"x").unwrap_err();
        assert!(matches!(error, OssError::Corrupt { .. }));
        // A write over all of it heals it.
        put(&store, id(1), 8_192, &bytes(2, 4_096)).unwrap();
        assert_eq!(store.read(id(1), 0, 20_000).unwrap().data.len(), 20_000);
        store.close().unwrap();
        store = open(&disk);
    }
}

#[test]
fn a_flipped_checksum_a_torn_header_and_lost_data_are_noticed() {
    let disk = MemDisk::default();
    let store = open(&disk);
    put(&store, id(1), 0, &bytes(1, 20_000)).unwrap();
    store.close().unwrap();
    flip(&disk, &paths(id(1)).1, 8_192);
    let store = open(&disk);
    assert!(matches!(store.read(id(1), 0, 1).unwrap_err(), OssError::Corrupt { .. }));
    flip(&disk, &paths(id(1)).1, 8_192);
    disk.open(&data_path(1)).unwrap().set_len(15_000).unwrap();
    let store = open(&disk);
    assert!(matches!(store.read(id(1), 12_288, 8_000).unwrap_err(), OssError::Corrupt { .. }));
}

#[test]
fn invariant_4_a_failed_sync_poisons_until_the_restart() {
    let disk = MemDisk::default();
    let store = open(&disk);
    put(&store, id(1), 0, &bytes(1, 5_000)).unwrap();
    disk.set_fault(Some(Box::new(|_, call| {
        (call == nacre_node::disk::mem::DiskCall::SyncData)
            .then(|| std::io::Error::from_raw_os_error(5))
    })));
    let error = store.commit(&[id(1)]).unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    disk.set_fault(None);
    // The disk is well again, and yet:
    assert!(matches!(store.commit(&[id(1)]).unwrap_err(), OssError::Poisoned));
    assert!(matches!(put(&store, id(2), 0, b"x").unwrap_err(), OssError::Poisoned));
    assert!(matches!(store.truncate(id(1), 0).unwrap_err(), OssError::Poisoned));
    assert!(matches!(store.destroy(&[id(1)], Fate::Gone).unwrap_err(), OssError::Poisoned));
    assert_eq!(store.read(id(1), 0, 5_000).unwrap().data, bytes(1, 5_000));
    let store = open(&disk);
    put(&store, id(2), 0, b"x").unwrap();
    store.commit(&[id(1), id(2)]).unwrap();
}

#[test]
fn invariant_5_enospc_is_told_before_data_is_accepted() {
    let disk = MemDisk::new(8 << 20);
    let store = open(&disk);
    let (old, new) = (bytes(1, 1 << 20), bytes(2, 1 << 20));
    let mut written = 0;
    let error = loop {
        match put(&store, id(1), written, &old) {
            Ok(info) => written = info.size,
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), Errno::ENOSPC);
    assert!(written >= 3 << 20, "{written}");
    assert_eq!(store.stat(id(1)).unwrap().unwrap().size, written);
    // What is allocated may be overwritten all the same, and other things go on.
    put(&store, id(1), 1 << 20, &new).unwrap();
    assert_eq!(store.read(id(1), 0, 1 << 20).unwrap().data, old);
    assert_eq!(store.read(id(1), 1 << 20, 1 << 20).unwrap().data, new);
    store.destroy(&[id(1)], Fate::Gone).unwrap();
    put(&store, id(2), 0, &old).unwrap();
}

#[test]
fn destroyed_objects_do_not_come_back() {
    let disk = MemDisk::default();
    let store = open(&disk);
    for oid in [1, 2] {
        put(&store, id(oid), 0, b"nacre").unwrap();
    }
    store.destroy(&[id(1)], Fate::Gone).unwrap();
    store.destroy(&[id(2), id(3)], Fate::Replaced).unwrap();
    store.destroy(&[id(2)], Fate::Replaced).unwrap();
    for store in [store, open(&disk)] {
        for oid in [1, 2, 3] {
            let error = put(&store, id(oid), 0, b"late").unwrap_err();
            assert_eq!((error.errno(), error.retry()), (Errno::ESTALE, Retry::AfterRefresh));
        }
        assert_eq!(store.read(id(1), 0, 9).unwrap().size, 0);
        assert_eq!(store.stat(id(1)).unwrap(), None);
        for oid in [2, 3] {
            assert_eq!(store.read(id(oid), 0, 9).unwrap_err().errno(), Errno::ESTALE);
            assert_eq!(store.stat(id(oid)).unwrap_err().errno(), Errno::ESTALE);
        }
    }
    assert!(!disk.exists(&data_path(1)).unwrap());
}

#[test]
fn an_older_epoch_is_refused_with_both_numbers() {
    let store = open(&MemDisk::default());
    store.raise_epoch(5);
    store.raise_epoch(4);
    store.check_epoch(5).unwrap();
    let error = store.check_epoch(4).unwrap_err();
    assert_eq!(error.to_string(), "OST0003: epoch 4 is older than 5");
    assert_eq!(error.retry(), Retry::AfterRefresh);
    assert_eq!(store.verifier().epoch, 5);
}

#[test]
fn ranges_beyond_the_largest_object_are_refused() {
    let store = open(&MemDisk::default());
    for (offset, len) in [(u64::MAX, 1), (u64::MAX - 10, 20), (i64::MAX.unsigned_abs() - 5, 100)] {
        let data = vec![1; len];
        assert_eq!(put(&store, id(1), offset, &data).unwrap_err().errno(), Errno::EFBIG);
        assert_eq!(store.allocate(id(1), offset, 100, true).unwrap_err().errno(), Errno::EFBIG);
    }
    assert_eq!(store.truncate(id(1), u64::MAX).unwrap_err().errno(), Errno::EFBIG);
    put(&store, id(1), 0, b"x").unwrap();
    store.punch(id(1), 0, u64::MAX).unwrap();
    assert_eq!(store.read(id(1), 0, 1).unwrap().data[..], [0]);
}

#[test]
fn streaming_and_clean_stops_cost_no_intent_and_find_no_doubt() {
    let disk = MemDisk::default();
    let store = open(&disk);
    for step in 0..4 {
        put(&store, id(1), step << 20, &bytes(step, 1 << 20)).unwrap();
        clean(&store);
    }
    assert_eq!(store.slots.get(id(1)).unwrap().present(|p| p.logged.is_empty()), Some(true));
    store.close().unwrap();
    let store = open(&disk);
    assert!(!store.walk_is_due());
    store.stat(id(1)).unwrap();
    assert_eq!(store.slots.get(id(1)).unwrap().present(|p| p.doubtful), Some(false));
}

#[test]
fn more_objects_than_may_be_open_are_served() {
    let disk = MemDisk::default();
    let options = StoreOptions { objects_max: 16, ..StoreOptions::new(OstIndex(0), 1) };
    let store = ObjectStore::open(Arc::new(disk), Arc::new(Noon), options).unwrap();
    for round in 0..2 {
        for oid in 0..100 {
            put(&store, id(oid), round * 10, &bytes(oid.into(), 10)).unwrap();
        }
    }
    assert!(store.slots.count() <= 16, "{}", store.slots.count());
    for oid in 0..100 {
        assert_eq!(store.read(id(oid), 10, 100).unwrap().data, bytes(oid.into(), 10));
    }
}
