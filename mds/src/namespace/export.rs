//! Export: what buckets shall have of inodes that change.
//!
//! Nothing is remembered of single changes. For every inode in a repository that exports, one row
//! tells what the bucket has of it, and a hash what it should have. Where they differ an action
//! waits; whoever carries it out asks what is to be done, does that, and says what he has done.
//! So a change that is made a hundred times is exported once, and a crash anywhere costs nothing
//! but the same question again. The row outlives the inode: then the bucket should have nothing.

use nacre_model::{Errno, Fid, FileKind};
use nacre_proto::v1;
use nacre_proto::v1::{ExportedObject, HsmAction};
use siphasher::sip::SipHasher24;

use super::ctx::Ctx;
use super::{NsError, hsm, read, repository, rows};
use crate::record::{Body, Entry, HsmFlags, Inode, Record, key as keys};
use crate::store::View;

/// Permissions that objects tell: all but setuid.
const PERM_EXPORTED: u32 = 0o3777;
/// Longest key. Source: S3.
const KEY_BYTES_MAX: usize = 1024;
/// Data version of an object that has not the bytes of any version of its file.
const NO_VERSION: u64 = u64::MAX;
/// Entries of a moved directory that one command looks at.
const DESCEND_MAX: usize = 256;

/// What is to be done about an inode.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The inode has no names any more.
    pub gone: bool,
    /// One of its names is in a repository that exports.
    pub inside: bool,
    /// What its objects shall show.
    pub state: u64,
    /// Where objects are missing, or are not what they should be.
    pub puts: Vec<v1::ExportPut>,
    /// Objects that should not be there; told when nothing is to be put.
    pub deletes: Vec<ExportedObject>,
    /// Objects that stay though the inode has no such name.
    pub left: Vec<ExportedObject>,
    /// Objects that are another inode's from now on, for it has their name.
    pub handed: Vec<(ExportedObject, Fid)>,
    /// Released files whose only bytes are in objects that were to be put anew: they come first.
    pub blocked: Vec<Fid>,
    /// Names that no object can have.
    pub unnamable: usize,
    /// A directory that was moved, whose entries nobody has looked at.
    pub descend: bool,
}

impl Plan {
    fn is_done(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && !self.descend
    }
}

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
        heir.objects.retain(|other| !same_place(other, &object));
        heir.objects.push(object);
        if let Some(inode) = rows::find_inode(ctx.txn, *to)? {
            heir.wanted = state(&inode);
        }
        queue(ctx, *to, heir)?;
    }
    if plan.handed.is_empty() { Ok(()) } else { hsm::copies_left(ctx, fid, &row.objects) }
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

/// A hash, never 0, of everything that objects tell of an inode.
fn state(inode: &Inode) -> u64 {
    let attr = &inode.attr;
    let mut told = Vec::with_capacity(128);
    let mut add = |bytes: &[u8]| {
        told.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        told.extend_from_slice(bytes);
    };
    for number in [attr.kind.mode_bits() | (attr.perm & PERM_EXPORTED), attr.uid, attr.gid] {
        add(&number.to_le_bytes());
    }
    if !inode.is_dir() {
        // A directory's changes with every name in it.
        add(&attr.mtime.secs.to_le_bytes());
        add(&attr.mtime.nanos.to_le_bytes());
        add(&attr.size.to_le_bytes());
    }
    match &inode.body {
        Body::File(file) => add(&file.data_version.to_le_bytes()),
        Body::Symlink(target) => add(target),
        Body::Directory(_) | Body::Special => {}
    }
    for link in &inode.links {
        add(&link.parent.to_bytes());
        add(&link.name);
    }
    SipHasher24::new().hash(&told).max(1)
}

/// The object that a name of an inode stands for.
struct Place {
    repository: v1::Repository,
    key: String,
}

/// Where an inode's objects should be, and how many of its names no object can have.
fn places(view: &dyn View, inode: &Inode) -> Result<(Vec<Place>, usize), NsError> {
    let mut found = Vec::new();
    let mut unnamable = 0;
    let slash = match inode.attr.kind {
        FileKind::Regular | FileKind::Symlink => "",
        FileKind::Directory => "/",
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            return Ok((found, 0));
        }
    };
    for path in read::fid2path(view, inode.attr.fid)? {
        let Ok(path) = String::from_utf8(path) else {
            unnamable += 1;
            continue;
        };
        let Some((repository, below)) = read::repository_of(view, &path)? else { continue };
        if !exports(&repository) {
            continue;
        }
        let key = format!("{}{below}{slash}", repository.prefix);
        if key.len() > KEY_BYTES_MAX {
            unnamable += 1;
        } else {
            found.push(Place { repository, key });
        }
    }
    Ok((found, unnamable))
}

