//! One command, and exactly once.

use nacre_proto::convert::BadMessage;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

use super::ctx::{Caller, Ctx};
use super::{
    NsError, SLOTS_MAX, batch, create, data, free, hsm, layout, link, rename, rows, session,
    setattr, xattr,
};
use crate::command::{Command, Op, Origin, Outcome};
use crate::record::{Record, Reply, WorkItem, key as keys};
use crate::store::{Txn, View};

/// Applies a command: all of it, or, when it returns an error, nothing.
///
/// A change whose origin was answered before is not applied again: the kept reply comes back with
/// `replayed` set, and with that part of its OST work that is not done yet.
pub fn apply(txn: &mut Txn<'_>, command: &Command) -> Result<Outcome, NsError> {
    txn.mark();
    let done = run(txn, command);
    if done.is_err() {
        txn.rollback();
    }
    done
}

fn run(txn: &mut Txn<'_>, command: &Command) -> Result<Outcome, NsError> {
    if let Some(origin) = command.origin
        && let Some(outcome) = replay(txn, origin)?
    {
        return Ok(outcome);
    }
    let outcome = if let Op::Change { op: Wire::Batch(op), .. } = &command.op
        && let Some(origin) = command.origin
    {
        batch::batch(txn, origin.session, &op.changes, caller(&command.op))?
    } else {
        single(txn, command)?
    };
    if let Some(Origin { session, slot, xid }) = command.origin {
        let work = outcome.work.iter().map(|(sequence, _)| *sequence).collect();
        let reply = Reply { xid, response: outcome.response.clone(), work };
        txn.put(keys::reply(session, slot), reply.encode());
    }
    Ok(outcome)
}

/// Who asks, and what the server decided.
fn caller(op: &Op) -> Caller<'_> {
    let Op::Change { uid, gid, new_fid, placement, held_open, used_by_others, .. } = op else {
        return Caller::default();
    };
    Caller {
        uid: *uid,
        gid: *gid,
        new_fid: *new_fid,
        placement,
        held_open,
        used_by_others,
        in_batch: false,
    }
}

fn single(txn: &mut Txn<'_>, command: &Command) -> Result<Outcome, NsError> {
    let mut ctx = Ctx::new(txn, command.time, caller(&command.op))?;
    let mut outcome = Outcome::default();
    match &command.op {
        Op::Change { op, .. } => outcome.response = change(&mut ctx, op)?,
        Op::MarkLazy { fid } => data::mark_lazy(&mut ctx, *fid)?,
        Op::OpenSession { client_uuid, incarnation, hostname, leases } => {
            let texts = (client_uuid.as_str(), hostname.as_str());
            outcome.session = session::open(&mut ctx, texts, *incarnation, *leases)?;
        }
        Op::CloseSession { session } => session::close(&mut ctx, *session)?,
        Op::ReapOrphan { fid } => free::reap(&mut ctx, *fid)?,
        Op::ForgetWork { records } => {
            for sequence in records {
                ctx.txn.remove(keys::work(*sequence));
            }
        }
        Op::GrantSequence { session } => {
            outcome.sequence = session::grant_sequence(&mut ctx, *session)?;
        }
        Op::AddSequences { first, count } => session::add_sequences(&mut ctx, *first, *count)?,
        Op::SkipFids { count } => ctx.counters()?.skip_fids(*count),
        Op::Hsm { op } => hsm::apply(&mut ctx, op, &mut outcome)?,
    }
    ctx.finish()?;
    outcome.work = std::mem::take(&mut ctx.work);
    outcome.unlinked = std::mem::take(&mut ctx.unlinked);
    outcome.directories = std::mem::take(&mut ctx.directories);
    outcome.exports = std::mem::take(&mut ctx.exports);
    Ok(outcome)
}

/// The answer that was given before; `None` when the request is new.
fn replay(view: &dyn View, origin: Origin) -> Result<Option<Outcome>, NsError> {
    let Origin { session, slot, xid } = origin;
    if slot >= SLOTS_MAX {
        return Err(NsError::NoSlot(slot));
    }
    if view.get(&keys::session(session))?.is_none() {
        return Err(NsError::NoSession(session));
    }
    let Some(kept) = rows::row::<Reply>(view, &keys::reply(session, slot))? else {
        return Ok(None);
    };
    if kept.xid < xid {
        return Ok(None);
    }
    if kept.xid > xid {
        return Err(NsError::OldRequest { slot, xid, kept: kept.xid });
    }
    let mut outcome = Outcome { response: kept.response, ..Outcome::default() };
    outcome.response.replayed = 1;
    for sequence in kept.work {
        if let Some(item) = rows::row::<WorkItem>(view, &keys::work(sequence))? {
            outcome.work.push((sequence, item.work()));
        }
    }
    Ok(Some(outcome))
}

/// One change of a client.
pub(super) fn change(ctx: &mut Ctx<'_, '_>, op: &Wire) -> Result<v1::ChangeResponse, NsError> {
    match op {
        Wire::Create(op) => create::create(ctx, op),
        Wire::Link(op) => link::link(ctx, op),
        Wire::Unlink(op) => link::unlink(ctx, op),
        Wire::Rmdir(op) => link::rmdir(ctx, op),
        Wire::Rename(op) => rename::rename(ctx, op),
        Wire::Setattr(op) => setattr::setattr(ctx, op),
        Wire::Setxattr(op) => xattr::setxattr(ctx, op),
        Wire::Removexattr(op) => xattr::removexattr(ctx, op),
        Wire::WriteInline(op) => data::write_inline(ctx, op),
        Wire::Settle(op) => data::settle(ctx, op),
        Wire::Instantiate(op) => layout::instantiate(ctx, op),
        Wire::Promote(op) if op.commit => layout::promote_commit(ctx, op),
        Wire::Promote(op) => layout::promote_begin(ctx, op),
        Wire::SetLayout(op) => layout::set_layout(ctx, op),
        Wire::Batch(_) => Err(NsError::Invalid("a batch in a batch")),
    }
}

/// The reply of most changes.
pub(super) fn attr_reply(inode: &crate::record::Inode) -> v1::ChangeResponse {
    v1::ChangeResponse { attr: Some(inode.shown()), ..v1::ChangeResponse::default() }
}

/// The reply of changes that make or change a layout.
pub(super) fn layout_reply(inode: &crate::record::Inode) -> v1::ChangeResponse {
    v1::ChangeResponse {
        attr: Some(inode.shown()),
        layout: inode.shown_layout(),
        ..v1::ChangeResponse::default()
    }
}

/// A field out of range.
pub(super) fn range(field: &'static str, value: u64) -> NsError {
    BadMessage::Range { field, value }.into()
}
