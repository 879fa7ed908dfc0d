//! Metadata commands that are a function of their number, and the state after each of them.

use bytes::Bytes;
use nacre_mds::command::{Command, Op, Origin};
use nacre_mds::store::{KEY_END, MemStore, MetaStore, StoreError, Txn, View};
use nacre_mds::{Machine, engine::StateMachine, namespace};
use nacre_model::{Fid, FileKind, Timestamp};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Of the file system.
pub const FSNAME: &str = "cut";
/// Key of the name hash, and birth of the root.
pub const FORMAT: ([u64; 2], Timestamp) = ([1, 2], Timestamp { secs: 1, nanos: 0 });

/// Session that the load opens: the first there is.
const SESSION: u64 = 1;
/// More slots than the load has commands in flight.
const SLOTS: u64 = 64;
const FOLDERS_MAX: usize = 8;

/// A name of a file.
#[derive(Debug, Clone)]
struct Entry {
    parent: Fid,
    name: Bytes,
    fid: Fid,
}

/// The commands, in order. All of them change something and none is refused, so that the n-th is
/// the n-th of the log.
#[derive(Debug)]
pub struct Load {
    rng: StdRng,
    made: u64,
    inodes: u32,
    folders: Vec<Fid>,
    files: Vec<Entry>,
}

impl Load {
    /// From the first command on.
    pub fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, made: 0, inodes: 0, folders: vec![Fid::ROOT], files: Vec::new() }
    }

    /// Number of the last command that was made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Makes the next command.
    pub fn step(&mut self) -> Command {
        self.made += 1;
        let op = match self.made {
            1 => Op::AddSequences { first: Fid::SEQ_NORMAL, count: 1 },
            2 => Op::OpenSession {
                client_uuid: "cutter".to_owned(),
                incarnation: 1,
                hostname: "cutter".to_owned(),
                leases: false,
            },
            _ => self.change(),
        };
        let is_change = matches!(op, Op::Change { .. });
        let slot = u32::try_from(self.made % SLOTS).unwrap_or(0);
        Command {
            time: Timestamp { secs: 1_000_000_000 + self.made.cast_signed(), nanos: 0 },
            origin: is_change.then_some(Origin { session: SESSION, slot, xid: self.made }),
            op,
        }
    }

    fn change(&mut self) -> Op {
        let op = match self.rng.random_range(0..20) {
            0..2 if self.folders.len() < FOLDERS_MAX => self.mkdir(),
            2..5 => self.picked(Self::rename),
            5..8 => self.picked(Self::unlink),
            8..11 => self.picked(Self::write),
            11..13 => self.picked(Self::setxattr),
            13 => self.picked(Self::link),
            _ => self.create(),
        };
        Op::Change {
            uid: 0,
            gid: 0,
            op,
            new_fid: None,
            placement: Vec::new(),
            held_open: Vec::new(),
            used_by_others: Vec::new(),
        }
    }

    /// Does something to one of the files; without any, makes one.
    fn picked(&mut self, act: fn(&mut Self, usize) -> Wire) -> Wire {
        if self.files.is_empty() {
            return self.create();
        }
        let at = self.rng.random_range(0..self.files.len());
        act(self, at)
    }

    fn file(&self, at: usize) -> Entry {
        self.files.get(at).cloned().expect("it was picked among them")
    }

    fn folder(&mut self) -> Fid {
        let at = self.rng.random_range(0..self.folders.len());
        self.folders.get(at).copied().unwrap_or(Fid::ROOT)
    }

    /// Never used before.
    fn fresh_name(&self) -> Bytes {
        Bytes::from(format!("name-{}", self.made))
    }

    /// The fid that the next new inode is given.
    fn fresh_fid(&mut self) -> Fid {
        self.inodes += 1;
        Fid { seq: Fid::SEQ_NORMAL, oid: self.inodes, ver: 0 }
    }

    fn create_op(parent: Fid, name: &Bytes, kind: FileKind) -> Wire {
        Wire::Create(v1::CreateOp {
            parent: Some(parent.into()),
            name: name.clone(),
            mode: kind.mode_bits() | 0o755,
            exclusive: true,
            ..v1::CreateOp::default()
        })
    }

    fn mkdir(&mut self) -> Wire {
        let (parent, name, fid) = (self.folder(), self.fresh_name(), self.fresh_fid());
        self.folders.push(fid);
        Self::create_op(parent, &name, FileKind::Directory)
    }

    fn create(&mut self) -> Wire {
        let (parent, name, fid) = (self.folder(), self.fresh_name(), self.fresh_fid());
        let op = Self::create_op(parent, &name, FileKind::Regular);
        self.files.push(Entry { parent, name, fid });
        op
    }

    fn rename(&mut self, at: usize) -> Wire {
        let old = self.file(at);
        let new = Entry { parent: self.folder(), name: self.fresh_name(), fid: old.fid };
        let op = v1::RenameOp {
            parent: Some(old.parent.into()),
            name: old.name,
            new_parent: Some(new.parent.into()),
            new_name: new.name.clone(),
            ..v1::RenameOp::default()
        };
        if let Some(place) = self.files.get_mut(at) {
            *place = new;
        }
        Wire::Rename(op)
    }

    fn unlink(&mut self, at: usize) -> Wire {
        let Entry { parent, name, .. } = self.files.swap_remove(at);
        Wire::Unlink(v1::UnlinkOp { parent: Some(parent.into()), name, fid: None })
    }

    fn link(&mut self, at: usize) -> Wire {
        let fid = self.file(at).fid;
        let (parent, name) = (self.folder(), self.fresh_name());
        let op =
            v1::LinkOp { fid: Some(fid.into()), parent: Some(parent.into()), name: name.clone() };
        self.files.push(Entry { parent, name, fid });
        Wire::Link(op)
    }

    fn bytes(&mut self, len_max: usize) -> Bytes {
        let mut bytes = vec![0; self.rng.random_range(1..=len_max)];
        self.rng.fill(bytes.as_mut_slice());
        bytes.into()
    }

    fn write(&mut self, at: usize) -> Wire {
        Wire::WriteInline(v1::WriteInlineOp {
            fid: Some(self.file(at).fid.into()),
            offset: self.rng.random_range(0..4096),
            data: self.bytes(8 << 10),
            ..v1::WriteInlineOp::default()
        })
    }

    /// One in eight is so large that the store puts it beside its log.
    fn setxattr(&mut self, at: usize) -> Wire {
        let len_max = if self.rng.random_ratio(1, 8) { 60 << 10 } else { 256 };
        Wire::Setxattr(v1::SetxattrOp {
            fid: Some(self.file(at).fid.into()),
            name: Bytes::from_static(b"user.cut"),
            value: self.bytes(len_max),
            ..v1::SetxattrOp::default()
        })
    }
}

