//! Export: what buckets shall have of inodes that change.
//!
//! Nothing is remembered of single changes. For every inode in a repository that exports, one row
//! tells what the bucket has of it, and a hash what it should have. Where they differ an action
//! waits; whoever carries it out asks what is to be done, does that, and says what he has done.
//! So a change that is made a hundred times is exported once, and a crash anywhere costs nothing
//! but the same question again. The row outlives the inode: then the bucket should have nothing.

mod plan;

use nacre_model::{Errno, Fid};
use nacre_proto::v1;
use nacre_proto::v1::{ExportedObject, HsmAction};

use super::ctx::Ctx;
use super::{NsError, copies, hsm, read, repository, rows};
use crate::record::{Entry, Inode, Record, key as keys};
use crate::store::View;
pub(super) use plan::exports;
pub(super) use plan::is_copy;
pub use plan::{Plan, needed_by, plan};
use plan::{kept_copy, plan_of, state};

/// Data version of an object that has not the bytes of any version of its file.
const NO_VERSION: u64 = u64::MAX;
/// Entries of a moved directory that one command looks at.
const DESCEND_MAX: usize = 256;

/// Looks at everything that the command has changed.
pub(super) fn note(ctx: &mut Ctx<'_, '_>) -> Result<(), NsError> {
    let mut touched = std::mem::take(&mut ctx.touched);
    if !ctx.superblock.exporting {
        return Ok(());
    }
    touched.sort_unstable();
    touched.dedup();
    touched.into_iter().try_for_each(|fid| note_one(ctx, fid, false))
}

/// `anew`: it may have other keys though it has not changed.
fn note_one(ctx: &mut Ctx<'_, '_>, fid: Fid, anew: bool) -> Result<(), NsError> {
    let mut row = row(ctx.txn, fid)?;
    let inode = rows::find_inode(ctx.txn, fid)?.filter(|inode| inode.attr.nlink > 0);
    if let Some(inode) = &inode {
        let wanted = state(inode);
        let moved = inode.is_dir() && (anew || ctx.moved.contains(&fid));
        if row.wanted == wanted && !anew && !moved {
            return Ok(());
        }
        row.wanted = wanted;
        row.descend |= moved && !rows::is_empty_directory(ctx.txn, fid)?;
    }
    let plan = plan_of(ctx.txn, fid, &row, inode.as_ref())?;
    hand_over(ctx, fid, &mut row, &plan)?;
    if !plan.is_done() {
        return queue(ctx, fid, row);
    }
    if plan.inside || (inode.is_some() && !row.objects.is_empty()) {
        ctx.txn.put(keys::export(fid), row.encode());
    } else {
        forget(ctx, fid, &row);
    }
    Ok(())
}

/// Gives objects to those who have their names now, and forgets those that stay by themselves. The
/// caller puts the row.
fn hand_over(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    row: &mut v1::ExportRecord,
    plan: &Plan,
) -> Result<(), NsError> {
    row.objects.retain(|object| {
        !plan.left.contains(object) && !plan.handed.iter().any(|(handed, _)| handed == object)
    });
    for (object, to) in &plan.handed {
        let mut heir = self::row(ctx.txn, *to)?;
        // It shows another's bytes and attributes.
        let object = ExportedObject { state: 0, data_version: NO_VERSION, ..object.clone() };
        let key = keys::known(object.repository, &object.key);
        if let Some(known) = rows::row::<v1::KnownRecord>(ctx.txn, &key)? {
            ctx.txn.put(key, v1::KnownRecord { fid: Some((*to).into()), ..known }.encode());
        }
        put_object(&mut heir, object);
        if let Some(inode) = rows::find_inode(ctx.txn, *to)? {
            heir.wanted = state(&inode);
        }
        queue(ctx, *to, heir)?;
    }
    if plan.handed.is_empty() { Ok(()) } else { copies::copies_left(ctx, fid, &row.objects) }
}

fn row(view: &dyn View, fid: Fid) -> Result<v1::ExportRecord, NsError> {
    Ok(rows::row(view, &keys::export(fid))?.unwrap_or_default())
}

fn forget(ctx: &mut Ctx<'_, '_>, fid: Fid, row: &v1::ExportRecord) {
    if row.cookie != 0 {
        ctx.txn.remove(keys::action(row.cookie));
    }
    if *row != v1::ExportRecord::default() {
        ctx.txn.remove(keys::export(fid));
    }
}

