//! Batches on their way to the applier.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_model::{Fid, FileKind, Timestamp};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

use super::admit::{Marks, default_layout, used_by_others};
use super::{check, grows, touch};
use crate::namespace::read;
use crate::shared::Shared;
use crate::store::View;

/// Most changes in one batch.
const CHANGES_MAX: usize = 512;
/// A client's clock may be ahead of the server's by so much.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// Checks every field of every change, and that each is one that a batch may hold.
pub(super) fn check(batch: &v1::BatchOp, now: Timestamp) -> Result<(), BadMessage> {
    let count = batch.changes.len();
    if count == 0 || count > CHANGES_MAX {
        return Err(BadMessage::Range { field: "changes", value: count as u64 });
    }
    let ahead = i64::try_from(AHEAD_MAX.as_secs()).unwrap_or(i64::MAX);
    let latest = now.secs.saturating_add(ahead);
    for change in &batch.changes {
        let time = Timestamp::try_from(required("time", change.time)?)?;
        if time.secs > latest {
            return Err(BadMessage::Range { field: "time", value: time.secs.unsigned_abs() });
        }
        let op = change.op.as_ref().ok_or(BadMessage::Missing("op"))?;
        allowed(op, change)?;
        check::change(op)?;
    }
    Ok(())
}

fn allowed(op: &Wire, change: &v1::ChangeRequest) -> Result<(), BadMessage> {
    let not = |field, value| Err(BadMessage::Range { field, value });
    match op {
        Wire::Create(op) => {
            check::fid("new_fid", change.new_fid)?;
            // Files without a name, and handles, are the server's to know at once.
            if op.name.is_empty() || op.handle != 0 || !op.exclusive {
                return not("create", op.handle);
            }
            Ok(())
        }
        Wire::Unlink(op) => check::fid("fid", op.fid).map(drop),
        Wire::Rmdir(op) => check::fid("fid", op.fid).map(drop),
        Wire::Setattr(op) => op.size.map_or(Ok(()), |size| not("size", size)),
        Wire::Link(_)
        | Wire::Rename(_)
        | Wire::Setxattr(_)
        | Wire::Removexattr(_)
        | Wire::WriteInline(_)
        | Wire::Settle(_) => Ok(()),
        Wire::Instantiate(_) | Wire::Promote(_) | Wire::SetLayout(_) | Wire::Batch(_) => {
            not("op", 0)
        }
    }
}

/// Files whose data the batch is about.
pub(super) fn settled(batch: &v1::BatchOp) -> impl Iterator<Item = Fid> {
    batch.changes.iter().filter_map(|change| match &change.op {
        Some(Wire::Settle(op)) => op.fid.map(Into::into),
        Some(_) | None => None,
    })
}

/// What the applier must know beside the batch. Returns the inodes that others use.
pub(super) fn admit(
    shared: &Shared,
    view: &dyn View,
    session: u64,
    batch: &mut v1::BatchOp,
    marks: &mut Marks,
) -> Vec<Fid> {
    if shared.space.nearly_full() {
        // What only frees space is done; the rest fails by itself.
        for change in &mut batch.changes {
            change.op.take_if(|op| grows(op));
        }
    }
    layouts(shared, view, batch);
    for victim in touch::victims(batch) {
        marks.victim(shared, victim);
    }
    let mut leases = shared.leases.lock();
    for (index, change) in (0_u32..).zip(&batch.changes) {
        if let (Some(Wire::Create(_)), Some(fid)) = (&change.op, change.new_fid)
            && read::getattr(view, fid.into()).is_err()
        {
            // Its maker may have gone on with it already.
            leases.made(session, fid.into());
            marks.made_in_batch.push((index, fid.into()));
        }
    }
    let opens = shared.opens.lock();
    let ops = batch.changes.iter().filter_map(|change| change.op.as_ref());
    ops.filter_map(|op| used_by_others(&opens, session, op)).collect()
}

/// New files get the cluster's default layout as outside of batches. A directory that is made by
/// the batch itself has what the one above it has.
fn layouts(shared: &Shared, view: &dyn View, batch: &mut v1::BatchOp) {
    let mut above: BTreeMap<Fid, Fid> = BTreeMap::new();
    for change in &mut batch.changes {
        let Some(Wire::Create(op)) = &mut change.op else { continue };
        let Some(mut parent) = op.parent.map(Fid::from) else { continue };
        if let Some(known) = above.get(&parent) {
            parent = *known;
        }
        default_layout(shared, view, parent, op);
        if let (Some(FileKind::Directory), Some(fid)) =
            (FileKind::from_mode(op.mode), change.new_fid)
        {
            above.insert(fid.into(), parent);
        }
    }
}
