//! Single behaviours that random steps reach rarely or not at all.

mod damage;
mod hsm;
mod layouts;
mod repository;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nacre_model::{Errno, Fid, FileKind, OstIndex, ServiceError, Timestamp};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use proptest::prelude::*;

use super::{LINKS_KEPT_MAX, LINKS_MAX, apply, check, format_with, read};
use crate::command::{Command, Op, Origin, Outcome};
use crate::namespace::NsError;
use crate::record::{Inode, key as keys};
use crate::store::{Batch, MemStore, MetaStore, Txn, View};

/// A file system with one session.
struct Fixture {
    store: MemStore,
    now: i64,
    session: u64,
    placement: Vec<(u16, Vec<OstIndex>)>,
}

impl Fixture {
    fn new() -> Self {
        Self::with_bits(60)
    }

    fn with_bits(bits: u32) -> Self {
        let store = MemStore::default();
        let time = Timestamp::default();
        store.apply(&format_with("test", [3, 4], time, bits)).unwrap();
        let placement = vec![(0, vec![OstIndex(0)]), (1, vec![OstIndex(1), OstIndex(2)])];
        let mut fixture = Self { store, now: 0, session: 0, placement };
        fixture.op(Op::AddSequences { first: Fid::SEQ_NORMAL, count: 1 }).unwrap();
        let (client_uuid, hostname) = ("m".to_owned(), "h".to_owned());
        let open = Op::OpenSession { client_uuid, incarnation: 1, hostname, leases: false };
        fixture.session = fixture.op(open).unwrap().session;
        fixture
    }

    fn command(&mut self, command: &Command) -> Result<Outcome, NsError> {
        let mut txn = Txn::new(&self.store);
        let outcome = apply(&mut txn, command);
        let batch: Batch = txn.into_batch();
        if outcome.is_err() {
            assert!(batch.is_empty(), "an error left changes");
        }
        self.store.apply(&batch).unwrap();
        outcome
    }

    fn op(&mut self, op: Op) -> Result<Outcome, NsError> {
        self.now += 1;
        let time = Timestamp { secs: self.now, nanos: 0 };
        self.command(&Command { time, origin: None, op })
    }

    fn change_op(&self, op: Wire) -> Op {
        Op::Change {
            uid: 0,
            gid: 0,
            op,
            new_fid: None,
            placement: self.placement.clone(),
            held_open: Vec::new(),
            used_by_others: Vec::new(),
        }
    }

    fn change(&mut self, op: Wire) -> Result<Outcome, NsError> {
        self.op(self.change_op(op))
    }

    fn make(&mut self, parent: Fid, name: &str, kind: FileKind) -> Result<Fid, NsError> {
        let op = v1::CreateOp {
            parent: Some(parent.into()),
            name: Bytes::copy_from_slice(name.as_bytes()),
            mode: kind.mode_bits() | 0o755,
            exclusive: true,
            ..v1::CreateOp::default()
        };
        let outcome = self.change(Wire::Create(op))?;
        Ok(outcome.response.attr.unwrap().fid.unwrap().into())
    }

    fn file(&mut self, name: &str) -> Fid {
        self.make(Fid::ROOT, name, FileKind::Regular).unwrap()
    }

    fn link(&mut self, fid: Fid, name: &str) -> Result<Outcome, NsError> {
        let (fid, parent) = (Some(fid.into()), Some(Fid::ROOT.into()));
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.change(Wire::Link(v1::LinkOp { fid, parent, name }))
    }

    fn unlink(&mut self, name: &str) -> Result<Outcome, NsError> {
        let parent = Some(Fid::ROOT.into());
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.change(Wire::Unlink(v1::UnlinkOp { parent, name, fid: None }))
    }

    fn setxattr(&mut self, fid: Fid, name: &[u8], len: usize) -> Result<Outcome, NsError> {
        self.change(Wire::Setxattr(v1::SetxattrOp {
            fid: Some(fid.into()),
            name: Bytes::copy_from_slice(name),
            value: vec![b'v'; len].into(),
            ..v1::SetxattrOp::default()
        }))
    }

    fn assert_clean(&self) {
        assert_eq!(check(&self.store).unwrap(), Vec::new());
    }