/// The state after so many commands, made without log and disk.
pub struct Reference {
    store: MemStore,
    load: Load,
}

impl Reference {
    /// Of a new file system.
    pub fn new(seed: u64) -> Self {
        let store = MemStore::default();
        let ([low, high], born) = FORMAT;
        store.apply(&namespace::format(FSNAME, [low, high], born)).expect("memory does not fail");
        Self { store, load: Load::new(seed) }
    }

    /// Carries out commands up to number `count`, and returns the load that goes on behind them.
    pub fn advance(mut self, count: u64) -> anyhow::Result<(MemStore, Load)> {
        while self.load.made() < count {
            let command = self.load.step();
            let mut txn = Txn::new(&self.store);
            Machine.apply(&mut txn, &command)?;
            let batch = txn.into_batch();
            self.store.apply(&batch)?;
        }
        Ok((self.store, self.load))
    }
}

/// In what two states differ, apart from the engine's own rows.
pub fn difference(found: &dyn View, expected: &dyn View) -> Result<Option<String>, StoreError> {
    let (found, expected) = (rows(found)?, rows(expected)?);
    if found == expected {
        return Ok(None);
    }
    let first = found.iter().zip(&expected).find(|(one, other)| one != other);
    let first = first.map(|((key, _), (other, _))| {
        format!("`{}`, should be `{}`", key.escape_ascii(), other.escape_ascii())
    });
    Ok(Some(format!("{} rows, should be {}: {first:?}", found.len(), expected.len())))
}

/// Keys and values.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn rows(view: &dyn View) -> Result<Rows, StoreError> {
    let mut rows = Vec::new();
    view.scan(b"A", &KEY_END, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_load_is_taken_and_leaves_a_sound_namespace() {
        for seed in 0..4 {
            let (store, load) = Reference::new(seed).advance(2000).unwrap();
            assert_eq!(load.made(), 2000);
            assert_eq!(namespace::check(&store).unwrap(), Vec::new());
        }
    }
}
