//! Hierarchical storage management: what becomes of a file's state in the archive, and of the queue.
//!
//! A released file is, to everything that does not know better, an inline file without bytes: no
//! objects are its own. Restoring fills objects that only its HSM row knows, and makes them the
//! file in one step.

use nacre_model::{Fid, Layout, OstIndex};
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::hsm_record_op::Op as Wire;
use nacre_proto::v1::{HsmAction, WorkKind};

use super::apply::layout_reply;
use super::ctx::{Ctx, fid};
use super::data::{self, as_file};
use super::{BLOCK_UNIT, NsError, copies, export, free, import, layout, repository, rows};
use crate::command::Outcome;
use crate::record::{Body, FileBody, HsmFlags, Inode, Record, WorkItem, key as keys, narrow, osts};

/// Times an action is tried.
pub const ATTEMPTS_MAX: u32 = 5;
/// What a failed restore says when there is no object any more.
const NOT_FOUND: &str = "S3ObjectNotFound";

pub(super) fn apply(
    ctx: &mut Ctx<'_, '_>,
    op: &Wire,
    outcome: &mut Outcome,
) -> Result<(), NsError> {
    match op {
        Wire::Queue(op) => outcome.cookie = queue(ctx, op)?,
        Wire::Release(op) => release(ctx, fid("fid", op.fid)?)?,
        Wire::Flags(op) => set_flags(ctx, op)?,
        Wire::Cancel(op) => cancel(ctx, fid("fid", op.fid)?)?,
        Wire::BeginRestore(op) => outcome.response = begin_restore(ctx, op)?,
        Wire::End(op) => outcome.cookie = end(ctx, op)?,
        Wire::Link(op) => outcome.cookie = repository::link(ctx, op)?.into(),
        Wire::Unlink(op) => repository::unlink(ctx, op.id)?,
        Wire::Update(op) => repository::update(ctx, op)?,
        Wire::Imported(op) => repository::imported(ctx, op.id)?,
        Wire::ForgetKnown(op) => outcome.cookie = repository::forget_known(ctx, op.id)?,
        Wire::Descend(op) => outcome.cookie = export::descend(ctx, op)?,
        Wire::Import(op) => outcome.imports = import::import(ctx, op)?,
    }
    Ok(())
}

/// Bytes of the file are about to change, or may be.
pub(super) fn bytes_change(file: &mut FileBody) {
    file.data_version = file.data_version.saturating_add(1);
    if file.hsm.contains(HsmFlags::EXISTS) && !file.hsm.contains(HsmFlags::RELEASED) {
        file.hsm.insert(HsmFlags::DIRTY);
    }
}

/// The bytes must be here before they can be changed.
pub(super) fn must_be_here(fid: Fid, file: &FileBody) -> Result<(), NsError> {
    if file.hsm.contains(HsmFlags::RELEASED) { Err(NsError::Released(fid)) } else { Ok(()) }
}

/// The file is being cut to nothing: there is nothing to restore any more.
pub(super) fn forsake_copy(inode: &mut Inode) -> Result<(), NsError> {
    inode.attr.released = false;
    let (_, file) = as_file(inode)?;
    file.hsm.remove(HsmFlags::RELEASED);
    Ok(())
}

/// The file ends: what the archive knows of it goes, and what is being restored.
pub(super) fn forget(ctx: &mut Ctx<'_, '_>, fid: Fid, file: &FileBody) -> Result<(), NsError> {
    if file.hsm.is_empty() {
        return Ok(());
    }
    let row = row(ctx, fid)?;
    destroy_restoring(ctx, fid, &row, WorkKind::Destroy)?;
    if row.cookie != 0 {
        ctx.txn.remove(keys::action(row.cookie));
    }
    ctx.txn.remove(keys::hsm(fid));
    Ok(())
}

pub(super) fn row(ctx: &Ctx<'_, '_>, fid: Fid) -> Result<v1::HsmRecord, NsError> {
    Ok(rows::row(ctx.txn, &keys::hsm(fid))?.unwrap_or_default())
}

fn action(ctx: &Ctx<'_, '_>, cookie: u64) -> Result<Option<v1::HsmActionRecord>, NsError> {
    rows::row(ctx.txn, &keys::action(cookie))
}

/// Puts the inode and its row; a file without flags has none.
pub(super) fn put(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    row: &v1::HsmRecord,
) -> Result<(), NsError> {
    let (fid, file) = as_file(inode)?;
    let hsm = file.hsm;
    if hsm.is_empty() {
        ctx.txn.remove(keys::hsm(fid));
    } else {
        ctx.txn.put(keys::hsm(fid), row.encode());
    }
    inode.attr.released = hsm.contains(HsmFlags::RELEASED);
    ctx.put_inode(inode)
}

