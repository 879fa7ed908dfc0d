//! What lies under the state machine: the log, and the store as it is shipped, on the disk of the
//! folder for temporary files.

#![expect(missing_docs, reason = "what `criterion_group!` makes has none")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nacre_mds::log::{Log, LogConfig, LogError, LogReader};
use nacre_mds::store::{Batch, MetaStore, SledOptions, SledStore, open_or_renew};
use nacre_node::OsDisk;
use tempfile::TempDir;

/// Records, or creates, of one group.
const GROUP: u64 = 64;
/// Bytes of a record: a create's.
const RECORD_BYTES: usize = 160;
/// Rows of a create, and bytes of each: inode, entry, reply and the counters.
const ROWS: u64 = 4;
const ROW_BYTES: usize = 120;

fn log(folder: &TempDir) -> Log {
    let disk = Arc::new(OsDisk::new(folder.path()));
    let reader = LogReader::open(disk, LogConfig::default()).expect("the disk is well");
    reader.recover::<LogError>(1, &mut |_| Ok(())).expect("the log is new")
}

fn append(log: &mut Log) {
    for _ in 0..GROUP {
        log.push(1, &[7; RECORD_BYTES]).expect("it is short");
    }
    log.commit().expect("there is room");
}

fn logging(c: &mut Criterion) {
    let folder = TempDir::new().expect("there is a disk");
    let mut log = log(&folder);
    let sync = log.syncer();
    c.bench_function("append 64 records to the log", |b| {
        b.iter(|| {
            append(&mut log);
            sync.purge(log.last_index()).expect("it can be removed");
        });
    });
    c.bench_function("append 64 records to the log and sync", |b| {
        b.iter(|| {
            append(&mut log);
            sync.sync().expect("the disk is well");
            sync.purge(log.last_index()).expect("it can be removed");
        });
    });
}

/// What a group of creates changes; no two have a key in common.
fn group(number: u64) -> Batch {
    let rows = number * GROUP * ROWS..(number + 1) * GROUP * ROWS;
    rows.map(|row| {
        // Spread over the kinds of rows, as their first byte does.
        let kind = u8::try_from(row % ROWS).unwrap_or_default() + b'A';
        let key = [&[kind][..], &row.to_be_bytes()].concat();
        (key, Some(vec![kind; ROW_BYTES]))
    })
    .collect()
}

fn storing(c: &mut Criterion) {
    let folder = TempDir::new().expect("there is a disk");
    let store: SledStore = open_or_renew(&folder.path().join("store"), &SledOptions::default())
        .expect("the disk is well");
    let mut numbers = 0..;
    let mut next = || group(numbers.next().unwrap_or_default());
    c.bench_function("apply 64 creates to the store", |b| {
        b.iter_batched(
            &mut next,
            |batch| store.apply(&batch).expect("there is room"),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("apply 64 creates to the store and checkpoint", |b| {
        b.iter_batched(
            &mut next,
            |batch| {
                store.apply(&batch).expect("there is room");
                store.checkpoint().expect("the disk is well");
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, logging, storing);
criterion_main!(benches);
