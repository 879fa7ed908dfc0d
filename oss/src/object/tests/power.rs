//! Power cuts and kills at every call to the disk.

use nacre_node::disk::mem::{Crash, MemDisk};
use proptest::prelude::*;

use super::model::{Model, Op, SPAN, op, run};
use super::*;

/// What each byte of the object may be after a crash.
#[derive(Debug, Clone)]
struct Oracle {
    /// After every acknowledged operation.
    now: Model,
    /// What the crash may bring back: states since the last commit, that one first.
    since: Vec<Model>,
}

impl Oracle {
    fn new(now: Model) -> Self {
        Self { since: vec![now.clone()], now }
    }

    /// `op` was begun.
    fn begun(&mut self, op: &Op) {
        let mut after = self.now.clone();
        after.apply(op);
        self.since.push(after);
    }

    /// `op` was acknowledged.
    fn acknowledged(&mut self, op: &Op) {
        self.now.apply(op);
        if matches!(op, Op::Commit | Op::Clean) {
            *self = Self::new(self.now.clone());
        }
    }

    /// A process died: what was acknowledged stands, what was begun may.
    fn killed(&self) -> Self {
        let begun = self.since.last().cloned();
        Self { now: self.now.clone(), since: [self.now.clone()].into_iter().chain(begun).collect() }
    }

    fn check(&self, found: &Model) {
        if self.since.iter().all(|state| state.exists) {
            assert!(found.exists, "what was committed is gone");
        }
        let sizes = || self.since.iter().map(|state| state.bytes.len());
        let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
        let size = found.bytes.len();
        assert!((least..=most).contains(&size), "size {size} is not in {least} to {most}");
        for (at, &byte) in found.bytes.iter().enumerate() {
            // Where there was nothing at some time, a hole may show.
            let allowed = |state: &Model| {
                state.bytes.get(at).is_none_or(|&was| was == byte)
                    && (state.bytes.len() > at || byte == 0)
            };
            let hole = byte == 0 && self.since.iter().any(|state| state.bytes.len() <= at);
            let known = hole || self.since.iter().any(allowed);
            assert!(known, "byte {at} is {byte}, which was never there");
        }
    }
}

/// Everything that the store says of the object: each block must verify.
fn look(store: &ObjectStore) -> Model {
    let exists = store.stat(id(1)).unwrap().is_some();
    let read = store.read(id(1), 0, u32::try_from(4 * SPAN).unwrap()).unwrap();
    Model { exists, bytes: read.data.to_vec() }
}

/// Runs `ops` until the power goes at call `cut`, crashes, and checks. The state found.
fn cut_at(disk: &MemDisk, start: &Model, ops: &[Op], cut: Option<u64>, crash: Crash) -> Model {
    let mut oracle = Oracle::new(start.clone());
    if let Some(cut) = cut {
        disk.power_off_at(cut);
    }
    if let Ok(mut store) = try_open(disk) {
        for op in ops {
            oracle.begun(op);
            let done = if matches!(op, Op::Reopen) {
                try_open(disk).map(|opened| store = opened)
            } else {
                run(&store, op)
            };
            if done.is_err() {
                break;
            }
            oracle.acknowledged(op);
        }
    }
    disk.crash(crash, cut.unwrap_or(0));
    let oracle = if crash == Crash::Process { oracle.killed() } else { oracle };
    let found = look(&open(disk));
    oracle.check(&found);
    found
}

fn calls_of(ops: &[Op]) -> u64 {
    let disk = MemDisk::default();
    cut_at(&disk, &Model::default(), ops, None, Crash::Process);
    disk.calls()
}

/// A cut at every call, each followed by more work and another cut: checksums that were true only
/// by luck would show.
fn cut_everywhere(first: &[Op], second: &[Op], crash: Crash) {
    for cut in 0..=calls_of(first) {
        let disk = MemDisk::default();
        let found = cut_at(&disk, &Model::default(), first, Some(cut), crash);
        let then = disk.calls() + cut % 23;
        let found = cut_at(&disk, &found, second, Some(then), crash);
        // What is clean after that verifies without the help of doubt.
        let store = open(&disk);
        assert_eq!(look(&store), found);
        if found.exists {
            store.recheck_object(id(1)).unwrap();
        }
        store.walk_done();
        store.close().unwrap();
        let store = open(&disk);
        assert!(!store.walk_is_due());
        assert_eq!(look(&store), found);
    }
}