/// Whether there is anything to do.
fn needed(action: HsmAction, hsm: HsmFlags) -> bool {
    match action {
        HsmAction::Archive => !hsm.contains(HsmFlags::ARCHIVED) || hsm.contains(HsmFlags::DIRTY),
        HsmAction::Restore => hsm.contains(HsmFlags::RELEASED),
        HsmAction::Remove => hsm.intersects(HsmFlags::ARCHIVED | HsmFlags::EXISTS),
        // Queued by what changes alone.
        HsmAction::Export | HsmAction::Unspecified => false,
    }
}

fn allowed(fid: Fid, action: HsmAction, hsm: HsmFlags) -> Result<(), NsError> {
    match action {
        HsmAction::Archive if hsm.contains(HsmFlags::NOARCHIVE) => {
            Err(NsError::Hsm { fid, why: "it is marked never to be archived" })
        }
        HsmAction::Restore if hsm.contains(HsmFlags::LOST) => Err(NsError::Lost(fid)),
        HsmAction::Remove if hsm.contains(HsmFlags::RELEASED) => {
            Err(NsError::Hsm { fid, why: "its only bytes are in the archive" })
        }
        HsmAction::Export | HsmAction::Unspecified => Err(NsError::Invalid("no such HSM action")),
        HsmAction::Archive | HsmAction::Restore | HsmAction::Remove => Ok(()),
    }
}

/// Queues an action. 0: there is nothing to do.
fn queue(ctx: &mut Ctx<'_, '_>, op: &v1::HsmQueueRecord) -> Result<u64, NsError> {
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let (fid, file) = as_file(&mut inode)?;
    allowed(fid, op.action(), file.hsm)?;
    let mut row = row(ctx, fid)?;
    if row.cookie != 0 {
        let queued = action(ctx, row.cookie)?;
        let same = queued.is_some_and(|queued| queued.action == op.action);
        return if same { Ok(row.cookie) } else { Err(NsError::HsmBusy(fid)) };
    }
    if !needed(op.action(), file.hsm) {
        return Ok(0);
    }
    if op.archive_id != 0 {
        let elsewhere = row.copy.is_some() && row.archive_id != op.archive_id;
        if elsewhere && op.action() == HsmAction::Archive {
            return Err(NsError::Hsm { fid, why: "another archive has its copy" });
        }
        row.archive_id = op.archive_id;
    }
    if op.action() == HsmAction::Archive {
        file.hsm.insert(HsmFlags::EXISTS);
    }
    row.cookie = new_action(ctx, fid, op.action())?;
    put(ctx, &mut inode, &row)?;
    Ok(row.cookie)
}

/// Puts an action into the queue, whatever else is there.
pub(super) fn new_action(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    action: HsmAction,
) -> Result<u64, NsError> {
    let counters = ctx.counters()?;
    let cookie = counters.next_work;
    counters.next_work = cookie.checked_add(1).ok_or(NsError::UsedUp("action number"))?;
    let mut queued = v1::HsmActionRecord { fid: Some(fid.into()), ..Default::default() };
    queued.set_action(action);
    ctx.txn.put(keys::action(cookie), queued.encode());
    Ok(cookie)
}

/// Gives up the bytes here. The caller has made sure that nobody has the file open.
fn release(ctx: &mut Ctx<'_, '_>, fid: Fid) -> Result<(), NsError> {
    let mut inode = ctx.inode(fid)?;
    let (size, lazy) = (inode.attr.size, inode.attr.size_lazy);
    let (fid, file) = as_file(&mut inode)?;
    if file.hsm.contains(HsmFlags::RELEASED) {
        return Ok(());
    }
    let refused = |why| Err(NsError::Hsm { fid, why });
    if !file.hsm.contains(HsmFlags::ARCHIVED) {
        return refused("it is not archived");
    }
    if file.hsm.intersects(HsmFlags::DIRTY | HsmFlags::NORELEASE | HsmFlags::LOST) {
        return refused("it is dirty, lost, or marked never to be released");
    }
    let row = row(ctx, fid)?;
    // What is being exported may be on its way out of the bucket.
    if row.cookie != 0 || export::is_queued(ctx, fid)? {
        return Err(NsError::HsmBusy(fid));
    }
    let archived = row.copy.as_ref().map(|copy| (copy.data_version, copy.size));
    if lazy || archived != Some((file.data_version, size)) {
        return refused("it was changed since it was archived");
    }
    file.hsm.insert(HsmFlags::RELEASED);
    give_up_bytes(ctx, &mut inode)?;
    put(ctx, &mut inode, &row)
}

