//! `Change`: check, admit, carry out, follow up.

use std::sync::Arc;

use nacre_model::{Fid, LayoutTemplate};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use parking_lot::Mutex;

use super::admit::{self, Admission, Marks};
use super::check;
use crate::command::{Origin, Outcome, Work};
use crate::cuts;
use crate::error::MdsError;
use crate::shared::Shared;

/// Slots of a session: `0..SLOTS`, one change in flight each.
pub(super) const SLOTS: u32 = 64;

/// For metrics.
pub(super) fn op_name(op: Option<&Wire>) -> &'static str {
    match op {
        None => "change",
        Some(Wire::Create(_)) => "create",
        Some(Wire::Link(_)) => "link",
        Some(Wire::Unlink(_)) => "unlink",
        Some(Wire::Rmdir(_)) => "rmdir",
        Some(Wire::Rename(_)) => "rename",
        Some(Wire::Setattr(_)) => "setattr",
        Some(Wire::Setxattr(_)) => "setxattr",
        Some(Wire::Removexattr(_)) => "removexattr",
        Some(Wire::WriteInline(_)) => "write_inline",
        Some(Wire::Settle(_)) => "settle",
        Some(Wire::Instantiate(_)) => "instantiate",
        Some(Wire::Promote(_)) => "promote",
        Some(Wire::SetLayout(_)) => "set_layout",
    }
}

/// Carries out a client's change.
pub(super) async fn change(
    shared: Arc<Shared>,
    request: v1::ChangeRequest,
) -> Result<v1::ChangeResponse, MdsError> {
    shared.heard(request.session)?;
    if request.slot >= SLOTS {
        return Err(BadMessage::Range { field: "slot", value: request.slot.into() }.into());
    }
    let op = required("op", request.op)?;
    check::change(&op)?;
    known_layout(&shared, &op)?;
    room(&shared, &op)?;
    let origin = Origin { session: request.session, slot: request.slot, xid: request.xid };
    let (uid, gid, sync) = (request.uid, request.gid, request.sync);
    let create = if let Wire::Create(create) = &op
        && create.handle != 0
    {
        Some((create.handle, create.handle_write))
    } else {
        None
    };
    let size_of = resized(&op);
    let data_of = needs_cuts(&op);
    let marks = Arc::default();
    let admission =
        Admission { shared: Arc::clone(&shared), origin, uid, gid, op, marks: Arc::clone(&marks) };

    if let Some(fid) = size_of {
        let turn = cuts::turn(&shared, fid).await;
        cuts::make(&turn).await?;
        let outcome = submit(&shared, admission, sync).await?;
        for (record, work) in outcome.work {
            match work {
                work @ Work::Truncate { .. } => shared.cuts.note(record, work),
                Work::Destroy { .. } => shared.work.notify_one(),
            }
        }
        cuts::make(&turn).await?;
        return Ok(outcome.response);
    }
    if let Some(fid) = data_of {
        cuts::settle(&shared, fid).await?;
    }
    let result = submit(&shared, admission, sync).await;
    settle_marks(&shared, origin.session, create, &marks, result.as_ref().ok())?;
    let outcome = result?;
    if !outcome.work.is_empty() {
        shared.work.notify_one();
    }
    Ok(outcome.response)
}

async fn submit(
    shared: &Arc<Shared>,
    admission: Admission,
    sync: bool,
) -> Result<Outcome, MdsError> {
    Ok(shared.engine.submit_with(sync, move |view| admission.command(view)).await?)
}

/// The file whose size is being set.
fn resized(op: &Wire) -> Option<Fid> {
    let Wire::Setattr(op) = op else { return None };
    op.size?;
    op.fid.map(Into::into)
}

/// The file whose data the change is about.
fn needs_cuts(op: &Wire) -> Option<Fid> {
    let fid = if let Wire::Settle(op) = op {
        op.fid
    } else if let Wire::Instantiate(op) = op {
        op.fid
    } else if let Wire::Promote(op) = op {
        op.fid
    } else {
        None
    };
    fid.map(Into::into)
}

/// A layout that names what is not there is refused now, not at the first write.
fn known_layout(shared: &Shared, op: &Wire) -> Result<(), MdsError> {
    let template = if let Wire::Create(op) = op {
        op.layout.as_ref()
    } else if let Wire::SetLayout(op) = op {
        op.layout.as_ref()
    } else {
        None
    };
    if let (Some(wire), Some(map)) = (template, shared.osts.map()) {
        admit::exists(&map, &LayoutTemplate::try_from(wire.clone())?)?;
    }
    Ok(())
}

/// What makes the metadata grow is refused while there is still room to remove something.
fn room(shared: &Shared, op: &Wire) -> Result<(), MdsError> {
    let grows = match op {
        Wire::Create(_)
        | Wire::Link(_)
        | Wire::Setxattr(_)
        | Wire::WriteInline(_)
        | Wire::Instantiate(_)
        | Wire::Promote(_) => true,
        Wire::Unlink(_)
        | Wire::Rmdir(_)
        | Wire::Rename(_)
        | Wire::Setattr(_)
        | Wire::Removexattr(_)
        | Wire::Settle(_)
        | Wire::SetLayout(_) => false,
    };
    if grows && shared.space.nearly_full() {
        return Err(MdsError::MdtFull { bytes_available: shared.space.available() });
    }
    Ok(())
}

/// Brings the open table in line with what became of the change.
fn settle_marks(
    shared: &Arc<Shared>,
    session: u64,
    create: Option<(u64, bool)>,
    marks: &Mutex<Marks>,
    outcome: Option<&Outcome>,
) -> Result<(), MdsError> {
    let marks = std::mem::take(&mut *marks.lock());
    let mut reap = Vec::new();
    if !marks.leaving.is_empty() {
        let mut opens = shared.opens.lock();
        marks.leaving.iter().for_each(|fid| opens.left(*fid));
        drop(opens);
        shared.left.notify_waiters();
    }
    if let Some(fid) = outcome.and_then(|outcome| outcome.unlinked)
        && marks.held.contains(&fid)
    {
        reap.extend(shared.opens.lock().orphaned(fid));
    }
    let mut result = Ok(());
    if let Some((handle, write)) = create {
        let attr = outcome.and_then(|outcome| outcome.response.attr.as_ref());
        let made = attr.and_then(|attr| Some((Fid::from(attr.fid?), attr.nlink == 0)));
        let mut opens = shared.opens.lock();
        if marks.opened.is_some() && made.map(|(fid, _)| fid) != marks.opened {
            reap.extend(opens.close(session, handle));
        }
        if let Some((fid, nameless)) = made {
            result = opens.register(session, handle, fid, write).map(drop);
            if nameless {
                reap.extend(opens.orphaned(fid));
            }
        }
        drop(opens);
        // The session may have ended in the meantime, and its handles with it.
        if !shared.sessions.lock().is_live(session) {
            reap.extend(shared.opens.lock().end_session(session));
        }
    }
    shared.reap(reap);
    Ok(result?)
}