fn queue(ctx: &mut Ctx<'_, '_>, fid: Fid, mut row: v1::ExportRecord) -> Result<(), NsError> {
    if row.cookie == 0 {
        row.cookie = hsm::new_action(ctx, fid, HsmAction::Export)?;
    }
    ctx.exports.push((row.cookie, fid));
    ctx.txn.put(keys::export(fid), row.encode());
    Ok(())
}

/// Notes that the bucket has an object of an inode.
pub(super) fn has(ctx: &mut Ctx<'_, '_>, fid: Fid, object: &ExportedObject) -> Result<(), NsError> {
    let mut row = row(ctx.txn, fid)?;
    let known = v1::KnownRecord {
        fid: Some(fid.into()),
        etag: object.etag.clone(),
        size: object.size,
        time: Some(ctx.time.into()),
    };
    let key = keys::known(object.repository, &object.key);
    let before = rows::row::<v1::KnownRecord>(ctx.txn, &key)?.and_then(|known| known.fid);
    ctx.txn.put(key, known.encode());
    put_object(&mut row, object.clone());
    ctx.txn.put(keys::export(fid), row.encode());
    match before.map(Fid::from).filter(|other| *other != fid) {
        Some(other) => overwritten(ctx, other, object),
        None => Ok(()),
    }
}

/// An object that was another inode's is not any more.
pub(super) fn overwritten(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    object: &ExportedObject,
) -> Result<(), NsError> {
    match drop_object(ctx, fid, object)? {
        Some(left) => copies::copies_left(ctx, fid, &left),
        None => Ok(()),
    }
}

/// In the place of one that had the same key.
fn put_object(row: &mut v1::ExportRecord, object: ExportedObject) {
    row.objects.retain(|other| !same_place(other, &object));
    row.objects.push(object);
}

/// Returns the inode's other objects; nothing if that was none of them.
fn drop_object(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    object: &ExportedObject,
) -> Result<Option<Vec<ExportedObject>>, NsError> {
    let mut row = row(ctx.txn, fid)?;
    let before = row.objects.len();
    row.objects.retain(|other| !same_place(other, object));
    if row.objects.len() == before {
        return Ok(None);
    }
    ctx.txn.put(keys::export(fid), row.encode());
    Ok(Some(row.objects))
}

fn same_place(one: &ExportedObject, other: &ExportedObject) -> bool {
    one.repository == other.repository && one.key == other.key
}

/// Notes that the bucket has what it should have of an inode that comes from there, perhaps nothing.
pub(super) fn is_as_wanted(
    ctx: &mut Ctx<'_, '_>,
    inode: &Inode,
    object: Option<ExportedObject>,
) -> Result<(), NsError> {
    let fid = inode.attr.fid;
    let mut row = row(ctx.txn, fid)?;
    row.wanted = state(inode);
    if let Some(object) = object {
        let state = row.wanted;
        put_object(&mut row, ExportedObject { state, ..object });
        // Other names of it have other objects.
        let more = row.objects.len() > 1 || (inode.attr.nlink > 1 && !inode.is_dir());
        if more && ctx.superblock.exporting {
            return queue(ctx, fid, row);
        }
    }
    ctx.txn.put(keys::export(fid), row.encode());
    Ok(())
}

/// Whether it changed, and the bucket does not know yet.
pub(super) fn is_queued(ctx: &Ctx<'_, '_>, fid: Fid) -> Result<bool, NsError> {
    Ok(row(ctx.txn, fid)?.cookie != 0)
}

/// Notes that the bucket has it no more.
pub(super) fn has_not(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    object: &ExportedObject,
) -> Result<(), NsError> {
    drop_object(ctx, fid, object)?;
    let key = keys::known(object.repository, &object.key);
    let known = rows::row::<v1::KnownRecord>(ctx.txn, &key)?;
    if known.is_some_and(|known| known.fid == Some(fid.into())) {
        ctx.txn.remove(key);
    }
    Ok(())
}

