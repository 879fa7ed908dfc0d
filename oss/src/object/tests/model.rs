//! Random operations against a vector of bytes.

use nacre_model::checksum::Crc32c;
use nacre_node::disk::mem::MemDisk;
use proptest::prelude::*;

use super::*;

/// Offsets and lengths stay below this.
pub(super) const SPAN: u64 = 40_000;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Write { at: u64, len: usize, seed: u64 },
    Read { at: u64, len: u32 },
    Truncate { size: u64 },
    Punch { at: u64, len: u64 },
    Allocate { at: u64, len: u64, grow: bool },
    Seek { at: u64, hole: bool },
    Commit,
    Clean,
    Reopen,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let at = prop_oneof![0..SPAN, (0..SPAN / 4096).prop_map(|block| block * 4096)];
    let len = || prop_oneof![1..SPAN / 2, (1..4u64).prop_map(|blocks| blocks * 4096)];
    prop_oneof![
        6 => (at.clone(), len(), 1..u64::MAX)
            .prop_map(|(at, len, seed)| Op::Write { at, len: usize::try_from(len).unwrap(), seed }),
        4 => (at.clone(), len()).prop_map(|(at, len)| Op::Read { at, len: u32::try_from(len).unwrap() }),
        2 => at.clone().prop_map(|size| Op::Truncate { size }),
        2 => (at.clone(), len()).prop_map(|(at, len)| Op::Punch { at, len }),
        1 => (at.clone(), len(), any::<bool>())
            .prop_map(|(at, len, grow)| Op::Allocate { at, len, grow }),
        1 => (at, any::<bool>()).prop_map(|(at, hole)| Op::Seek { at, hole }),
        1 => Just(Op::Commit),
        1 => Just(Op::Clean),
        1 => Just(Op::Reopen),
    ]
}

/// What the object must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) exists: bool,
    pub(super) bytes: Vec<u8>,
}

fn size(at: u64) -> usize {
    usize::try_from(at).unwrap()
}

impl Model {
    pub(super) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Write { at, len, seed } => {
                self.exists = true;
                let end = size(at) + len;
                self.bytes.resize(self.bytes.len().max(end), 0);
                self.bytes[size(at)..end].copy_from_slice(&bytes(seed, len));
            }
            Op::Truncate { size: to } if self.exists => self.bytes.resize(size(to), 0),
            Op::Punch { at, len } if self.exists => {
                let end = size(at + len).min(self.bytes.len());
                let at = size(at).min(end);
                self.bytes[at..end].fill(0);
            }
            Op::Allocate { at, len, grow } => {
                self.exists = true;
                let end = if grow { size(at + len) } else { 0 };
                self.bytes.resize(self.bytes.len().max(end), 0);
            }
            Op::Truncate { .. }
            | Op::Punch { .. }
            | Op::Read { .. }
            | Op::Seek { .. }
            | Op::Commit
            | Op::Clean
            | Op::Reopen => {}
        }
    }

    fn check_read(&self, store: &ObjectStore, at: u64, len: u32) {
        let read = store.read(id(1), at, len).unwrap();
        assert_eq!(read.size, self.bytes.len() as u64);
        let end = size(at + u64::from(len)).min(self.bytes.len());
        assert!(read.data[..] == self.bytes[size(at).min(end)..end], "at {at} for {len}");
        assert_eq!(read.crc, Crc32c::of(&read.data));
    }

    fn check_seek(&self, store: &ObjectStore, at: u64, hole: bool) {
        let (found, size) = store.seek(id(1), at, hole).unwrap();
        assert_eq!(size, self.bytes.len() as u64);
        let rest = self.bytes.get(usize::try_from(at).unwrap()..).unwrap_or(&[]);
        match found {
            Some(found) => {
                assert!(found >= at && found <= size);
                // What was skipped in search of data was zeros.
                let skipped = usize::try_from(found - at).unwrap();
                assert!(hole || rest[..skipped].iter().all(|&byte| byte == 0));
            }
            None if hole => assert!(at >= size),
            None => assert!(rest.iter().all(|&byte| byte == 0)),
        }
    }
}

/// Does `op` to the store.
pub(super) fn run(store: &ObjectStore, op: &Op) -> Result<(), OssError> {
    match *op {
        Op::Write { at, len, seed } => put(store, id(1), at, &bytes(seed, len)).map(drop),
        Op::Truncate { size } => store.truncate(id(1), size).map(drop),
        Op::Punch { at, len } => store.punch(id(1), at, len).map(drop),
        Op::Allocate { at, len, grow } => store.allocate(id(1), at, len, grow).map(drop),
        Op::Commit => store.commit(&[id(1)]),
        // As after a start: found, then made clean.
        Op::Clean => store
            .recheck_object(id(1))
            .and_then(|()| store.clean_round())
            .and_then(|_| store.clean_round())
            .map(drop),
        Op::Read { at, len } => store.read(id(1), at, len).map(drop),
        Op::Seek { at, hole } => store.seek(id(1), at, hole).map(drop),
        Op::Reopen => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_store_does_as_a_vector_of_bytes(ops in proptest::collection::vec(op(), 1..40)) {
        let disk = MemDisk::default();
        let mut store = open(&disk);
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Read { at, len } => model.check_read(&store, at, len),
                Op::Seek { at, hole } => model.check_seek(&store, at, hole),
                Op::Reopen => store = open(&disk),
                Op::Write { .. }
                | Op::Truncate { .. }
                | Op::Punch { .. }
                | Op::Allocate { .. }
                | Op::Commit
                | Op::Clean => run(&store, &op).unwrap(),
            }
            model.apply(&op);
            let info = store.stat(id(1)).unwrap();
            prop_assert_eq!(info.is_some(), model.exists);
            prop_assert_eq!(info.unwrap_or_default().size, model.bytes.len() as u64);
        }
        model.check_read(&store, 0, u32::try_from(2 * SPAN).unwrap());
    }
}
