//! Random steps on the state machine and on a model of POSIX; then everything visible is compared.

#[expect(clippy::wildcard_enum_match_arm, reason = "other kinds are one case here")]
mod compare;
mod drive;
#[expect(clippy::wildcard_enum_match_arm, reason = "other kinds are one case here")]
mod model;
mod ops;
mod twin;

use std::collections::BTreeMap;

use bytes::Bytes;
use nacre_model::{
    Errno, Fid, FileKind, Layout, LayoutTemplate, ObjectId, OstIndex, ServiceError, Timestamp,
};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use proptest::prelude::*;

use self::model::{Acl, Done, Id, Model, ROOT};
use self::ops::{Step, step};
use self::twin::Twin;
use super::{apply, format_with, read};
use crate::command::{Command, Op, Origin, Outcome, Work};
use crate::store::{MemStore, MetaStore, Txn, View};

const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"dd", b"\xff\n", &[b'n'; 255]];
const XATTRS: [&[u8]; 5] =
    [b"user.a", b"user.b", b"trusted.x", b"security.capability", b"system.foo"];
const KINDS: [FileKind; 8] = [
    FileKind::Regular,
    FileKind::Regular,
    FileKind::Directory,
    FileKind::Directory,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::CharDevice,
];

/// The state machine and the model, side by side.
struct Pair {
    model: Model,
    /// By id of the model.
    fids: Vec<Fid>,
    session: u64,
    incarnation: u64,
    xid: u64,
    last: Option<(Command, v1::ChangeResponse)>,
    /// Objects that some reply named and no OST was told to destroy.
    seen: BTreeMap<ObjectId, OstIndex>,
    /// Generations to commit promotions with.
    reserved: BTreeMap<Id, u32>,
    /// Gets the same in batches.
    twin: Option<Twin>,
}