/// Whether a repository wants any change exported.
pub(super) fn exports(repository: &v1::Repository) -> bool {
    repository.export.is_some_and(|policy| policy.new || policy.changed || policy.deleted)
}

/// What is to be done about an inode.
pub fn plan(view: &dyn View, fid: Fid) -> Result<Plan, NsError> {
    let inode = rows::find_inode(view, fid)?.filter(|inode| inode.attr.nlink > 0);
    plan_of(view, fid, &row(view, fid)?, inode.as_ref())
}

/// `inode` has names.
fn plan_of(
    view: &dyn View,
    fid: Fid,
    row: &v1::ExportRecord,
    inode: Option<&Inode>,
) -> Result<Plan, NsError> {
    let mut plan = Plan { gone: inode.is_none(), state: row.wanted, ..Plan::default() };
    plan.descend = row.descend && inode.is_some();
    let mut wanted = Vec::new();
    if let Some(inode) = inode {
        (wanted, plan.unnamable) = places(view, inode)?;
    }
    plan.inside = !wanted.is_empty();
    let at = |place: &Place, object: &&ExportedObject| {
        object.repository == place.repository.id && object.key == place.key
    };
    let kept = kept_copy(view, inode)?;
    for place in &wanted {
        let there = row.objects.iter().find(|object| at(place, object));
        let policy = place.repository.export.unwrap_or_default();
        let may = if there.is_some() { policy.changed } else { policy.new };
        let lost = inode.is_some_and(is_lost);
        if may && !lost && there.is_none_or(|object| object.state != row.wanted) {
            let source = inode.and_then(|inode| source(inode, &row.objects, kept.as_ref()));
            plan.blocked.extend(needed_by(view, fid, &place.repository, &place.key)?);
            plan.puts.push(put(place, there, source));
        }
    }
    // What is copied onto itself is another object afterwards.
    plan.puts.sort_by_key(|put| put.source.as_ref().is_some_and(|source| source.key == put.key));
    let stays = |object: &ExportedObject| wanted.iter().any(|place| at(place, &object));
    let elsewhere = |object: &ExportedObject| {
        let same = |other: &&ExportedObject| other.data_version == object.data_version;
        row.objects.iter().filter(same).any(stays)
    };
    for object in &row.objects {
        if stays(object) || (is_copy(kept.as_ref(), object) && !elsewhere(object)) {
            continue;
        }
        match fate(view, fid, object)? {
            Fate::Delete => plan.deletes.push(object.clone()),
            Fate::Leave => plan.left.push(object.clone()),
            Fate::HandOver(to) => plan.handed.push((object.clone(), to)),
        }
    }
    if !plan.puts.is_empty() {
        // First what is new: whoever is interrupted in between has both.
        plan.deletes.clear();
    }
    Ok(plan)
}

fn put(
    place: &Place,
    there: Option<&ExportedObject>,
    source: Option<&ExportedObject>,
) -> v1::ExportPut {
    v1::ExportPut {
        repository: place.repository.id,
        bucket: place.repository.bucket.clone(),
        prefix: place.repository.prefix.clone(),
        key: place.key.clone(),
        etag: there.map(|object| object.etag.clone()).unwrap_or_default(),
        source: source.filter(|object| object.bucket == place.repository.bucket).cloned(),
    }
}

/// An object with the bytes that the file has now: the one that a released file would be restored
/// from, if it can be.
fn source<'o>(
    inode: &Inode,
    objects: &'o [ExportedObject],
    kept: Option<&v1::HsmCopy>,
) -> Option<&'o ExportedObject> {
    let Body::File(file) = &inode.body else { return None };
    let same = |object: &&ExportedObject| {
        object.data_version == file.data_version && object.size == inode.attr.size
    };
    if inode.attr.size_lazy {
        return None;
    }
    let best = objects.iter().filter(same).find(|object| is_copy(kept, object));
    best.or_else(|| objects.iter().find(same))
}

/// Where the only bytes of a released file are.
fn kept_copy(view: &dyn View, inode: Option<&Inode>) -> Result<Option<v1::HsmCopy>, NsError> {
    let Some(inode) = inode.filter(|inode| inode.attr.released && !is_lost(inode)) else {
        return Ok(None);
    };
    let row = rows::row::<v1::HsmRecord>(view, &keys::hsm(inode.attr.fid))?;
    Ok(row.and_then(|row| row.copy))
}