/// Frees what holds the bytes here. The caller puts the inode.
pub(super) fn give_up_bytes(ctx: &mut Ctx<'_, '_>, inode: &mut Inode) -> Result<(), NsError> {
    let size = inode.attr.size;
    let (fid, file) = as_file(inode)?;
    free::destroy_objects(ctx, fid, file, WorkKind::DestroyTombstone)?;
    free::destroy_pending(ctx, fid, file, WorkKind::DestroyTombstone)?;
    file.pending = None;
    layout::next_generation(file)?;
    file.components.iter_mut().for_each(|component| component.osts.clear());
    file.is_inline = true;
    data::put_bytes(ctx, inode, &[])?;
    // Not 0, or archivers take it for a hole.
    inode.attr.blocks = u64::from(size > 0);
    inode.attr.layout_gen = inode.attr.layout_gen.wrapping_add(1);
    Ok(())
}

/// Whether there are bytes, or may be, that no archive has.
pub(super) fn is_only_here(inode: &Inode) -> bool {
    let Body::File(file) = &inode.body else { return false };
    !file.hsm.contains(HsmFlags::ARCHIVED) || file.hsm.contains(HsmFlags::DIRTY)
}

fn set_flags(ctx: &mut Ctx<'_, '_>, op: &v1::HsmSetFlagsRecord) -> Result<(), NsError> {
    let (set, clear) = (HsmFlags::from_bits(op.set), HsmFlags::from_bits(op.clear));
    let (Some(set), Some(clear)) = (set, clear) else {
        return Err(NsError::Invalid("unknown HSM flags"));
    };
    if (set | clear).contains(HsmFlags::RELEASED) {
        return Err(NsError::Invalid("only releasing and restoring change `released`"));
    }
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let (fid, file) = as_file(&mut inode)?;
    let now = (file.hsm | set) - clear;
    let has = |flags| now.contains(flags);
    if (has(HsmFlags::DIRTY) && !has(HsmFlags::EXISTS))
        || (has(HsmFlags::RELEASED) && (has(HsmFlags::DIRTY) || !has(HsmFlags::ARCHIVED)))
        || (has(HsmFlags::LOST) && !has(HsmFlags::ARCHIVED))
    {
        return Err(NsError::Invalid("these HSM flags contradict each other"));
    }
    let mut row = row(ctx, fid)?;
    if row.cookie != 0 && !now.contains(HsmFlags::EXISTS) {
        return Err(NsError::HsmBusy(fid));
    }
    file.hsm = now;
    if op.archive_id != 0 {
        row.archive_id = op.archive_id;
    }
    inode.attr.ctime = ctx.time;
    put(ctx, &mut inode, &row)
}

/// Takes an action off the queue. Whoever carries it out finds that it is gone.
fn cancel(ctx: &mut Ctx<'_, '_>, fid: Fid) -> Result<(), NsError> {
    let mut inode = ctx.inode(fid)?;
    let mut row = row(ctx, fid)?;
    if row.cookie == 0 {
        return Ok(());
    }
    drop_action(ctx, &mut inode, &mut row)?;
    put(ctx, &mut inode, &row)
}

/// The action is over. What it had prepared goes; a first archive that did not happen leaves
/// nothing behind.
fn drop_action(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    row: &mut v1::HsmRecord,
) -> Result<(), NsError> {
    let (fid, file) = as_file(inode)?;
    ctx.txn.remove(keys::action(row.cookie));
    row.cookie = 0;
    destroy_restoring(ctx, fid, row, WorkKind::DestroyTombstone)?;
    row.restoring.clear();
    if row.copy.is_none() && !file.hsm.contains(HsmFlags::ARCHIVED) {
        file.hsm.remove(HsmFlags::EXISTS | HsmFlags::DIRTY);
    }
    Ok(())
}

fn destroy_restoring(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    row: &v1::HsmRecord,
    kind: WorkKind,
) -> Result<(), NsError> {
    for part in &row.restoring {
        ctx.add_work(&WorkItem {
            fid,
            component: narrow("component", part.component)?,
            object_generation: row.object_generation,
            osts: osts(part.osts.clone())?,
            kind,
            sizes: Vec::new(),
        })?;
    }
    Ok(())
}

/// Reserves the objects that a restore fills; what an earlier attempt reserved goes.
fn begin_restore(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::HsmBeginRestoreRecord,
) -> Result<v1::ChangeResponse, NsError> {
    let queued = action(ctx, op.cookie)?.ok_or(NsError::NoAction(op.cookie))?;
    let mut inode = ctx.inode(fid("fid", queued.fid)?)?;
    let (fid, file) = as_file(&mut inode)?;
    if !file.hsm.contains(HsmFlags::RELEASED) {
        return Err(NsError::NoAction(op.cookie));
    }
    let mut row = row(ctx, fid)?;
    destroy_restoring(ctx, fid, &row, WorkKind::DestroyTombstone)?;
    row.object_generation = layout::next_generation(file)?;
    row.restoring.clone_from(&op.placement);
    let mut reply = v1::ChangeResponse::default();
    if !row.restoring.is_empty() {
        let mut filled = file.clone();
        install(fid, &mut filled, &row)?;
        let layout: Layout = filled.layout(inode.attr.layout_gen.wrapping_add(1));
        reply.layout = Some(layout.into());
    }
    put(ctx, &mut inode, &row)?;
    reply.attr = layout_reply(&inode).attr;
    Ok(reply)
}