fn time(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn new_pair(twin: Option<Twin>) -> (MemStore, Pair) {
    let store = MemStore::default();
    // Two bits of hash: five names cannot but collide.
    let rows = format_with("test", [1, 2], time(0), 2);
    store.apply(&rows).unwrap();
    if let Some(twin) = &twin {
        twin.store.apply(&rows).unwrap();
    }
    let mut pair = Pair {
        model: Model::new(),
        fids: vec![Fid::ROOT],
        session: 0,
        incarnation: 0,
        xid: 0,
        last: None,
        seen: BTreeMap::new(),
        reserved: BTreeMap::new(),
        twin,
    };
    let mut txn = Txn::new(&store);
    pair.internal(&mut txn, Op::AddSequences { first: Fid::SEQ_NORMAL, count: 200 });
    pair.evict(&mut txn);
    let batch = txn.into_batch();
    store.apply(&batch).unwrap();
    (store, pair)
}

fn acl_bytes(acl: Acl) -> Vec<u8> {
    let mut rows = vec![(1_u16, acl.owner, u32::MAX)];
    rows.extend(acl.named.map(|(user, _)| (2, user, 1000)));
    rows.push((4, acl.group, u32::MAX));
    rows.extend(acl.named.map(|(_, mask)| (16, mask, u32::MAX)));
    rows.push((32, acl.other, u32::MAX));
    let mut out = vec![2, 0, 0, 0];
    for (tag, perm, id) in rows {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&u16::try_from(perm).unwrap().to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

/// Two components with the built-in boundary, which the model knows.
fn template(all: bool) -> LayoutTemplate {
    let mut template = LayoutTemplate::built_in();
    for component in &mut template.components {
        component.stripe_count = if all { None } else { component.stripe_count };
    }
    template
}

impl Pair {
    /// One in eight picks is any inode that ever was, the others are of what the step is for.
    fn pick_of(&self, node: usize, wanted: impl Fn(&model::Node) -> bool) -> (Id, Option<v1::Fid>) {
        let all: Vec<Id> = (0..self.fids.len())
            .filter(|id| node.is_multiple_of(8) || wanted(&self.model.nodes[*id]))
            .collect();
        let id = if all.is_empty() { ROOT } else { all[node / 8 % all.len()] };
        (id, Some(self.fids[id].into()))
    }

    fn pick(&self, node: usize) -> (Id, Option<v1::Fid>) {
        self.pick_of(node, |node| !node.freed)
    }

    fn pick_dir(&self, node: usize) -> (Id, Option<v1::Fid>) {
        self.pick_of(node, |node| node.kind == FileKind::Directory && !node.freed && !node.orphan)
    }

    fn pick_file(&self, node: usize) -> (Id, Option<v1::Fid>) {
        self.pick_of(node, |node| node.kind == FileKind::Regular && !node.freed)
    }

    /// A fixed name, or for half of the numbers one that the directory has.
    fn name_in(&self, dir: Id, name: u8) -> Bytes {
        let children = &self.model.nodes[dir].children;
        let fixed = NAMES.len();
        let at = usize::from(name);
        match at.checked_sub(fixed) {
            Some(at) if !children.is_empty() => {
                let name = children.keys().nth(at % children.len()).unwrap();
                Bytes::copy_from_slice(name)
            }
            _ => Bytes::from_static(NAMES[at % fixed]),
        }
    }

    fn command(&mut self, op: Wire, others: &[Id]) -> Command {
        self.xid += 1;
        let held_open = self.model.held.iter().map(|id| self.fids[*id]).collect();
        let placement = vec![
            (0, vec![OstIndex(0), OstIndex(3)]),
            (1, vec![OstIndex(1), OstIndex(2), OstIndex(0)]),
        ];
        Command {
            time: time(self.model.now),
            origin: Some(Origin { session: self.session, slot: 0, xid: self.xid }),
            op: Op::Change {
                uid: 1,
                gid: 1,
                op,
                new_fid: None,
                placement,
                held_open,
                used_by_others: others.iter().map(|id| self.fids[*id]).collect(),
            },
        }
    }

    /// Does it, and compares what came of it.
    fn change(&mut self, txn: &mut Txn<'_>, op: Wire, expected: Done) -> Option<Outcome> {
        let command = self.command(op, &[]);
        self.send(txn, &command, expected)
    }

    fn send(&mut self, txn: &mut Txn<'_>, command: &Command, expected: Done) -> Option<Outcome> {
        let mut command = command.clone();
        if let (Some(twin), Op::Change { op: Wire::Create(_), new_fid, .. }) =
            (&mut self.twin, &mut command.op)
        {
            *new_fid = Some(twin.fid());
        }
        if let Some(twin) = &mut self.twin {
            twin.change(txn, &command, &expected);
        }
        let command = &command;
        // What the log holds is what was applied.
        assert_eq!(&Command::decode(command.encode()).unwrap(), command);
        match (expected, apply(txn, command)) {
            (Ok(id), Ok(outcome)) => {
                let attr = outcome.response.attr.unwrap();
                let fid = attr.fid.unwrap().into();
                if id == self.fids.len() {
                    self.fids.push(fid);
                }
                assert_eq!(self.fids[id], fid);
                if let Some(layout) = outcome.response.layout.clone() {
                    let layout = Layout::try_from(layout).unwrap();
                    self.seen.extend(layout.objects(fid).map(|(id, ost, _)| (id, ost)));
                }
                self.last = Some((command.clone(), outcome.response.clone()));
                Some(outcome)
            }
            (Err(errno), Err(error)) => {
                assert_eq!(error.errno(), errno, "{error}");
                None
            }
            (expected, actual) => panic!("{command:?}: {expected:?}, but {actual:?}"),
        }
    }

    fn hold(&mut self, held: bool) {
        self.model.held = if held { (0..self.fids.len()).collect() } else { Vec::new() };
    }

    fn step(&mut self, txn: &mut Txn<'_>, step: Step) {
        self.model.now += 1;
        self.hold(false);
        match step {
            Step::Names(step) => self.name_step(txn, step),
            Step::Attributes(step) => self.attribute_step(txn, step),
            Step::Data(step) => self.data_step(txn, step),
            Step::Reap { node } => {
                let (id, _) = self.pick(node);
                self.model.reap(id);
                self.internal(txn, Op::ReapOrphan { fid: self.fids[id] });
            }
            Step::ForgetWork => self.forget(txn),
            Step::Resend => self.resend(txn),
            Step::Evict => self.evict(txn),
        }
    }

    fn internal(&mut self, txn: &mut Txn<'_>, op: Op) -> Outcome {
        let command = Command { time: time(self.model.now), origin: None, op };
        assert_eq!(Command::decode(command.encode()).unwrap(), command);
        if let Some(twin) = &mut self.twin {
            twin.single(&command);
        }
        apply(txn, &command).unwrap()
    }

    fn forget(&mut self, txn: &mut Txn<'_>) {
        let work = read::pending_work(txn, 0, usize::MAX).unwrap();
        for (_, work) in &work {
            if let Work::Destroy { objects, .. } = work {
                for (id, ost) in objects {
                    assert_eq!(self.seen.remove(id), Some(*ost), "{id} destroyed twice");
                }
            }
        }
        let records = work.into_iter().map(|(sequence, _)| sequence).collect();
        self.internal(txn, Op::ForgetWork { records });
    }

    fn resend(&mut self, txn: &mut Txn<'_>) {
        let Some((command, response)) = self.last.clone() else {
            return;
        };
        let before = dump(txn);
        let outcome = apply(txn, &command).unwrap();
        assert_eq!(outcome.response.replayed, 1);
        assert_eq!(v1::ChangeResponse { replayed: 0, ..outcome.response }, response);
        let mut older = command;
        if let Some(origin) = &mut older.origin {
            origin.xid -= 1;
        }
        assert_eq!(apply(txn, &older).unwrap_err().errno(), Errno::ESTALE);
        assert!(dump(txn) == before, "a resend changed something");
    }

    /// The client comes back with a new incarnation; its old session is no more.
    fn evict(&mut self, txn: &mut Txn<'_>) {
        let stale = self.command(Wire::Unlink(v1::UnlinkOp::default()), &[]);
        self.incarnation += 1;
        let op = Op::OpenSession {
            client_uuid: "mount".to_owned(),
            incarnation: self.incarnation,
            hostname: "host".to_owned(),
            leases: self.incarnation.is_multiple_of(2),
        };
        self.session = self.internal(txn, op.clone()).session;
        assert_eq!(self.internal(txn, op).session, self.session, "opening again");
        assert_eq!(apply(txn, &stale).unwrap_err().errno(), Errno::ESTALE);
        self.last = None;
        if self.twin.is_some() {
            let op = Op::GrantSequence { session: self.session };
            let seq = self.internal(txn, op).sequence;
            let session = self.session;
            self.twin.iter_mut().for_each(|twin| twin.evicted(session, seq));
        }
    }
}

fn dump(view: &dyn View) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    view.scan(&[], &[0xff], &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_steps_do_what_the_model_does(steps in prop::collection::vec(step(), 1..100)) {
        let (store, mut pair) = new_pair(None);
        for group in steps.chunks(7) {
            let mut txn = Txn::new(&store);
            for step in group {
                pair.step(&mut txn, *step);
            }
            let batch = txn.into_batch();
            store.apply(&batch).unwrap();
        }
        pair.compare(&store);
    }

    #[test]
    fn a_batch_gives_the_same_rows_as_its_changes_one_by_one(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (store, mut pair) = new_pair(Some(Twin::new()));
        for step in steps {
            let mut txn = Txn::new(&store);
            pair.step(&mut txn, step);
            let batch = txn.into_batch();
            store.apply(&batch).unwrap();
        }
        pair.twin.unwrap().compare(&store);
    }
}
