//! What is to be done to make buckets what an inode is.

use nacre_model::{Fid, FileKind};
use nacre_proto::v1;
use nacre_proto::v1::ExportedObject;
use siphasher::sip::SipHasher24;

use super::row;
use crate::namespace::{NsError, read, repository, rows};
use crate::record::{Body, HsmFlags, Inode, key as keys};
use crate::store::View;

/// Permissions that objects tell: all but setuid.
const PERM_EXPORTED: u32 = 0o3777;
/// Longest key. Source: S3.
const KEY_BYTES_MAX: usize = 1024;

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
    pub(super) fn is_done(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && !self.descend
    }
}

/// A hash, never 0, of everything that objects tell of an inode.
pub(super) fn state(inode: &Inode) -> u64 {
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
fn places(
    view: &dyn View,
    linked: &[v1::Repository],
    inode: &Inode,
) -> Result<(Vec<Place>, usize), NsError> {
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
        let Some((repository, below)) = repository::holding(linked, &path) else { continue };
        if !exports(repository) {
            continue;
        }
        let key = format!("{}{below}{slash}", repository.prefix);
        if key.len() > KEY_BYTES_MAX {
            unnamable += 1;
        } else {
            found.push(Place { repository: repository.clone(), key });
        }
    }
    Ok((found, unnamable))
}

/// Whether a repository wants any change exported.
pub(in super::super) fn exports(repository: &v1::Repository) -> bool {
    repository::wants(repository.export)
}

/// What is to be done about an inode.
pub fn plan(view: &dyn View, fid: Fid) -> Result<Plan, NsError> {
    let inode = rows::find_inode(view, fid)?.filter(|inode| inode.attr.nlink > 0);
    plan_of(view, fid, &row(view, fid)?, inode.as_ref())
}

/// `inode` has names.
pub(super) fn plan_of(
    view: &dyn View,
    fid: Fid,
    row: &v1::ExportRecord,
    inode: Option<&Inode>,
) -> Result<Plan, NsError> {
    let mut plan = Plan { gone: inode.is_none(), state: row.wanted, ..Plan::default() };
    plan.descend = row.descend && inode.is_some();
    let linked = read::repositories(view)?;
    let mut wanted = Vec::new();
    if let Some(inode) = inode {
        (wanted, plan.unnamable) = places(view, &linked, inode)?;
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
        match fate(view, &linked, fid, object)? {
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
pub(super) fn kept_copy(
    view: &dyn View,
    inode: Option<&Inode>,
) -> Result<Option<v1::HsmCopy>, NsError> {
    let Some(inode) = inode.filter(|inode| inode.attr.released && !is_lost(inode)) else {
        return Ok(None);
    };
    let row = rows::row::<v1::HsmRecord>(view, &keys::hsm(inode.attr.fid))?;
    Ok(row.and_then(|row| row.copy))
}

fn is_lost(inode: &Inode) -> bool {
    matches!(&inode.body, Body::File(file) if file.hsm.contains(HsmFlags::LOST))
}

pub(in super::super) fn is_copy(copy: Option<&v1::HsmCopy>, object: &ExportedObject) -> bool {
    copy.is_some_and(|copy| copy.bucket == object.bucket && copy.key == object.key)
}

/// What becomes of an object that its inode has no name for.
enum Fate {
    Delete,
    Leave,
    HandOver(Fid),
}

fn fate(
    view: &dyn View,
    linked: &[v1::Repository],
    fid: Fid,
    object: &ExportedObject,
) -> Result<Fate, NsError> {
    let known = rows::row::<v1::KnownRecord>(view, &keys::known(object.repository, &object.key))?;
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