    fn edit(&self, fid: Fid, change: impl FnOnce(&mut Inode)) {
        let key = keys::inode(fid);
        let mut inode = Inode::decode(fid, self.store.get(&key).unwrap().unwrap()).unwrap();
        change(&mut inode);
        self.store.apply(&Batch::from([(key, Some(inode.encode()))])).unwrap();
    }
}

fn errno(result: Result<Outcome, NsError>) -> Errno {
    result.unwrap_err().errno()
}

#[test]
fn ninth_name_with_the_same_hash_is_refused_and_a_freed_rank_is_used_again() {
    let mut fs = Fixture::with_bits(1);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        fs.file(name);
    }
    assert_eq!(fs.make(Fid::ROOT, "i", FileKind::Regular).unwrap_err().errno(), Errno::ENOSPC);
    let cookie = |fs: &Fixture, name: &[u8]| {
        let listing = read::readdir(&fs.store, Fid::ROOT, 0, 9999, false).unwrap();
        listing.entries.iter().find(|entry| entry.name == name).map(|entry| entry.cookie)
    };
    let third = cookie(&fs, b"c");
    fs.unlink("c").unwrap();
    fs.file("i");
    assert_eq!(cookie(&fs, b"i"), third);
    fs.assert_clean();
}

#[test]
fn an_inode_with_more_names_than_it_remembers_counts_them() {
    let mut fs = Fixture::new();
    let fid = fs.file("0");
    let last = LINKS_KEPT_MAX + 50;
    for name in 1..=last {
        fs.link(fid, &name.to_string()).unwrap();
    }
    fs.assert_clean();
    assert_eq!(read::fid2path(&fs.store, fid).unwrap().len(), LINKS_KEPT_MAX);
    for name in (1..=last).rev() {
        fs.unlink(&name.to_string()).unwrap();
    }
    fs.assert_clean();
    assert_eq!(read::fid2path(&fs.store, fid).unwrap(), [b"0"]);
    fs.link(fid, "again").unwrap();
    assert_eq!(read::fid2path(&fs.store, fid).unwrap().len(), 2, "it remembers all again");
}

#[test]
fn link_beyond_the_limit_gives_emlink() {
    let mut fs = Fixture::new();
    let fid = fs.file("a");
    fs.edit(fid, |inode| inode.attr.nlink = LINKS_MAX - 1);
    fs.link(fid, "b").unwrap();
    assert_eq!(errno(fs.link(fid, "c")), Errno::EMLINK);
}

#[test]
fn names_and_targets_out_of_range_have_their_own_errors() {
    let mut fs = Fixture::new();
    let long = "n".repeat(256);
    let make = |fs: &mut Fixture, name: &str| fs.make(Fid::ROOT, name, FileKind::Regular);
    assert_eq!(make(&mut fs, &long).unwrap_err().errno(), Errno::ENAMETOOLONG);
    assert_eq!(make(&mut fs, "a/b").unwrap_err().errno(), Errno::EINVAL);
    let symlink = |len: usize| {
        Wire::Create(v1::CreateOp {
            parent: Some(Fid::ROOT.into()),
            name: Bytes::from_static(b"s"),
            mode: FileKind::Symlink.mode_bits() | 0o777,
            target: vec![b't'; len].into(),
            exclusive: true,
            ..v1::CreateOp::default()
        })
    };
    assert_eq!(errno(fs.change(symlink(4096))), Errno::ENAMETOOLONG);
    fs.change(symlink(4095)).unwrap();
}

#[test]
fn attributes_are_bounded_by_value_by_inode_and_by_name() {
    let mut fs = Fixture::new();
    let fid = fs.file("a");
    assert_eq!(errno(fs.setxattr(fid, b"user.a", 65537)), Errno::E2BIG);
    assert_eq!(errno(fs.setxattr(fid, &[b'u'; 256], 1)), Errno::ERANGE);
    assert_eq!(errno(fs.setxattr(fid, b"", 1)), Errno::ERANGE);
    assert_eq!(errno(fs.setxattr(fid, b"user.", 1)), Errno::EINVAL);
    for n in 0..16 {
        fs.setxattr(fid, format!("user.{n}").as_bytes(), 65536).unwrap();
    }
    assert_eq!(errno(fs.setxattr(fid, b"user.more", 1)), Errno::ENOSPC);
    fs.setxattr(fid, b"user.3", 0).unwrap();
    fs.setxattr(fid, b"user.more", 1).unwrap();
    assert_eq!(read::getxattr(&fs.store, fid, b"user.0").unwrap().len(), 65536);
    assert_eq!(read::getxattr(&fs.store, fid, b"user.none").unwrap_err().errno(), Errno::ENODATA);
    fs.assert_clean();
    fs.unlink("a").unwrap();
    fs.assert_clean();
}

