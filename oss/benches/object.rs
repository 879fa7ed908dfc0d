//! Reading and writing objects, beside plain files in the same folder; and the checksums in it.
#![expect(missing_docs, reason = "made by macros")]

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nacre_model::checksum::{BLOCK_BYTES, Crc32c};
use nacre_model::{Fid, ObjectId, OstIndex};
use nacre_node::{OsDisk, SystemClock};
use nacre_oss::{ObjectStore, StoreOptions};

/// Bytes of the file that is gone over.
const SPAN: u64 = 256 << 20;

fn data(len: usize) -> Vec<u8> {
    (0u32..).map(|i| (i.wrapping_mul(i) >> 5).to_le_bytes()[0]).take(len).collect()
}

fn object() -> ObjectId {
    let fid = Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 };
    ObjectId { fid, component: 0, stripe: 0, generation: 0 }
}

fn checksums(c: &mut Criterion) {
    let bytes = data(1 << 20);
    let blocks: Vec<_> = bytes.chunks(BLOCK_BYTES).map(Crc32c::of).collect();
    let mut group = c.benchmark_group("checksum of 1 MiB");
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("in one go", |b| b.iter(|| Crc32c::of(black_box(&bytes))));
    group.bench_function("by blocks, joined", |b| {
        b.iter(|| {
            let blocks = black_box(&bytes).chunks(BLOCK_BYTES).map(Crc32c::of);
            blocks.fold(Crc32c::default(), Crc32c::then_block)
        });
    });
    group.bench_function("joining blocks by table", |b| {
        b.iter(|| black_box(&blocks).iter().fold(Crc32c::default(), |a, &b| a.then_block(b)));
    });
    group.bench_function("joining blocks in general", |b| {
        b.iter(|| {
            let blocks = black_box(&blocks).iter();
            blocks.fold(Crc32c::default(), |a, &b| a.combine(b, BLOCK_BYTES))
        });
    });
    group.finish();
}

fn objects(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the bench");
    let plain = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(folder.path().join("plain"))
        .expect("a plain file");
    let disk = Arc::new(OsDisk::new(folder.path()));
    let options = StoreOptions::new(OstIndex(0), 1);
    let store = ObjectStore::open(disk, Arc::new(SystemClock), options).expect("a store");
    for len in [4 << 10, 64 << 10, 1 << 20, 4 << 20] {
        let bytes = data(len);
        let crc = Crc32c::of(&bytes);
        let len = len as u64;
        let mut group = c.benchmark_group(format!("{} KiB", len >> 10));
        group.throughput(Throughput::Bytes(len));
        let mut at = 0;
        let mut next = move || {
            at = (at + len) % SPAN;
            at
        };
        group.bench_function("write object", |b| {
            b.iter(|| store.write(object(), next(), &bytes, crc).expect("writes"));
        });
        group.bench_function("write plain", |b| {
            b.iter(|| plain.write_all_at(&bytes, next()).expect("writes"));
        });
        let short = u32::try_from(len).expect("4 MiB fits");
        group.bench_function("read object", |b| {
            b.iter(|| store.read(object(), next(), short).expect("reads"));
        });
        let mut buffer = vec![0; bytes.len()];
        group.bench_function("read plain", |b| {
            b.iter(|| plain.read_exact_at(&mut buffer, next()).expect("reads"));
        });
        group.finish();
    }
}

criterion_group!(benches, checksums, objects);
criterion_main!(benches);
