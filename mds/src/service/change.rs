//! `Change`: check, admit, carry out, follow up.

use std::sync::Arc;

use nacre_model::{Fid, LayoutTemplate};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use parking_lot::Mutex;

use super::admit::{self, Admission, Marks};
use super::settle::settle;
use super::{batch, check, touch};
use crate::command::{Origin, Outcome, Work};
use crate::cuts;
use crate::engine::EngineError;
use crate::error::{MdsError, Refusal};
use crate::leases::{Lease, Mode, Touch};
use crate::recalls;
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
        Some(Wire::Batch(_)) => "batch",
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
    if let Wire::Batch(batch) = &op {
        batch::check(batch, shared.clock.now())?;
    } else {
        check::change(&op)?;
    }
    known_layout(&shared, &op)?;
    room(&shared, &op)?;
    let origin = Origin { session: request.session, slot: request.slot, xid: request.xid };
    let (uid, gid, sync) = (request.uid, request.gid, request.sync);
    let change = Change { shared, origin, uid, gid, sync, op };
    change.shared.promotions.turn(origin.session, &change.op).await;
    let done = change.carry_out().await;
    change.shared.promotions.done(origin.session, &change.op, done.is_ok());
    done
}

/// A change that passed the checks.
struct Change {
    shared: Arc<Shared>,
    origin: Origin,
    uid: u32,
    gid: u32,
    sync: bool,
    op: Wire,
}

impl Change {
    /// Waits for whoever holds leases, and does it.
    async fn carry_out(&self) -> Result<v1::ChangeResponse, MdsError> {
        let (shared, session) = (&self.shared, self.origin.session);
        let _guard = recalls::need(shared, session, &touch::named(&self.op)).await?;
        loop {
            let led = touch::led_to(shared.view(), &self.op);
            let _guard = recalls::need(shared, session, &led).await?;
            match self.attempt(led).await {
                Err(MdsError::Change(EngineError::Refused(Refusal::Moved))) => {}
                done => return done,
            }
        }
    }

    /// Carries it out, now that nobody's lease stands in the way.
    async fn attempt(&self, led: Vec<Touch>) -> Result<v1::ChangeResponse, MdsError> {
        let (shared, session) = (&self.shared, self.origin.session);
        let about = touch::about(&self.op, &led);
        let lease = about.and_then(|fid| {
            recalls::grant(shared, session, fid, self.want()).map(|lease| (fid, lease))
        });
        if shared.exclusive_directories {
            for fid in touch::directories(&self.op) {
                // A reply that shows the directory tells it.
                recalls::grant(shared, session, fid, Mode::Exclusive);
            }
        }
        let marks: Arc<Mutex<Marks>> = Arc::default();
        let admission = Admission {
            shared: Arc::clone(shared),
            origin: self.origin,
            uid: self.uid,
            gid: self.gid,
            op: self.op.clone(),
            led,
            marks: Arc::clone(&marks),
        };
        let mut outcome = if let Some(fid) = resized(&self.op) {
            self.resize(fid, admission).await?
        } else {
            for fid in needs_cuts(&self.op) {
                cuts::settle(shared, fid).await?;
            }
            let result = submit(shared, admission, self.sync).await;
            let marks = std::mem::take(&mut *marks.lock());
            let made = marks.made;
            settle(shared, session, self.opens(), &marks, result.as_ref().ok())?;
            let mut outcome = result?;
            tell(&mut outcome.response, made);
            if !outcome.work.is_empty() {
                shared.work.notify_one();
            }
            outcome
        };
        tell(&mut outcome.response, lease);
        outcome.response.directories = outcome.directories;
        Ok(outcome.response)
    }

    /// A new size is answered when the objects are cut.
    async fn resize(&self, fid: Fid, admission: Admission) -> Result<Outcome, MdsError> {
        let shared = &self.shared;
        let turn = cuts::turn(shared, fid).await;
        cuts::make(&turn).await?;
        let mut outcome = submit(shared, admission, self.sync).await?;
        for (record, work) in std::mem::take(&mut outcome.work) {
            match work {
                work @ Work::Truncate { .. } => shared.cuts.note(record, work),
                Work::Destroy { .. } => shared.work.notify_one(),
            }
        }
        cuts::make(&turn).await?;
        Ok(outcome)
    }

    /// The handle of a create that also opens, and whether it may write.
    fn opens(&self) -> Option<(u64, bool)> {
        let Wire::Create(op) = &self.op else { return None };
        (op.handle != 0).then_some((op.handle, op.handle_write))
    }

    /// What is wanted of the inode that the reply shows.
    fn want(&self) -> Mode {
        if self.opens().is_some_and(|(_, write)| write) { Mode::Exclusive } else { Mode::Shared }
    }
}

/// The lease that comes with the reply. A kept reply brings none: what it says may be old.
fn tell(response: &mut v1::ChangeResponse, lease: Option<(Fid, Lease)>) {
    let shown = response.attr.as_ref().and_then(|attr| attr.fid).map(Fid::from);
    if let Some((fid, lease)) = lease
        && response.replayed == 0
        && shown == Some(fid)
    {
        response.lease = Some(lease.into());
    }
}

async fn submit(
    shared: &Arc<Shared>,
    admission: Admission,
    sync: bool,
) -> Result<Outcome, MdsError> {
    let outcome = shared.engine.submit_with(sync, move |view| admission.command(view)).await?;
    shared.note_exports(&outcome);
    Ok(outcome)
}

/// The file whose size is being set.
fn resized(op: &Wire) -> Option<Fid> {
    let Wire::Setattr(op) = op else { return None };
    op.size?;
    op.fid.map(Into::into)
}

/// The files whose data the change is about.
fn needs_cuts(op: &Wire) -> Vec<Fid> {
    let fid = if let Wire::Settle(op) = op {
        op.fid
    } else if let Wire::Instantiate(op) = op {
        op.fid
    } else if let Wire::Promote(op) = op {
        op.fid
    } else if let Wire::Batch(op) = op {
        return batch::settled(op).collect();
    } else {
        None
    };
    fid.map(Into::into).into_iter().collect()
}

/// A layout that names what is not there is refused now, not at the first write.
fn known_layout(shared: &Shared, op: &Wire) -> Result<(), MdsError> {
    let template = if let Wire::Create(op) = op {
        op.layout.as_ref()
    } else if let Wire::SetLayout(op) = op {
        op.layout.as_ref()
    } else {
        if let Wire::Batch(batch) = op {
            let mut ops = batch.changes.iter().filter_map(|change| change.op.as_ref());
            return ops.try_for_each(|op| known_layout(shared, op));
        }
        None
    };
    if let (Some(wire), Some(map)) = (template, shared.osts.map()) {
        admit::exists(&map, &LayoutTemplate::try_from(wire.clone())?)?;
    }
    Ok(())
}

/// What makes the metadata grow is refused while there is still room to remove something.
fn room(shared: &Shared, op: &Wire) -> Result<(), MdsError> {
    if grows(op) && shared.space.nearly_full() {
        return Err(MdsError::MdtFull { bytes_available: shared.space.available() });
    }
    Ok(())
}

/// Whether a change makes the metadata grow. Of a batch each change is looked at by itself.
pub(super) fn grows(op: &Wire) -> bool {
    match op {
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
        | Wire::SetLayout(_)
        | Wire::Batch(_) => false,
    }
}