/// Makes the restored objects the file's.
fn install(fid: Fid, file: &mut FileBody, row: &v1::HsmRecord) -> Result<(), NsError> {
    for part in &row.restoring {
        let component = file.components.get_mut(part.component as usize);
        let component = component.ok_or(NsError::Inconsistent { fid, what: "component" })?;
        let placed: Vec<OstIndex> = osts(part.osts.clone())?;
        component.osts = placed;
        component.object_generation = row.object_generation;
    }
    file.is_inline = false;
    Ok(())
}

/// What became of an action. Returns its cookie if it is to be tried again.
fn end(ctx: &mut Ctx<'_, '_>, op: &v1::HsmEndRequest) -> Result<u64, NsError> {
    // Canceled meanwhile, or the file is gone: what was done is nobody's.
    let Some(mut queued) = action(ctx, op.cookie)? else { return Ok(0) };
    if queued.action() == HsmAction::Export {
        return export::end(ctx, op, queued);
    }
    let mut inode = ctx.inode(fid("fid", queued.fid)?)?;
    let mut row = row(ctx, inode.attr.fid)?;
    if let Some(failure) = &op.failure {
        queued.attempts = queued.attempts.saturating_add(1);
        queued.error = format!("{}: {}", failure.code, failure.message);
        if failure.retry && queued.attempts < ATTEMPTS_MAX {
            ctx.txn.put(keys::action(op.cookie), queued.encode());
            return Ok(op.cookie);
        }
        drop_action(ctx, &mut inode, &mut row)?;
        if queued.action() == HsmAction::Restore && failure.code == NOT_FOUND {
            let (_, file) = as_file(&mut inode)?;
            file.hsm.insert(HsmFlags::LOST);
        }
        put(ctx, &mut inode, &row)?;
        return Ok(0);
    }
    match queued.action() {
        HsmAction::Archive => archived(ctx, &mut inode, &mut row, op)?,
        HsmAction::Restore => restored(ctx, &mut inode, &mut row, op)?,
        HsmAction::Remove => {
            let (_, file) = as_file(&mut inode)?;
            let gone = HsmFlags::EXISTS | HsmFlags::ARCHIVED | HsmFlags::LOST | HsmFlags::DIRTY;
            file.hsm.remove(gone);
            if let Some(copy) = row.copy.take() {
                // Nobody shall take the file for one whose object somebody else has deleted.
                let object = v1::ExportedObject {
                    repository: row.archive_id,
                    key: copy.key,
                    ..v1::ExportedObject::default()
                };
                export::has_not(ctx, inode.attr.fid, &object)?;
            }
        }
        HsmAction::Export | HsmAction::Unspecified => {}
    }
    drop_action(ctx, &mut inode, &mut row)?;
    put(ctx, &mut inode, &row)?;
    Ok(0)
}

fn archived(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    row: &mut v1::HsmRecord,
    op: &v1::HsmEndRequest,
) -> Result<(), NsError> {
    let copy = required("copy", op.copy.clone())?;
    let object = v1::ExportedObject {
        repository: row.archive_id,
        bucket: copy.bucket.clone(),
        key: copy.key.clone(),
        etag: copy.etag.clone(),
        version_id: copy.version_id.clone(),
        size: copy.size,
        data_version: copy.data_version,
        // Of its names and attributes nothing is known.
        state: 0,
    };
    export::has(ctx, inode.attr.fid, &object)?;
    copies::has_copy(inode, row, copy)
}

fn restored(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    row: &mut v1::HsmRecord,
    op: &v1::HsmEndRequest,
) -> Result<(), NsError> {
    let size = inode.attr.size;
    let (fid, file) = as_file(inode)?;
    if !file.hsm.contains(HsmFlags::RELEASED) {
        // Cut to nothing meanwhile: what was restored goes with the action.
        return Ok(());
    }
    if row.restoring.is_empty() {
        if op.inline_data.len() as u64 != size {
            return Err(NsError::Invalid("a restore of another length"));
        }
        file.hsm.remove(HsmFlags::RELEASED);
        data::put_bytes(ctx, inode, &op.inline_data)?;
    } else {
        install(fid, file, row)?;
        file.hsm.remove(HsmFlags::RELEASED);
        // They are the file's now.
        row.restoring.clear();
        inode.attr.blocks = size.div_ceil(BLOCK_UNIT);
    }
    inode.attr.layout_gen = inode.attr.layout_gen.wrapping_add(1);
    Ok(())
}
