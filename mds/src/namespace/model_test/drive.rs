//! How each step is done on both sides.

use bytes::Bytes;
use nacre_model::FileKind;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

use super::model::New;
use super::ops::{AttributeStep, DataStep, NameStep};
use super::{KINDS, Pair, XATTRS, acl_bytes, template, time};
use crate::command::Op;
use crate::namespace::acl;
use crate::store::Txn;

impl Pair {
    pub(super) fn name_step(&mut self, txn: &mut Txn<'_>, step: NameStep) {
        match step {
            NameStep::Create { dir, name: n, kind, perm, umask, id, exclusive } => {
                let (dir, parent) = self.pick_dir(dir);
                let name = self.name_in(dir, n);
                let kind = KINDS[usize::from(kind) % KINDS.len()];
                let new = New { kind, perm, umask, uid: 1, gid: id, exclusive };
                let expected = self.model.create(dir, &name, &new);
                let op = v1::CreateOp {
                    parent,
                    name,
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
            NameStep::TmpFile { dir } => {
                let (dir, parent) = self.pick_dir(dir);
                let kind = FileKind::Regular;
                let new = New { kind, perm: 0o600, umask: 0, uid: 1, gid: 1, exclusive: true };
                let expected = self.model.create(dir, b"", &new);
                let mode = kind.mode_bits() | 0o600;
                let op = v1::CreateOp { parent, mode, exclusive: true, ..Default::default() };
                self.change(txn, Wire::Create(op), expected);
            }
            NameStep::Link { node, dir, name: n } => {
                let ((id, fid), (dir, parent)) = (self.pick(node), self.pick_dir(dir));
                let name = self.name_in(dir, n);
                let expected = self.model.link(id, dir, &name);
                let op = v1::LinkOp { fid, parent, name };
                self.change(txn, Wire::Link(op), expected);
            }
            NameStep::Remove { dir, name: n, rmdir, held } => {
                self.hold(held);
                let (dir, parent) = self.pick_dir(dir);
                let name = self.name_in(dir, n);
                let expected = self.model.remove(dir, &name, rmdir);
                let op = if rmdir {
                    Wire::Rmdir(v1::RmdirOp { parent, name, fid: None })
                } else {
                    Wire::Unlink(v1::UnlinkOp { parent, name, fid: None })
                };
                self.change(txn, op, expected);
            }
            NameStep::Rename { from, to, flag, held } => {
                self.hold(held);
                let ((old, parent), (new, new_parent)) =
                    (self.pick_dir(from.0), self.pick_dir(to.0));
                let (name, new_name) = (self.name_in(old, from.1), self.name_in(new, to.1));
                let expected = self.model.rename((old, &name), (new, &new_name), flag);
                let op = v1::RenameOp {
                    parent,
                    name,
                    new_parent,
                    new_name,
                    noreplace: flag == 1,
                    exchange: flag == 2,
                    replaced: None,
                };
                self.change(txn, Wire::Rename(op), expected);
            }
        }
    }

    pub(super) fn attribute_step(&mut self, txn: &mut Txn<'_>, step: AttributeStep) {
        let xattr = |name: u8| XATTRS[usize::from(name) % XATTRS.len()];
        match step {
            AttributeStep::Chmod { node, perm } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.chmod(id, perm);
                let op = v1::SetattrOp { fid, perm: Some(perm), ..Default::default() };
                self.change(txn, Wire::Setattr(op), expected);
            }
            AttributeStep::Chown { node, uid, gid } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.chown(id, uid, gid);
                let (uid, gid) = (Some(uid), Some(gid));
                let op = v1::SetattrOp { fid, uid, gid, ..Default::default() };
                self.change(txn, Wire::Setattr(op), expected);
            }
            AttributeStep::Utimes { node, atime, mtime } => {
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
            AttributeStep::SetXattr { node, name, len, flag } => {
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
            AttributeStep::RemoveXattr { node, name } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.removexattr(id, xattr(name));
                let op = v1::RemovexattrOp { fid, name: Bytes::from_static(xattr(name)) };
                self.change(txn, Wire::Removexattr(op), expected);
            }
            AttributeStep::SetAcl { node, default, acl: new } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.setacl(id, default, new);
                let name: &[u8] = if default { acl::DEFAULT } else { acl::ACCESS };
                let value = new.map(acl_bytes).unwrap_or_default().into();
                let name = Bytes::from_static(name);
                let op = v1::SetxattrOp { fid, name, value, ..Default::default() };
                self.change(txn, Wire::Setxattr(op), expected);
            }
        }
    }

    pub(super) fn data_step(&mut self, txn: &mut Txn<'_>, step: DataStep) {
        match step {
            DataStep::Truncate { node, size, kill, others } => {
                let (id, fid) = self.pick_file(node);
                let expected = self.model.truncate(id, size, kill, others);
                let (size, kill_suidgid) = (Some(size), kill);
                let op = v1::SetattrOp { fid, size, kill_suidgid, ..Default::default() };
                let users = if others { vec![id] } else { Vec::new() };
                let command = self.command(Wire::Setattr(op), &users);
                self.send(txn, &command, expected);
            }
            DataStep::Write { node, offset, len, kill } => {
                let (id, fid) = self.pick_file(node);
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
            DataStep::Punch { node, offset, len } => {
                let (id, fid) = self.pick_file(node);
                let expected = self.model.punch(id, offset, len);
                let op =
                    v1::WriteInlineOp { fid, offset, punch_len: Some(len), ..Default::default() };
                self.change(txn, Wire::WriteInline(op), expected);
            }
            DataStep::Instantiate { node, offset, len } => {
                let (id, fid) = self.pick_file(node);
                let expected = self.model.instantiate(id, offset, len);
                let op = v1::InstantiateOp { fid, offset, len, avoid: Vec::new() };
                self.change(txn, Wire::Instantiate(op), expected);
            }
            DataStep::Promote { node, commit } => self.promote(txn, node, commit),
            DataStep::Settle { node, size, exact, others } => {
                let (id, fid) = self.pick_file(node);
                let expected = self.model.settle(id, size, exact, others);
                let mtime = Some(time(self.model.now).into());
                let op = v1::SettleOp { fid, size: Some(size), mtime, exact, ..Default::default() };
                let writers = if others { vec![id] } else { Vec::new() };
                let command = self.command(Wire::Settle(op), &writers);
                self.send(txn, &command, expected);
            }
            DataStep::MarkLazy { node } => {
                let (id, _) = self.pick_file(node);
                self.model.mark_lazy(id);
                self.internal(txn, Op::MarkLazy { fid: self.fids[id] });
            }
            DataStep::SetLayout { node } => {
                let (id, fid) = self.pick(node);
                let expected = self.model.set_layout(id);
                let layout = match self.model.now % 3 {
                    0 => None,
                    n => Some(template(n == 1).into()),
                };
                self.change(txn, Wire::SetLayout(v1::SetLayoutOp { fid, layout }), expected);
            }
        }
    }

    fn promote(&mut self, txn: &mut Txn<'_>, node: usize, commit: bool) {
        let (id, fid) = self.pick_file(node);
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
}
