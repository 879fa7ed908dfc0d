//! Import: objects become inodes, whose bytes stay in the bucket until somebody wants them.

use std::collections::BTreeSet;

use nacre_model::attr::S_IFMT;
use nacre_model::{Attr, Fid, FileKind, Name, Timestamp};
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::ImportResult;
use nacre_proto::{SYMLINK_BYTES_MAX, v1::ImportedObject};

use super::apply::range;
use super::ctx::{Ctx, fid, name, time};
use super::{NsError, copies, create, export, free, hsm, repository, rows};
use crate::record::{Body, FileBody, HsmFlags, Inode, Record, key as keys};

/// Permissions of what does not say any. Source: FSx.
const PERM_DEFAULT: u32 = 0o755;

/// What holds for all objects of a command.
struct Import<'o> {
    repository: v1::Repository,
    /// Whatever the policy says.
    all: bool,
    /// What is known since is newer than what is told.
    told: Timestamp,
    /// Inodes that no client holds or has open.
    waited: BTreeSet<Fid>,
    object: &'o ImportedObject,
}

/// What was found in the place of an object.
enum Found {
    /// The directory, and the name that is not there.
    Nothing(Inode, Name),
    /// The directory's fid, and what is there.
    Leaf(Fid, Name, Inode),
    /// The repository's own folder, or something in the way.
    NoPlace,
}

/// Returns what became of each object.
pub(super) fn import(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::HsmImportRecord,
) -> Result<Vec<ImportResult>, NsError> {
    let repository = repository::find(ctx.txn, op.repository)?;
    let told = required("time", op.time)?.try_into()?;
    let mut waited: BTreeSet<Fid> = op.waited.iter().map(|fid| Fid::from(*fid)).collect();
    let mut results = Vec::with_capacity(op.objects.len());
    for object in &op.objects {
        let mut import =
            Import { repository: repository.clone(), all: op.all, told, waited, object };
        results.push(import.one(ctx)?);
        waited = import.waited;
    }
    Ok(results)
}

