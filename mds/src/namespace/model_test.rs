//! Random steps on the state machine and on a model of POSIX; then everything visible is compared.

mod model;
mod ops;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nacre_model::{
    Errno, Fid, FileKind, Layout, LayoutTemplate, ObjectId, OstIndex, ServiceError, Timestamp,
};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use proptest::prelude::*;

use self::model::{Acl, Done, Id, Model, New, ROOT};
use self::ops::{Step, step};
use super::{ObjectState, apply, check, format_with, objects, read};
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
}

fn time(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn new_pair() -> (MemStore, Pair) {
    let store = MemStore::default();
    // Two bits of hash: five names cannot but collide.
    store.apply(&format_with("test", [1, 2], time(0), 2)).unwrap();
    let mut pair = Pair {
        model: Model::new(),
        fids: vec![Fid::ROOT],
        session: 0,
        incarnation: 0,
        xid: 0,
        last: None,
        seen: BTreeMap::new(),
        reserved: BTreeMap::new(),
    };
    let mut txn = Txn::new(&store);
    let op = Op::AddSequences { first: Fid::SEQ_NORMAL, count: 1 };
    apply(&mut txn, &Command { time: time(0), origin: None, op }).unwrap();
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
    fn pick(&self, node: usize) -> (Id, Option<v1::Fid>) {
        let id = node % self.fids.len();
        (id, Some(self.fids[id].into()))
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
                written_by_others: others.iter().map(|id| self.fids[*id]).collect(),
            },
        }
    }

    /// Does it, and compares what came of it.
    fn change(&mut self, txn: &mut Txn<'_>, op: Wire, expected: Done) -> Option<Outcome> {
        let command = self.command(op, &[]);
        self.send(txn, &command, expected)
    }

    fn send(&mut self, txn: &mut Txn<'_>, command: &Command, expected: Done) -> Option<Outcome> {
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
            Step::Create { .. }
            | Step::TmpFile { .. }
            | Step::Link { .. }
            | Step::Unlink { .. }
            | Step::Rmdir { .. }
            | Step::Rename { .. } => self.name_step(txn, step),
            Step::Chmod { .. }
            | Step::Chown { .. }
            | Step::Utimes { .. }
            | Step::SetXattr { .. }
            | Step::RemoveXattr { .. }
            | Step::SetAcl { .. } => self.attribute_step(txn, step),
            Step::Truncate { .. }
            | Step::Write { .. }
            | Step::Punch { .. }
            | Step::Instantiate { .. }
            | Step::Promote { .. }
            | Step::Settle { .. }
            | Step::MarkLazy { .. }
            | Step::SetLayout { .. } => self.data_step(txn, step),
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
        apply(txn, &command).unwrap()
    }

    fn name_step(&mut self, txn: &mut Txn<'_>, step: Step) {
        let name = |name: u8| NAMES[usize::from(name) % NAMES.len()];
        let bytes = |name: &'static [u8]| Bytes::from_static(name);
        match step {
            Step::Create { dir, name: n, kind, perm, umask, id, exclusive } => {
                let (dir, parent) = self.pick(dir);
                let kind = KINDS[usize::from(kind) % KINDS.len()];
                let new = New { kind, perm, umask, uid: 1, gid: id, exclusive };
                let expected = self.model.create(dir, name(n), &new);
                let op = v1::CreateOp {
                    parent,
                    name: bytes(name(n)),
                    mode: kind.mode_bits() | perm,
                    umask,
                    rdev: 259,
                    target: Bytes::from_static(b"else/where"),
                    exclusive,
                    ..v1::CreateOp::default()
                };
                let mut command = self.command(Wire::Create(op), &[]);
                if let Op::Change { gid, .. } = &mut command.op {
                    *gid = id;
                }
                self.send(txn, &command, expected);
            }
            Step::TmpFile { dir } => {
                let (dir, parent) = self.pick(dir);
                let kind = FileKind::Regular;
                let new = New { kind, perm: 0o600, umask: 0, uid: 1, gid: 1, exclusive: true };
                let expected = self.model.create(dir, b"", &new);
                let mode = kind.mode_bits() | 0o600;
                let op = v1::CreateOp { parent, mode, exclusive: true, ..Default::default() };
                self.change(txn, Wire::Create(op), expected);
            }
            Step::Link { node, dir, name: n } => {
                let ((id, fid), (dir, parent)) = (self.pick(node), self.pick(dir));
                let expected = self.model.link(id, dir, name(n));
                let op = v1::LinkOp { fid, parent, name: bytes(name(n)) };
                self.change(txn, Wire::Link(op), expected);
            }
            Step::Unlink { dir, name: n, held } => {
                self.hold(held);
                let (dir, parent) = self.pick(dir);
                let expected = self.model.remove(dir, name(n), false);
                let op = v1::UnlinkOp { parent, name: bytes(name(n)) };
                self.change(txn, Wire::Unlink(op), expected);
            }
            Step::Rmdir { dir, name: n, held } => {
                self.hold(held);
                let (dir, parent) = self.pick(dir);
                let expected = self.model.remove(dir, name(n), true);
                let op = v1::RmdirOp { parent, name: bytes(name(n)) };
                self.change(txn, Wire::Rmdir(op), expected);
            }
            Step::Rename { from, to, flag, held } => {
                self.hold(held);
                let (from_name, to_name) = (name(from.1), name(to.1));
                let ((from, parent), (to, new_parent)) = (self.pick(from.0), self.pick(to.0));
                let expected = self.model.rename((from, from_name), (to, to_name), flag);
                let op = v1::RenameOp {
                    parent,
                    name: bytes(from_name),
                    new_parent,
                    new_name: bytes(to_name),
                    noreplace: flag == 1,
                    exchange: flag == 2,
                };
                self.change(txn, Wire::Rename(op), expected);
            }
            other => panic!("{other:?}"),
        }
    }

    fn attribute_step(&mut self, txn: &mut Txn<'_>, step: Step) {
        let xattr = |name: u8| XATTRS[usize::from(name) % XATTRS.len()];
        match step {
            Step::Chmod { node, perm } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.chmod(id, perm);
                let op = v1::SetattrOp { fid, perm: Some(perm), ..Default::default() };
                self.change(txn, Wire::Setattr(op), expected);
            }
            Step::Chown { node, uid, gid } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.chown(id, uid, gid);
                let (uid, gid) = (Some(uid), Some(gid));
                let op = v1::SetattrOp { fid, uid, gid, ..Default::default() };
                self.change(txn, Wire::Setattr(op), expected);
            }
            Step::Utimes { node, atime, mtime } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.utimes(id, atime, mtime);
                let op = v1::SetattrOp {
                    fid,
                    atime: Some(time(atime).into()),
                    mtime: mtime.map(|mtime| time(mtime).into()),
                    mtime_now: mtime.is_none(),
                    ..Default::default()
                };
                self.change(txn, Wire::Setattr(op), expected);
            }
            Step::SetXattr { node, name, len, flag } => {
                let (id, fid) = self.pick(node);
                let value = vec![7; len];
                let expected = self.model.setxattr(id, xattr(name), &value, flag);
                let op = v1::SetxattrOp {
                    fid,
                    name: Bytes::from_static(xattr(name)),
                    value: value.into(),
                    create: flag == 1,
                    replace: flag == 2,
                    kill_sgid: false,
                };
                self.change(txn, Wire::Setxattr(op), expected);
            }
            Step::RemoveXattr { node, name } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.removexattr(id, xattr(name));
                let op = v1::RemovexattrOp { fid, name: Bytes::from_static(xattr(name)) };
                self.change(txn, Wire::Removexattr(op), expected);
            }
            Step::SetAcl { node, default, acl } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.setacl(id, default, acl);
                let name: &[u8] = if default { super::acl::DEFAULT } else { super::acl::ACCESS };
                let value = acl.map(acl_bytes).unwrap_or_default().into();
                let name = Bytes::from_static(name);
                let op = v1::SetxattrOp { fid, name, value, ..Default::default() };
                self.change(txn, Wire::Setxattr(op), expected);
            }
            other => panic!("{other:?}"),
        }
    }

    fn data_step(&mut self, txn: &mut Txn<'_>, step: Step) {
        match step {
            Step::Truncate { node, size, kill } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.truncate(id, size, kill);
                let (size, kill_suidgid) = (Some(size), kill);
                let op = v1::SetattrOp { fid, size, kill_suidgid, ..Default::default() };
                self.change(txn, Wire::Setattr(op), expected);
            }
            Step::Write { node, offset, len, kill } => {
                let (id, fid) = self.pick(node);
                let fill = u8::try_from(self.model.now % 255).unwrap() + 1;
                let data = vec![fill; len];
                let expected = self.model.write(id, offset, &data, kill);
                let op = v1::WriteInlineOp {
                    fid,
                    offset,
                    data: data.into(),
                    kill_suidgid: kill,
                    ..Default::default()
                };
                self.change(txn, Wire::WriteInline(op), expected);
            }
            Step::Punch { node, offset, len } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.punch(id, offset, len);
                let op =
                    v1::WriteInlineOp { fid, offset, punch_len: Some(len), ..Default::default() };
                self.change(txn, Wire::WriteInline(op), expected);
            }
            Step::Instantiate { node, offset, len } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.instantiate(id, offset, len);
                let op = v1::InstantiateOp { fid, offset, len, avoid: Vec::new() };
                self.change(txn, Wire::Instantiate(op), expected);
            }
            Step::Promote { node, commit } => self.promote(txn, node, commit),
            Step::Settle { node, size, exact, others } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.settle(id, size, exact, others);
                let mtime = Some(time(self.model.now).into());
                let op = v1::SettleOp { fid, size: Some(size), mtime, exact, ..Default::default() };
                let writers = if others { vec![id] } else { Vec::new() };
                let command = self.command(Wire::Settle(op), &writers);
                self.send(txn, &command, expected);
            }
            Step::MarkLazy { node } => {
                let (id, _) = self.pick(node);
                self.model.mark_lazy(id);
                self.internal(txn, Op::MarkLazy { fid: self.fids[id] });
            }
            Step::SetLayout { node } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.set_layout(id);
                let layout = match self.model.now % 3 {
                    0 => None,
                    n => Some(template(n == 1).into()),
                };
                self.change(txn, Wire::SetLayout(v1::SetLayoutOp { fid, layout }), expected);
            }
            other => panic!("{other:?}"),
        }
    }

    fn promote(&mut self, txn: &mut Txn<'_>, node: usize, commit: bool) {
        let (id, fid) = self.pick(node);
        let expected = self.model.promote(id, commit);
        let reserved = self.reserved.get(&id).copied().unwrap_or(0);
        let object_generation = if commit { reserved } else { 0 };
        let op = v1::PromoteOp { fid, commit, object_generation, avoid: Vec::new() };
        let outcome = self.change(txn, Wire::Promote(op), expected);
        if let (Some(outcome), false) = (outcome, commit) {
            let layout = outcome.response.layout.unwrap();
            self.reserved.insert(id, layout.components[0].object_generation);
        }
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
        };
        self.session = self.internal(txn, op.clone()).session;
        assert_eq!(self.internal(txn, op).session, self.session, "opening again");
        assert_eq!(apply(txn, &stale).unwrap_err().errno(), Errno::ESTALE);
        self.last = None;
    }

    fn compare(&self, view: &dyn View) {
        for (id, fid) in self.fids.iter().enumerate() {
            if self.model.nodes[id].freed {
                assert_eq!(read::getattr(view, *fid).unwrap_err().errno(), Errno::ESTALE);
            } else {
                self.compare_inode(view, id, *fid);
            }
        }
        assert_eq!(check(view).unwrap(), Vec::new());
        let of = |wanted: &dyn Fn(&model::Node) -> bool| -> BTreeSet<Fid> {
            let nodes = self.model.nodes.iter().zip(&self.fids);
            nodes.filter(|(node, _)| wanted(node)).map(|(_, fid)| *fid).collect()
        };
        let orphans = read::orphans(view, None, usize::MAX).unwrap();
        assert_eq!(orphans.into_iter().collect::<BTreeSet<_>>(), of(&|node| node.orphan));
        let inodes = of(&|node| !node.freed).len() as u64;
        assert_eq!(read::inode_count(view).unwrap(), inodes);
        self.compare_objects(view);
    }

    fn compare_inode(&self, view: &dyn View, id: Id, fid: Fid) {
        let (node, attr) = (&self.model.nodes[id], read::getattr(view, fid).unwrap());
        assert_eq!(attr.kind, node.kind);
        assert_eq!(attr.perm, node.perm, "mode of {fid}");
        assert_eq!(attr.nlink, self.model.nlink(id), "links of {fid}");
        assert_eq!((attr.uid, attr.gid), (node.uid, node.gid));
        let times = (attr.atime, attr.mtime, attr.ctime);
        assert_eq!(times, (time(node.atime), time(node.mtime), time(node.ctime)), "{fid}");
        let mut xattrs = node.xattrs.clone();
        let acls = [(super::acl::ACCESS, node.access), (super::acl::DEFAULT, node.default)];
        xattrs.extend(
            acls.iter().filter_map(|(name, acl)| acl.map(|acl| (name.to_vec(), acl_bytes(acl)))),
        );
        let names = read::listxattr(view, fid).unwrap();
        let found: BTreeMap<Vec<u8>, Vec<u8>> = names
            .iter()
            .map(|name| (name.to_vec(), read::getxattr(view, fid, name).unwrap().to_vec()))
            .collect();
        assert_eq!(found, xattrs);
        match node.kind {
            FileKind::Directory => self.compare_directory(view, id, fid),
            FileKind::Regular => self.compare_file(view, id, fid),
            FileKind::Symlink => {
                assert_eq!(read::readlink(view, fid).unwrap(), &b"else/where"[..]);
            }
            _ => {}
        }
        if id != ROOT && attr.nlink > 0 {
            let paths = read::fid2path(view, fid).unwrap();
            let names = if self.model.is_dir(id) { 1 } else { attr.nlink };
            assert_eq!(paths.len(), usize::try_from(names).unwrap());
            for path in paths {
                let end = path
                    .split(|byte| *byte == b'/')
                    .fold(Fid::ROOT, |at, name| read::lookup(view, at, name).unwrap().fid);
                assert_eq!(end, fid);
            }
        }
    }

    fn compare_directory(&self, view: &dyn View, id: Id, fid: Fid) {
        let children = &self.model.nodes[id].children;
        let mut found = BTreeMap::new();
        let (mut cookie, mut eof) = (0, false);
        while !eof {
            let page = read::readdir(view, fid, cookie, 400, true).unwrap();
            assert!(page.eof || !page.entries.is_empty());
            for entry in page.entries {
                assert!(entry.cookie > cookie && entry.cookie < 1 << 63);
                cookie = entry.cookie;
                assert_eq!(entry.attr.unwrap().kind, entry.kind);
                found.insert(entry.name.to_vec(), entry.fid);
            }
            eof = page.eof;
            if !self.model.nodes[id].orphan {
                assert_eq!(page.parent, self.fids[self.model.nodes[id].parent]);
            }
        }
        let expected: BTreeMap<Vec<u8>, Fid> =
            children.iter().map(|(name, child)| (name.clone(), self.fids[*child])).collect();
        assert_eq!(found, expected);
    }

    fn compare_file(&self, view: &dyn View, id: Id, fid: Fid) {
        let (file, seen) = (&self.model.nodes[id].file, read::layout(view, fid).unwrap());
        assert_eq!(seen.attr.size, file.size);
        assert_eq!(seen.attr.size_lazy, file.lazy);
        assert_eq!(seen.is_inline, file.live.is_empty());
        let bytes: Vec<u8> =
            (0..file.stored).map(|at| file.bytes.get(&at).copied().unwrap_or(0)).collect();
        assert_eq!(seen.inline_data, bytes);
        let layout = seen.layout.unwrap();
        assert_eq!(layout.generation, seen.attr.layout_gen);
        let live: BTreeSet<u16> = layout.objects(fid).map(|(id, _, _)| id.component).collect();
        assert_eq!(live, file.live);
    }

    /// Every object that ever had a place is in use, reserved or to be destroyed, and only one of
    /// these.
    fn compare_objects(&self, view: &dyn View) {
        let mut known = BTreeMap::new();
        objects(view, &mut |id, ost, state| {
            assert_eq!(known.insert(id, (ost, state)), None, "{id} twice");
        })
        .unwrap();
        let places: BTreeMap<ObjectId, OstIndex> =
            known.iter().map(|(id, (ost, _))| (*id, *ost)).collect();
        assert_eq!(places, self.seen);
        for (id, (_, state)) in known {
            let node = self.fids.iter().position(|fid| *fid == id.fid).unwrap();
            let node = &self.model.nodes[node];
            match state {
                ObjectState::Live => assert!(!node.freed && node.file.live.contains(&id.component)),
                ObjectState::Pending => assert!(!node.freed && node.file.pending),
                ObjectState::Doomed => {}
            }
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
        let (store, mut pair) = new_pair();
        for group in steps.chunks(7) {
            let mut txn = Txn::new(&store);
            for step in group {
                pair.step(&mut txn, step.clone());
            }
            let batch = txn.into_batch();
            store.apply(&batch).unwrap();
        }
        pair.compare(&store);
    }
}