#[test]
fn without_sequences_a_create_waits_for_some() {
    let mut fs = Fixture::new();
    fs.store.apply(&format_with("bare", [0, 0], Timestamp::default(), 60)).unwrap();
    let error = fs.make(Fid::ROOT, "a", FileKind::Regular).unwrap_err();
    assert_eq!((error.errno(), error.retry()), (Errno::ENOSPC, nacre_model::Retry::SameTarget));
}

#[test]
fn a_resent_truncate_brings_back_the_work_that_is_not_done() {
    let mut fs = Fixture::new();
    let fid = fs.file("a");
    let fid = Some(fid.into());
    fs.change(Wire::Instantiate(v1::InstantiateOp { fid, offset: 0, len: 1, avoid: vec![] }))
        .unwrap();
    let op = v1::SetattrOp { fid, size: Some(0), ..v1::SetattrOp::default() };
    let command = Command {
        time: Timestamp::default(),
        origin: Some(Origin { session: fs.session, slot: 7, xid: 1 }),
        op: fs.change_op(Wire::Setattr(op)),
    };
    let first = fs.command(&command).unwrap();
    assert_eq!(first.work.len(), 1);
    assert_eq!(fs.command(&command).unwrap().work, first.work);
    fs.op(Op::ForgetWork { records: vec![first.work[0].0] }).unwrap();
    assert_eq!(fs.command(&command).unwrap().work, []);
}

#[test]
fn a_slot_out_of_range_and_a_late_incarnation_are_refused() {
    let mut fs = Fixture::new();
    let op = fs.change_op(Wire::Rmdir(v1::RmdirOp::default()));
    let origin = Some(Origin { session: fs.session, slot: super::SLOTS_MAX, xid: 1 });
    let command = Command { time: Timestamp::default(), origin, op };
    assert_eq!(errno(fs.command(&command)), Errno::EINVAL);
    let (client_uuid, hostname) = ("m".to_owned(), String::new());
    let open = Op::OpenSession { client_uuid, incarnation: 0, hostname, leases: false };
    assert_eq!(errno(fs.op(open)), Errno::ESTALE);
    fs.op(Op::CloseSession { session: fs.session }).unwrap();
    assert_eq!(read::sessions(&fs.store).unwrap(), []);
    fs.assert_clean();
}

proptest! {
    #[test]
    fn a_listing_shows_once_what_is_there_throughout(
        bits in 2_u32..6,
        page in 1_usize..200,
        changes in prop::collection::vec((any::<bool>(), 0_u8..24), 0..60),
    ) {
        let mut fs = Fixture::with_bits(bits);
        for n in 0..8 {
            fs.file(&format!("stays{n}"));
        }
        let mut changes = changes.into_iter();
        let (mut cookie, mut eof) = (0, false);
        let mut seen = BTreeMap::<Bytes, u32>::new();
        while !eof {
            let listing = read::readdir(&fs.store, Fid::ROOT, cookie, page, false).unwrap();
            for entry in &listing.entries {
                prop_assert!(entry.cookie > cookie);
                cookie = entry.cookie;
                *seen.entry(entry.name.clone()).or_default() += 1;
            }
            eof = listing.eof;
            for (add, n) in changes.by_ref().take(3) {
                let name = format!("moves{n}");
                // Either may find its name as it should be, or no cookie.
                let _ = if add {
                    fs.make(Fid::ROOT, &name, FileKind::Regular).is_ok()
                } else {
                    fs.unlink(&name).is_ok()
                };
            }
        }
        let stays = seen.iter().filter(|(name, _)| name.starts_with(b"stays"));
        let stays: BTreeSet<_> = stays.map(|(name, count)| (name.clone(), *count)).collect();
        prop_assert_eq!(stays.len(), 8);
        prop_assert!(stays.iter().all(|(_, count)| *count == 1));
        fs.assert_clean();
    }
}
