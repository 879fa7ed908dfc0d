//! The state machine over a store in memory, and the codec of the log.

#![expect(missing_docs, reason = "what `criterion_group!` makes has none")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nacre_mds::command::{Command, Op, Origin};
use nacre_mds::namespace::{apply, format, read};
use nacre_mds::store::{MemStore, MetaStore, Txn};
use nacre_model::{Fid, FileKind, Timestamp};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

/// Files in the directory before anything is measured.
const FILES: u64 = 100_000;
/// Commands in a group that becomes one batch.
const GROUP: u64 = 64;

fn create(session: u64, n: u64) -> Command {
    let op = v1::CreateOp {
        parent: Some(Fid::ROOT.into()),
        name: Bytes::from(format!("file.{n}")),
        mode: FileKind::Regular.mode_bits() | 0o644,
        exclusive: true,
        ..v1::CreateOp::default()
    };
    let op = Op::Change {
        uid: 0,
        gid: 0,
        op: Wire::Create(op),
        new_fid: None,
        placement: Vec::new(),
        held_open: Vec::new(),
        used_by_others: Vec::new(),
    };
    let origin = Some(Origin { session, slot: 0, xid: n });
    Command { time: Timestamp { secs: 1, nanos: 0 }, origin, op }
}

/// A directory of [`FILES`] files, and the session that made them.
fn filled() -> (MemStore, u64) {
    let store = MemStore::default();
    store.apply(&format("bench", [1, 2], Timestamp::default())).expect("memory does not fail");
    let mut txn = Txn::new(&store);
    let mut done = |op: Op| {
        let command = Command { time: Timestamp::default(), origin: None, op };
        apply(&mut txn, &command).expect("it is the first")
    };
    done(Op::AddSequences { first: Fid::SEQ_NORMAL, count: 8 });
    let (client_uuid, hostname) = ("bench".to_owned(), String::new());
    let session =
        done(Op::OpenSession { client_uuid, incarnation: 1, hostname, leases: false }).session;
    for n in 1..=FILES {
        apply(&mut txn, &create(session, n)).expect("the name is new");
    }
    let batch = txn.into_batch();
    store.apply(&batch).expect("memory does not fail");
    (store, session)
}

fn namespace(c: &mut Criterion) {
    let (store, session) = filled();
    c.bench_function("64 creates in one transaction", |b| {
        b.iter_batched(
            || (1..=GROUP).map(|n| create(session, FILES + n)).collect::<Vec<_>>(),
            |commands| {
                let mut txn = Txn::new(&store);
                for command in &commands {
                    apply(&mut txn, command).expect("the name is new");
                }
                txn.into_batch()
            },
            BatchSize::SmallInput,
        );
    });
    c.bench_function("lookup", |b| {
        b.iter(|| read::lookup(&store, Fid::ROOT, black_box(b"file.777")).expect("it is there"));
    });
    c.bench_function("readdir of 64 KiB with attributes", |b| {
        b.iter(|| read::readdir(&store, Fid::ROOT, black_box(0), 64 << 10, true));
    });
}

fn codec(c: &mut Criterion) {
    let command = create(1, 1);
    let bytes = command.encode();
    c.bench_function("encode a command", |b| b.iter(|| black_box(&command).encode()));
    c.bench_function("decode a command", |b| b.iter(|| Command::decode(bytes.clone())));
}

criterion_group!(benches, namespace, codec);
criterion_main!(benches);
