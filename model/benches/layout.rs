//! Layout arithmetic and checksums.

#![expect(missing_docs, reason = "what `criterion_group!` makes has none")]

use std::hint::black_box;
use std::num::{NonZeroU16, NonZeroU64};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nacre_model::checksum::Crc32c;
use nacre_model::{Component, FileOffset, Layout, OstIndex, layout::EOF};

fn component() -> Component {
    Component {
        start: 0,
        end: EOF,
        stripe_size: NonZeroU64::new(1 << 20).expect("not zero"),
        stripe_count: NonZeroU16::new(4).expect("not zero"),
        pool: String::new(),
        stripe_index: None,
        osts: (0..4).map(OstIndex).collect(),
        object_generation: 0,
    }
}

fn layout(c: &mut Criterion) {
    let component = component();
    c.bench_function("locate", |b| b.iter(|| component.locate(black_box(FileOffset(123_456_789)))));
    let layout = Layout { generation: 0, components: vec![component] };
    c.bench_function("pieces of 16 MiB", |b| {
        b.iter(|| layout.pieces(black_box(4096), 16 << 20).map(|p| p.len).sum::<u64>());
    });
}

fn checksum(c: &mut Criterion) {
    let data = vec![0x5a_u8; 1 << 20];
    let mut group = c.benchmark_group("crc32c");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("1 MiB at once", |b| b.iter(|| Crc32c::of(black_box(&data))));
    group.bench_function("1 MiB by block, combined", |b| {
        b.iter(|| {
            let blocks = black_box(&data).chunks(4096);
            blocks.fold(Crc32c::default(), |all, block| all.combine(Crc32c::of(block), block.len()))
        });
    });
    group.finish();
}

criterion_group!(benches, layout, checksum);
criterion_main!(benches);
