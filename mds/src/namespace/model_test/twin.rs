//! A second store, which gets the same changes in batches and must come to the same rows.

use nacre_model::{Errno, Fid};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

use super::{Done, dump, time};
use crate::command::{Command, Op, Origin};
use crate::namespace::{apply, read};
use crate::record::key;
use crate::store::{MemStore, MetaStore, Txn, View};

const CHANGES_MAX: usize = 9;

pub(super) struct Twin {
    pub(super) store: MemStore,
    session: u64,
    xid: u64,
    /// Of the session.
    seq: u64,
    next_oid: u32,
    changes: Vec<v1::ChangeRequest>,
    /// What each of them gives.
    expected: Vec<Option<Errno>>,
    /// What holds for all of them.
    held_open: Vec<Fid>,
    used_by_others: Vec<Fid>,
}

impl Twin {
    pub(super) fn new() -> Self {
        Self {
            store: MemStore::default(),
            session: 0,
            xid: 0,
            seq: 0,
            next_oid: 1,
            changes: Vec::new(),
            expected: Vec::new(),
            held_open: Vec::new(),
            used_by_others: Vec::new(),
        }
    }

    /// A new session with its sequence.
    pub(super) fn evicted(&mut self, session: u64, seq: u64) {
        (self.session, self.seq, self.next_oid) = (session, seq, 1);
    }

    pub(super) fn fid(&mut self) -> Fid {
        let fid = Fid { seq: self.seq, oid: self.next_oid, ver: 0 };
        self.next_oid += 1;
        fid
    }

    /// The same change as was just made on the other side, of which `view` is the state before.
    pub(super) fn change(&mut self, view: &dyn View, command: &Command, expected: &Done) {
        let Op::Change { uid, gid, op, new_fid, held_open, used_by_others, .. } = &command.op
        else {
            self.single(command);
            return;
        };
        let mut op = op.clone();
        if let Wire::Rename(op) = &mut op {
            let (parent, name) = (op.new_parent.unwrap().into(), &op.new_name);
            op.replaced = read::lookup_fid(view, parent, name).unwrap().map(Into::into);
        }
        if !in_batches(&op) {
            self.single(command);
            return;
        }
        let same = self.held_open == *held_open && self.used_by_others == *used_by_others;
        if !same || self.changes.len() >= CHANGES_MAX {
            self.flush();
        }
        self.held_open.clone_from(held_open);
        self.used_by_others.clone_from(used_by_others);
        self.expected.push(expected.as_ref().err().copied());
        self.changes.push(v1::ChangeRequest {
            uid: *uid,
            gid: *gid,
            op: Some(op),
            time: Some(command.time.into()),
            new_fid: new_fid.map(Into::into),
            ..v1::ChangeRequest::default()
        });
    }

    /// A command by itself, after what came before it.
    pub(super) fn single(&mut self, command: &Command) {
        self.flush();
        let mut txn = Txn::new(&self.store);
        drop(apply(&mut txn, command));
        let batch = txn.into_batch();
        self.store.apply(&batch).unwrap();
    }

    pub(super) fn flush(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        self.xid += 1;
        let changes = std::mem::take(&mut self.changes);
        let op = Op::Change {
            uid: 0,
            gid: 0,
            op: Wire::Batch(v1::BatchOp { changes }),
            new_fid: None,
            placement: Vec::new(),
            held_open: std::mem::take(&mut self.held_open),
            used_by_others: std::mem::take(&mut self.used_by_others),
        };
        let origin = Some(Origin { session: self.session, slot: 1, xid: self.xid });
        let command = Command { time: time(-1), origin, op };
        assert_eq!(Command::decode(command.encode()).unwrap(), command);
        let mut txn = Txn::new(&self.store);
        let outcome = apply(&mut txn, &command).unwrap();
        txn.check_changes().unwrap();
        let mut failed = vec![None; self.expected.len()];
        for failure in outcome.response.failures {
            let errno = Errno(failure.error.unwrap().errno);
            failed[usize::try_from(failure.index).unwrap()] = Some(errno);
        }
        assert_eq!(failed, std::mem::take(&mut self.expected));
        let batch = txn.into_batch();
        self.store.apply(&batch).unwrap();
    }

    /// Fails unless both have the same rows, kept replies aside.
    pub(super) fn compare(&mut self, other: &dyn View) {
        self.flush();
        let rows = |view: &dyn View| {
            let mut rows = dump(view);
            rows.retain(|(key, _)| key.first() != Some(&key::kind::REPLY));
            rows
        };
        assert_eq!(rows(&self.store), rows(other));
    }
}

fn in_batches(op: &Wire) -> bool {
    match op {
        Wire::Create(op) => !op.name.is_empty(),
        Wire::Setattr(op) => op.size.is_none(),
        Wire::Link(_)
        | Wire::Unlink(_)
        | Wire::Rmdir(_)
        | Wire::Rename(_)
        | Wire::Setxattr(_)
        | Wire::Removexattr(_)
        | Wire::WriteInline(_)
        | Wire::Settle(_) => true,
        Wire::Instantiate(_) | Wire::Promote(_) | Wire::SetLayout(_) | Wire::Batch(_) => false,
    }
}