fn is_lost(inode: &Inode) -> bool {
    matches!(&inode.body, Body::File(file) if file.hsm.contains(HsmFlags::LOST))
}

fn is_copy(copy: Option<&v1::HsmCopy>, object: &ExportedObject) -> bool {
    copy.is_some_and(|copy| copy.bucket == object.bucket && copy.key == object.key)
}

/// What becomes of an object that its inode has no name for.
enum Fate {
    Delete,
    Leave,
    HandOver(Fid),
}

fn fate(view: &dyn View, fid: Fid, object: &ExportedObject) -> Result<Fate, NsError> {
    let known = rows::row::<v1::KnownRecord>(view, &keys::known(object.repository, &object.key))?;
    let linked = read::repositories(view)?;
    let repository = linked.iter().find(|other| other.id == object.repository);
    let Some(repository) = repository.filter(|other| exports(other)) else {
        return Ok(Fate::Leave);
    };
    let Some(below) = object.key.strip_prefix(&repository.prefix) else { return Ok(Fate::Leave) };
    if known.is_none_or(|known| known.fid != Some(fid.into())) {
        // Another's already.
        return Ok(Fate::Leave);
    }
    if let Some(attr) = read::resolve(view, &format!("{}/{below}", repository.path))? {
        let stands = match attr.kind {
            FileKind::Directory => object.key.ends_with('/'),
            FileKind::Regular | FileKind::Symlink => !object.key.ends_with('/'),
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                false
            }
        };
        if stands && attr.fid != fid {
            return Ok(Fate::HandOver(attr.fid));
        }
    }
    let deletes = repository.export.is_some_and(|policy| policy.deleted);
    Ok(if deletes { Fate::Delete } else { Fate::Leave })
}

/// The other released file, if there is one, whose only bytes are in this object.
pub fn needed_by(
    view: &dyn View,
    fid: Fid,
    repository: &v1::Repository,
    key: &str,
) -> Result<Option<Fid>, NsError> {
    let known = rows::row::<v1::KnownRecord>(view, &keys::known(repository.id, key))?;
    let owner = known.and_then(|known| known.fid).map(Fid::from).filter(|owner| *owner != fid);
    let Some(owner) = owner else { return Ok(None) };
    let inode = rows::find_inode(view, owner)?.filter(|inode| inode.attr.nlink > 0);
    let copy = kept_copy(view, inode.as_ref())?;
    let there = copy.is_some_and(|copy| copy.bucket == repository.bucket && copy.key == key);
    Ok(there.then_some(owner))
}

/// Notes that the bucket has an object of an inode.
pub(super) fn has(ctx: &mut Ctx<'_, '_>, fid: Fid, object: ExportedObject) -> Result<(), NsError> {
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
    row.objects.retain(|other| !same_place(other, &object));
    row.objects.push(object.clone());
    ctx.txn.put(keys::export(fid), row.encode());
    match before.map(Fid::from).filter(|other| *other != fid) {
        Some(other) => overwritten(ctx, other, &object),
        None => Ok(()),
    }
}

/// An object that was another inode's is not any more.
pub(super) fn overwritten(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    object: &ExportedObject,
) -> Result<(), NsError> {
    let mut row = row(ctx.txn, fid)?;
    let before = row.objects.len();
    row.objects.retain(|other| !same_place(other, object));
    if row.objects.len() == before {
        return Ok(());
    }
    ctx.txn.put(keys::export(fid), row.encode());
    hsm::copies_left(ctx, fid, &row.objects)
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
        row.objects.retain(|other| !same_place(other, &object));
        row.objects.push(ExportedObject { state: row.wanted, ..object });
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
    let mut row = row(ctx.txn, fid)?;
    row.objects.retain(|other| !same_place(other, object));
    ctx.txn.put(keys::export(fid), row.encode());
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
        has(ctx, fid, object.clone())?;
    }
    hsm::exported(ctx, fid, &op.put)?;
    for object in &op.deleted {
        has_not(ctx, fid, object)?;
    }
    if !op.deleted.is_empty() {
        let left = row(ctx.txn, fid)?.objects;
        hsm::copies_left(ctx, fid, &left)?;
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
    let plan = plan(ctx.txn, fid)?;
    if !given_up && !plan.is_done() {
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
            hsm::copies_left(ctx, fid, &row.objects)?;
        }
        return Ok(lost);
    }
    let mut row = row(ctx.txn, fid)?;
    for object in &mut row.objects {
        object.data_version = NO_VERSION;
    }
    ctx.txn.put(keys::export(fid), row.encode());
    hsm::doubt_copy(ctx, inode)?;
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
