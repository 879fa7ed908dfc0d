//! Which inodes a change is about, and so whose leases stand in its way.

use std::collections::BTreeSet;

use nacre_model::attr::S_IFMT;
use nacre_model::{Fid, FileKind};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

use crate::leases::{Need, Touch};
use crate::namespace::read;
use crate::store::View;

/// The inodes that the change names by fid.
pub(super) fn named(op: &Wire) -> Vec<Touch> {
    if let Wire::Batch(op) = op {
        return named_in(op);
    }
    // That somebody has read it is told without asking anybody: others may see it late.
    if matches!(op, Wire::Settle(op) if is_access(op)) {
        return Vec::new();
    }
    directories(op).chain(subject(op)).map(Touch::change).collect()
}

/// All that the changes of a batch name, victims among it, each once; but not what they make.
fn named_in(batch: &v1::BatchOp) -> Vec<Touch> {
    let mut fids = BTreeSet::new();
    for op in batch.changes.iter().filter_map(|change| change.op.as_ref()) {
        fids.extend(named(op).into_iter().map(|touch| touch.fid));
    }
    fids.extend(victims(batch));
    for made in made_in(batch) {
        fids.remove(&made);
    }
    fids.into_iter().map(Touch::change).collect()
}

/// The inodes that changes of a batch take a name from, by what the client says.
pub(super) fn victims(batch: &v1::BatchOp) -> impl Iterator<Item = Fid> {
    let victim = |change: &v1::ChangeRequest| match change.op.as_ref()? {
        Wire::Unlink(op) => op.fid,
        Wire::Rmdir(op) => op.fid,
        Wire::Rename(op) => op.replaced,
        Wire::Create(_)
        | Wire::Link(_)
        | Wire::Setattr(_)
        | Wire::Setxattr(_)
        | Wire::Removexattr(_)
        | Wire::WriteInline(_)
        | Wire::Settle(_)
        | Wire::Instantiate(_)
        | Wire::Promote(_)
        | Wire::SetLayout(_)
        | Wire::Batch(_) => None,
    };
    batch.changes.iter().filter_map(victim).map(Into::into)
}

/// The inodes that a batch makes.
pub(super) fn made_in(batch: &v1::BatchOp) -> impl Iterator<Item = Fid> {
    let creates = |change: &&v1::ChangeRequest| matches!(change.op, Some(Wire::Create(_)));
    batch.changes.iter().filter(creates).filter_map(|change| change.new_fid).map(Into::into)
}

/// The inodes that its names lead to now: what is removed, moved, replaced or found.
pub(super) fn led_to(view: &dyn View, op: &Wire) -> Vec<Touch> {
    let lead = |parent: Option<v1::Fid>, name: &[u8], need| {
        let fid = read::lookup_fid(view, parent?.into(), name).ok()??;
        Some(Touch { fid, need })
    };
    let change = Need::Change;
    let found = match op {
        Wire::Create(op) => {
            // What is found is told, and may be opened.
            let need = if op.handle != 0 && op.handle_write { change } else { Need::Open };
            let finds = is_regular(op) && !op.exclusive && !op.name.is_empty();
            vec![finds.then(|| lead(op.parent, &op.name, need)).flatten()]
        }
        Wire::Unlink(op) => vec![lead(op.parent, &op.name, change)],
        Wire::Rmdir(op) => vec![lead(op.parent, &op.name, change)],
        Wire::Rename(op) => {
            vec![lead(op.parent, &op.name, change), lead(op.new_parent, &op.new_name, change)]
        }
        Wire::Batch(op) => return moved_in(view, op),
        Wire::Link(_)
        | Wire::Setattr(_)
        | Wire::Setxattr(_)
        | Wire::Removexattr(_)
        | Wire::WriteInline(_)
        | Wire::Settle(_)
        | Wire::Instantiate(_)
        | Wire::Promote(_)
        | Wire::SetLayout(_) => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

/// The inodes that a batch moves: the client says of victims only what they are. A name that leads
/// nowhere yet is made by the batch itself.
fn moved_in(view: &dyn View, batch: &v1::BatchOp) -> Vec<Touch> {
    let moved = |change: &v1::ChangeRequest| {
        let Some(Wire::Rename(op)) = &change.op else { return None };
        read::lookup_fid(view, op.parent?.into(), &op.name).ok()?
    };
    batch.changes.iter().filter_map(moved).map(Touch::change).collect()
}

/// Whether its names still lead to what was waited for. Looked at on the applier.
pub(super) fn still(view: &dyn View, op: &Wire, waited: &[Touch]) -> bool {
    led_to(view, op).iter().all(|touch| waited.contains(touch))
}

/// The inode that the reply's attributes and lease will be of, as far as it is known before.
pub(super) fn about(op: &Wire, led: &[Touch]) -> Option<Fid> {
    if matches!(op, Wire::Create(_)) { led.first().map(|touch| touch.fid) } else { subject(op) }
}

/// The one inode that the change is about, where it names it.
fn subject(op: &Wire) -> Option<Fid> {
    let fid = match op {
        Wire::Link(op) => op.fid,
        Wire::Setattr(op) => op.fid,
        Wire::Setxattr(op) => op.fid,
        Wire::Removexattr(op) => op.fid,
        Wire::WriteInline(op) => op.fid,
        Wire::Settle(op) => op.fid,
        Wire::Instantiate(op) => op.fid,
        Wire::Promote(op) => op.fid,
        Wire::SetLayout(op) => op.fid,
        Wire::Create(_) | Wire::Unlink(_) | Wire::Rmdir(_) | Wire::Rename(_) | Wire::Batch(_) => {
            None
        }
    };
    fid.map(Into::into)
}

/// The directories whose names it changes.
pub(super) fn directories(op: &Wire) -> impl Iterator<Item = Fid> {
    let fids = match op {
        Wire::Create(op) => [op.parent, None],
        Wire::Link(op) => [op.parent, None],
        Wire::Unlink(op) => [op.parent, None],
        Wire::Rmdir(op) => [op.parent, None],
        Wire::Rename(op) => [op.parent, op.new_parent],
        Wire::Setattr(_)
        | Wire::Setxattr(_)
        | Wire::Removexattr(_)
        | Wire::WriteInline(_)
        | Wire::Settle(_)
        | Wire::Instantiate(_)
        | Wire::Promote(_)
        | Wire::SetLayout(_)
        | Wire::Batch(_) => [None, None],
    };
    fids.into_iter().flatten().map(Into::into)
}

/// Whether nothing but the access time moves.
fn is_access(op: &v1::SettleOp) -> bool {
    op.size.is_none() && op.mtime.is_none() && op.blocks.is_none() && !op.exact && !op.kill_suidgid
}

/// Whether a create makes a regular file.
pub(super) fn is_regular(op: &v1::CreateOp) -> bool {
    FileKind::from_mode(op.mode & S_IFMT) == Some(FileKind::Regular)
}