impl Import<'_> {
    fn one(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<ImportResult, NsError> {
        let known = keys::known(self.repository.id, &self.object.key);
        let known = rows::row::<v1::KnownRecord>(ctx.txn, &known)?;
        if let Some(known) = &known
            && time(known.time)?.is_some_and(|learned| learned >= self.told)
        {
            return Ok(ImportResult::Later);
        }
        if self.object.gone {
            return match known {
                Some(known) => self.gone(ctx, &known),
                None => Ok(ImportResult::Unchanged),
            };
        }
        if let Some(known) = &known
            && known.etag == self.object.etag
            && known.size == self.object.size
            && (!self.all || is_live(ctx, known)?)
        {
            return Ok(ImportResult::Unchanged);
        }
        let policy = self.repository.import.unwrap_or_default();
        match self.find(ctx, policy.new || self.all)? {
            Found::NoPlace => Ok(ImportResult::TypeMismatch),
            Found::Nothing(..) if !(policy.new || self.all) => {
                self.note(ctx, None);
                Ok(ImportResult::Unchanged)
            }
            Found::Nothing(parent, _) if !self.waited.contains(&parent.attr.fid) => {
                Ok(ImportResult::Later)
            }
            Found::Nothing(parent, name) => self.make(ctx, parent, &name),
            Found::Leaf(_, _, inode) => self.changed(ctx, inode),
        }
    }

    /// Remembers the object, so that it is not looked at again until it changes.
    fn note(&self, ctx: &mut Ctx<'_, '_>, fid: Option<Fid>) {
        let known = v1::KnownRecord {
            fid: fid.map(Into::into),
            etag: self.object.etag.clone(),
            size: self.object.size,
            time: Some(ctx.time.into()),
        };
        ctx.txn.put(keys::known(self.repository.id, &self.object.key), known.encode());
    }

    /// The place of the object. With `make`, folders on the way are made.
    fn find(&mut self, ctx: &mut Ctx<'_, '_>, make: bool) -> Result<Found, NsError> {
        let folder = super::read::resolve(ctx.txn, &self.repository.path)?;
        let Some(folder) = folder.filter(|attr| attr.kind == FileKind::Directory) else {
            return Ok(Found::NoPlace);
        };
        let mut at = ctx.directory(folder.fid)?;
        let mut parts = self.object.path.split('/').peekable();
        while let Some(part) = parts.next() {
            let name = name(part.as_bytes())?;
            let found = ctx.find(at.attr.fid, &name)?;
            let last = parts.peek().is_none();
            let inode = match found {
                None if last => return Ok(Found::Nothing(at, name)),
                // Told as missing: nobody shall make what is in between.
                None if !make || !self.waited.contains(&at.attr.fid) => {
                    return Ok(Found::Nothing(at, name));
                }
                None => self.folder(ctx, at.clone(), &name)?,
                Some((_, entry)) => ctx.inode(entry.fid)?,
            };
            if last {
                return Ok(Found::Leaf(at.attr.fid, name, inode));
            }
            if !inode.is_dir() {
                return Ok(Found::NoPlace);
            }
            at = inode;
        }
        Ok(Found::NoPlace)
    }

    /// A folder that keys go through, without an object of its own.
    fn folder(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        parent: Inode,
        name: &Name,
    ) -> Result<Inode, NsError> {
        let body = Body::Directory(match &parent.body {
            Body::Directory(default) if parent.attr.fid != Fid::ROOT => default.clone(),
            Body::Directory(_) | Body::File(_) | Body::Symlink(_) | Body::Special => None,
        });
        let mut inode = self.nameless(ctx, FileKind::Directory, body)?;
        inode.attr.perm = PERM_DEFAULT;
        add(ctx, parent, name, &mut inode)?;
        export::is_as_wanted(ctx, &inode, None)?;
        Ok(inode)
    }

    /// A new inode, which nobody can hold.
    fn nameless(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        kind: FileKind,
        body: Body,
    ) -> Result<Inode, NsError> {
        let fid = create::take_fid(ctx)?;
        self.waited.insert(fid);
        Ok(create::nameless(fid, kind, body, ctx.time))
    }

    fn make(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        parent: Inode,
        name: &Name,
    ) -> Result<ImportResult, NsError> {
        let object = self.object;
        let kind = FileKind::from_mode(object.mode & S_IFMT);
        let kind = kind.ok_or_else(|| range("mode", object.mode.into()))?;
        let mut file = None;
        let body = match kind {
            FileKind::Regular => {
                let mut body = FileBody::new(create::default_layout(ctx, &parent)?);
                body.hsm = HsmFlags::EXISTS | HsmFlags::ARCHIVED | HsmFlags::RELEASED;
                body.data_version = 1;
                file = Some(copies::record_of(&self.exported(1)));
                Body::File(body)
            }
            FileKind::Symlink => Body::Symlink(self.target()?),
            FileKind::Directory => Body::Directory(None),
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return Err(range("mode", object.mode.into()));
            }
        };
        let mut inode = self.nameless(ctx, kind, body)?;
        inode.attr.perm = if kind == FileKind::Symlink { 0o777 } else { PERM_DEFAULT };
        self.set(&mut inode.attr)?;
        add(ctx, parent, name, &mut inode)?;
        if let Some(row) = file {
            ctx.txn.put(keys::hsm(inode.attr.fid), row.encode());
        }
        self.done(ctx, &inode)
    }

    fn done(&self, ctx: &mut Ctx<'_, '_>, inode: &Inode) -> Result<ImportResult, NsError> {
        let version = match &inode.body {
            Body::File(file) => file.data_version,
            Body::Directory(_) | Body::Symlink(_) | Body::Special => 0,
        };
        export::is_as_wanted(ctx, inode, Some(self.exported(version)))?;
        self.note(ctx, Some(inode.attr.fid));
        Ok(ImportResult::Done)
    }

    /// Attributes that the object tells; of others the file keeps what it has.
    fn set(&self, attr: &mut Attr) -> Result<(), NsError> {
        let object = self.object;
        if object.has_perm && attr.kind != FileKind::Symlink {
            attr.perm = object.mode & 0o3777;
        }
        attr.uid = object.uid.unwrap_or(attr.uid);
        attr.gid = object.gid.unwrap_or(attr.gid);
        if let Some(mtime) = time(object.mtime)? {
            attr.mtime = mtime;
        }
        attr.atime = time(object.atime)?.unwrap_or(attr.mtime);
        match attr.kind {
            FileKind::Regular => {
                attr.size = object.size;
                // Not 0, or archivers take it for a hole.
                attr.blocks = u64::from(object.size > 0);
                attr.released = true;
                attr.size_lazy = false;
            }
            FileKind::Symlink => attr.size = object.target.len() as u64,
            FileKind::Directory
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => {}
        }
        Ok(())
    }

    fn target(&self) -> Result<bytes::Bytes, NsError> {
        let target = &self.object.target;
        if target.len() > SYMLINK_BYTES_MAX {
            return Err(NsError::TargetTooLong(target.len()));
        }
        if target.is_empty() || target.contains(&0) {
            return Err(NsError::Invalid("symbolic link target is empty or contains a NUL"));
        }
        Ok(target.clone())
    }

    fn exported(&self, data_version: u64) -> v1::ExportedObject {
        v1::ExportedObject {
            repository: self.repository.id,
            bucket: self.repository.bucket.clone(),
            key: self.object.key.clone(),
            etag: self.object.etag.clone(),
            version_id: self.object.version_id.clone(),
            size: self.object.size,
            data_version,
            state: 0,
        }
    }

    /// Something has the object's name already.
    fn changed(&self, ctx: &mut Ctx<'_, '_>, mut inode: Inode) -> Result<ImportResult, NsError> {
        let fid = inode.attr.fid;
        let kind = FileKind::from_mode(self.object.mode & S_IFMT);
        if kind != Some(inode.attr.kind) {
            return Ok(ImportResult::TypeMismatch);
        }
        let policy = self.repository.import.unwrap_or_default();
        if !(policy.changed || self.all) {
            self.note(ctx, Some(fid));
            return Ok(ImportResult::Unchanged);
        }
        if !self.waited.contains(&fid) || export::is_queued(ctx, fid)? {
            return Ok(ImportResult::Later);
        }
        match &mut inode.body {
            Body::File(_) => return self.replace(ctx, inode),
            Body::Symlink(target) => *target = self.target()?,
            Body::Directory(_) | Body::Special => {}
        }
        self.set(&mut inode.attr)?;
        inode.attr.ctime = ctx.time;
        ctx.put_inode(&inode)?;
        self.done(ctx, &inode)
    }

    /// The object's bytes are the file's from now on.
    fn replace(&self, ctx: &mut Ctx<'_, '_>, mut inode: Inode) -> Result<ImportResult, NsError> {
        let fid = inode.attr.fid;
        let mut row = hsm::row(ctx, fid)?;
        if row.cookie != 0 {
            return Ok(ImportResult::Later);
        }
        let conflict = hsm::is_only_here(&inode);
        if conflict && export::exports(&self.repository) {
            self.note(ctx, Some(fid));
            return Ok(ImportResult::Conflict);
        }
        let same = |copy: &v1::HsmCopy| {
            export::is_copy(Some(copy), &self.exported(0)) && copy.etag == self.object.etag
        };
        if !conflict && row.copy.as_ref().is_some_and(same) {
            // Linked before, perhaps by another link.
            return self.done(ctx, &inode);
        }
        hsm::give_up_bytes(ctx, &mut inode)?;
        let Body::File(file) = &mut inode.body else { return Ok(ImportResult::TypeMismatch) };
        file.data_version = file.data_version.saturating_add(1);
        file.hsm.remove(HsmFlags::DIRTY | HsmFlags::LOST);
        file.hsm.insert(HsmFlags::EXISTS | HsmFlags::ARCHIVED | HsmFlags::RELEASED);
        let told = copies::record_of(&self.exported(file.data_version));
        (row.archive_id, row.copy) = (told.archive_id, told.copy);
        self.set(&mut inode.attr)?;
        inode.attr.ctime = ctx.time;
        hsm::put(ctx, &mut inode, &row)?;
        self.done(ctx, &inode)?;
        Ok(if conflict { ImportResult::Overwritten } else { ImportResult::Done })
    }

    /// The object is not there any more.
    fn gone(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        known: &v1::KnownRecord,
    ) -> Result<ImportResult, NsError> {
        let object = self.exported(0);
        let policy = self.repository.import.unwrap_or_default();
        let owner = known.fid.map(Fid::from);
        let (parent, name, inode) = match self.find(ctx, false)? {
            Found::Leaf(parent, name, inode) if Some(inode.attr.fid) == owner => {
                (parent, name, inode)
            }
            Found::Leaf(..) | Found::Nothing(..) | Found::NoPlace => {
                ctx.txn.remove(keys::known(self.repository.id, &self.object.key));
                if let Some(owner) = owner {
                    export::overwritten(ctx, owner, &object)?;
                }
                return Ok(ImportResult::Unchanged);
            }
        };
        let fid = inode.attr.fid;
        if export::is_queued(ctx, fid)? {
            return Ok(ImportResult::Later);
        }
        let stays = inode.is_dir() && !rows::is_empty_directory(ctx.txn, fid)?;
        let conflict = hsm::is_only_here(&inode) && export::exports(&self.repository);
        if !policy.deleted || stays || conflict {
            export::has_not(ctx, fid, &object)?;
            let lost = conflict && policy.deleted;
            return Ok(if lost { ImportResult::Conflict } else { ImportResult::Unchanged });
        }
        if !self.waited.contains(&fid) || !self.waited.contains(&parent) {
            return Ok(ImportResult::Later);
        }
        export::has_not(ctx, fid, &object)?;
        let (cookie, _) = ctx.expect_entry(parent, &name)?;
        ctx.txn.remove(keys::entry(parent, cookie));
        ctx.touch_directory(parent, -i32::from(inode.is_dir()))?;
        free::drop_link(ctx, inode, parent, &name)?;
        Ok(ImportResult::Done)
    }
}

/// Gives a new inode its name.
fn add(
    ctx: &mut Ctx<'_, '_>,
    parent: Inode,
    name: &Name,
    inode: &mut Inode,
) -> Result<(), NsError> {
    let parent_fid = parent.attr.fid;
    let cookie = ctx.free_cookie(parent_fid, name)?;
    inode.add_link(parent_fid, name);
    ctx.put_entry(parent_fid, cookie, name, &inode.attr);
    ctx.touch(parent, i32::from(inode.is_dir()))?;
    ctx.put_inode(inode)
}

/// Whether there is an inode of an object that we know of.
fn is_live(ctx: &Ctx<'_, '_>, known: &v1::KnownRecord) -> Result<bool, NsError> {
    let Some(wire) = known.fid else { return Ok(false) };
    let inode = rows::find_inode(ctx.txn, fid("fid", Some(wire))?)?;
    Ok(inode.is_some_and(|inode| inode.attr.nlink > 0))
}