/// What became of an export. Returns its cookie if there is more to be done.
pub(super) fn end(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::HsmEndRequest,
    mut queued: v1::HsmActionRecord,
) -> Result<u64, NsError> {
    let fid = super::ctx::fid("fid", queued.fid)?;
    for object in &op.put {
        has(ctx, fid, object)?;
    }
    copies::exported(ctx, fid, &op.put)?;
    for object in &op.deleted {
        has_not(ctx, fid, object)?;
    }
    if !op.deleted.is_empty() {
        let left = row(ctx.txn, fid)?.objects;
        copies::copies_left(ctx, fid, &left)?;
    }
    let mut given_up = false;
    if let Some(failure) = &op.failure {
        queued.attempts = queued.attempts.saturating_add(1);
        queued.error = format!("{}: {}", failure.code, failure.message);
        let useless = distrust(ctx, &queued, fid, failure)?;
        given_up = !useless;
        if failure.retry && !useless {
            ctx.txn.put(keys::action(op.cookie), queued.encode());
            return Ok(op.cookie);
        }
    }
    let plan = plan::plan(ctx.txn, fid)?;
    if !given_up && !plan.is_done() {
        if op.failure.is_none() {
            queued.attempts = 0;
            ctx.txn.put(keys::action(op.cookie), queued.encode());
        }
        return Ok(op.cookie);
    }
    let mut row = row(ctx.txn, fid)?;
    hand_over(ctx, fid, &mut row, &plan)?;
    ctx.txn.remove(keys::action(op.cookie));
    row.cookie = 0;
    row.descend = false;
    if plan.inside || (!plan.gone && !row.objects.is_empty()) {
        ctx.txn.put(keys::export(fid), row.encode());
    } else {
        ctx.txn.remove(keys::export(fid));
    }
    Ok(0)
}

/// An export failed that may have copied an object which is not there any more. Of a file whose
/// bytes are here it is not tried again; those of a released file are lost. True if it is of no
/// use to try again.
fn distrust(
    ctx: &mut Ctx<'_, '_>,
    queued: &v1::HsmActionRecord,
    fid: Fid,
    failure: &v1::HsmFailure,
) -> Result<bool, NsError> {
    let inode = rows::find_inode(ctx.txn, fid)?.filter(|inode| inode.attr.nlink > 0);
    let gone = matches!(failure.code.as_str(), "S3ObjectNotFound" | "ResourceBusy");
    let Some(inode) = inode.filter(|_| gone && failure.errno != Errno::EBUSY.0) else {
        return Ok(false);
    };
    if inode.attr.released {
        let lost = !failure.retry || queued.attempts >= hsm::ATTEMPTS_MAX;
        if lost {
            let mut row = row(ctx.txn, fid)?;
            let copy = kept_copy(ctx.txn, Some(&inode))?;
            row.objects.retain(|object| !is_copy(copy.as_ref(), object));
            ctx.txn.put(keys::export(fid), row.encode());
            // Another with the same bytes may be left.
            copies::copies_left(ctx, fid, &row.objects)?;
        }
        return Ok(lost);
    }
    let mut row = row(ctx.txn, fid)?;
    for object in &mut row.objects {
        object.data_version = NO_VERSION;
    }
    ctx.txn.put(keys::export(fid), row.encode());
    copies::doubt_copy(ctx, inode)?;
    Ok(false)
}

/// Queues exports of entries of a directory that was moved. Returns where to go on; 0: it is done.
pub(super) fn descend(ctx: &mut Ctx<'_, '_>, op: &v1::HsmDescendRecord) -> Result<u64, NsError> {
    let fid = super::ctx::fid("fid", op.fid)?;
    let (mut fids, mut last) = (Vec::new(), 0);
    let (from, to) = (keys::entry(fid, op.cookie.saturating_add(1)), keys::entry(fid, u64::MAX));
    for key in rows::keys_between(ctx.txn, &from, &to, DESCEND_MAX)? {
        last = keys::entry_of(&key)?.1;
        fids.extend(rows::row::<Entry>(ctx.txn, &key)?.map(|entry| entry.fid));
    }
    for child in &fids {
        note_one(ctx, *child, true)?;
    }
    if fids.len() == DESCEND_MAX {
        return Ok(last);
    }
    let mut row = row(ctx.txn, fid)?;
    row.descend = false;
    ctx.txn.put(keys::export(fid), row.encode());
    Ok(0)
}

/// Whether a directory must stay where it is, for a data repository is linked to it or below it.
pub(super) fn is_linked(ctx: &Ctx<'_, '_>, fid: Fid) -> Result<bool, NsError> {
    if !ctx.superblock.linked {
        return Ok(false);
    }
    let paths = read::fid2path(ctx.txn, fid)?;
    let linked = read::repositories(ctx.txn)?;
    let above = |path: &Vec<u8>| {
        let path = String::from_utf8_lossy(path);
        linked.iter().any(|other| repository::below(&other.path, &path).is_some())
    };
    Ok(paths.iter().any(above))
}