fn write(at: u64, len: usize, seed: u64) -> Op {
    Op::Write { at, len, seed }
}

/// New object, growth, overwrite of clean and of doubtful parts, cut, hole, regrowth.
fn story() -> Vec<Op> {
    vec![
        write(0, 9_000, 1),
        Op::Commit,
        write(9_000, 5_000, 2),
        Op::Clean,
        write(3_000, 6_000, 3),
        Op::Commit,
        write(100, 50, 4),
        Op::Truncate { size: 5_000 },
        write(6_000, 4_000, 5),
        Op::Clean,
        Op::Punch { at: 1_000, len: 6_000 },
        Op::Commit,
        write(2_000, 20_000, 6),
    ]
}

#[test]
fn invariant_1_what_was_synced_survives_power_loss_and_what_was_acknowledged_a_kill() {
    for crash in Crash::POWER.into_iter().chain([Crash::Process]) {
        cut_everywhere(&story(), &story()[6..], crash);
    }
}

#[test]
fn invariant_3_after_a_crash_only_what_is_in_doubt_is_checked_anew() {
    let disk = MemDisk::default();
    let store = open(&disk);
    put(&store, id(1), 0, &bytes(1, 32 << 20)).unwrap();
    put(&store, id(2), 0, &bytes(2, 1 << 20)).unwrap();
    clean(&store);
    put(&store, id(1), 5 << 20, &bytes(3, 4_096)).unwrap();
    disk.crash(Crash::Process, 0);
    let store = open(&disk);
    for oid in [1, 2] {
        store.stat(id(oid)).unwrap();
    }
    let unchecked = |oid| {
        let slot = store.slots.get(id(oid)).unwrap();
        slot.present(|present| present.unchecked.iter().collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(unchecked(1), [(4 << 20, 8 << 20)], "the region of the overwrite");
    assert_eq!(unchecked(2), [], "nothing of an object that was clean");
    // Rot in what was not in doubt is found, although there was a crash.
    let file = nacre_node::Disk::open(&disk, &super::super::files::paths(id(1)).0).unwrap();
    file.write_at(b"rot", 20 << 20).unwrap();
    assert!(matches!(store.read(id(1), 20 << 20, 10), Err(OssError::Corrupt { .. })));
    assert_eq!(store.read(id(1), 5 << 20, 4_096).unwrap().data, bytes(3, 4_096));
}

#[test]
fn objects_destroyed_before_a_power_cut_stay_destroyed() {
    for crash in Crash::POWER {
        for cut in 0..40 {
            let disk = MemDisk::default();
            let store = open(&disk);
            put(&store, id(1), 0, b"nacre").unwrap();
            store.commit(&[id(1)]).unwrap();
            disk.power_off_at(disk.calls() + cut);
            let done = store.destroy(&[id(1)], super::super::graves::Fate::Replaced);
            disk.crash(crash, cut);
            let store = open(&disk);
            match (done, store.read(id(1), 0, 9)) {
                (_, Err(OssError::Destroyed(_))) => {}
                (Err(_), Ok(read)) => assert_eq!(&read.data[..], b"nacre"),
                (done, read) => panic!("{done:?} {read:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn random_work_survives_a_cut_at_every_call(
        first in proptest::collection::vec(op(), 1..10),
        second in proptest::collection::vec(op(), 1..10),
        crash in 0..5usize,
    ) {
        let crash = Crash::POWER.into_iter().chain([Crash::Process]).nth(crash).unwrap();
        cut_everywhere(&first, &second, crash);
    }
}

#[test]
fn checksums_of_data_that_a_crash_swallowed_are_forgotten() {
    let first = [write(1, 8192, 1)];
    let second = [Op::Truncate { size: 1 }, Op::Clean, write(1, 1, 1)];
    cut_everywhere(&first, &second, Crash::Pages);
}
