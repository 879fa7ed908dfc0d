//! New inodes.

use nacre_model::attr::{PERM_MASK, S_IFMT};
use nacre_model::{Attr, Fid, FileKind, LayoutTemplate, Name, Timestamp};
use nacre_proto::{SYMLINK_BYTES_MAX, v1};

use super::acl::{ACCESS, Acl, DEFAULT};
use super::apply::{layout_reply, range};
use super::ctx::{Ctx, fid, name};
use super::rows::{self, Place};
use super::{BLOCK_UNIT, DIRECTORY_BYTES, NsError, xattr};
use crate::record::{Body, FileBody, Inode, XattrUse, key as keys};

/// Permission bits that a directory with it gives to new directories.
pub(super) const SETGID: u32 = 0o2000;

/// Where the new inode goes.
enum Destination {
    Entry(Name, u64),
    /// `O_TMPFILE`
    Nowhere,
}

pub(super) fn create(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::CreateOp,
) -> Result<v1::ChangeResponse, NsError> {
    let kind = FileKind::from_mode(op.mode).ok_or_else(|| range("mode", op.mode.into()))?;
    if op.mode & !(S_IFMT | PERM_MASK) != 0 {
        return Err(range("mode", op.mode.into()));
    }
    let parent = ctx.directory(fid("parent", op.parent)?)?;
    let parent_fid = parent.attr.fid;
    let destination = if op.name.is_empty() {
        if kind != FileKind::Regular {
            return Err(NsError::Invalid("only a regular file can be without a name"));
        }
        Destination::Nowhere
    } else {
        let name = name(&op.name)?;
        match rows::place(ctx.txn, &ctx.superblock, parent_fid, name.as_bytes())? {
            Place::Free(cookie) => Destination::Entry(name, cookie),
            Place::Full => return Err(NsError::NoCookie(parent_fid)),
            Place::Taken(_, entry) => return existing(ctx, op, kind, parent_fid, entry.fid),
        }
    };
    let inode = new_inode(ctx, op, kind, parent, destination)?;
    Ok(v1::ChangeResponse { made: true, ..layout_reply(&inode) })
}

/// What `open` with `O_CREAT` and without `O_EXCL` finds.
fn existing(
    ctx: &Ctx<'_, '_>,
    op: &v1::CreateOp,
    kind: FileKind,
    parent: Fid,
    found: Fid,
) -> Result<v1::ChangeResponse, NsError> {
    let exists = || NsError::Exists { parent, name: NsError::show(&op.name) };
    if op.exclusive || kind != FileKind::Regular {
        return Err(exists());
    }
    let inode = ctx.inode(found)?;
    match inode.attr.kind {
        FileKind::Regular => Ok(layout_reply(&inode)),
        FileKind::Directory => Err(NsError::IsDirectory(found)),
        FileKind::Symlink
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => Err(exists()),
    }
}

fn new_inode(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::CreateOp,
    kind: FileKind,
    parent: Inode,
    destination: Destination,
) -> Result<Inode, NsError> {
    let parent_fid = parent.attr.fid;
    let body = new_body(ctx, op, kind, &parent)?;
    let fid = take_fid(ctx)?;
    let mut inode = nameless(fid, kind, body, ctx.time);
    let is_dir = inode.is_dir();
    inode.attr.uid = ctx.caller.uid;
    let from_parent = parent.attr.perm & SETGID != 0;
    inode.attr.gid = if from_parent { parent.attr.gid } else { ctx.caller.gid };
    if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
        inode.attr.rdev = op.rdev;
    }
    set_permissions(ctx, op, &parent, &mut inode)?;
    match destination {
        Destination::Entry(name, cookie) => {
            inode.add_link(parent_fid, &name);
            ctx.put_entry(parent_fid, cookie, &name, &inode.attr);
            ctx.touch(parent, i32::from(is_dir))?;
        }
        Destination::Nowhere => {
            inode.tmpfile = true;
            inode.attr.nlink = 0;
            ctx.txn.put(keys::orphan(fid), Vec::new());
        }
    }
    ctx.put_inode(&inode)?;
    Ok(inode)
}

/// A new inode of root's that has no name and no permissions yet.
pub(super) fn nameless(fid: Fid, kind: FileKind, body: Body, time: Timestamp) -> Inode {
    let size = match &body {
        Body::Directory(_) => DIRECTORY_BYTES,
        Body::Symlink(target) => target.len() as u64,
        Body::File(_) | Body::Special => 0,
    };
    let is_dir = kind == FileKind::Directory;
    let attr = Attr {
        fid,
        kind,
        perm: 0,
        nlink: if is_dir { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        size,
        blocks: if is_dir { DIRECTORY_BYTES / BLOCK_UNIT } else { 0 },
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        size_lazy: false,
        released: false,
        layout_gen: 0,
        xattr_count: 0,
    };
    Inode {
        attr,
        links: Vec::new(),
        links_overflow: false,
        tmpfile: false,
        xattrs: XattrUse::default(),
        body,
    }
}

fn new_body(
    ctx: &Ctx<'_, '_>,
    op: &v1::CreateOp,
    kind: FileKind,
    parent: &Inode,
) -> Result<Body, NsError> {
    Ok(match kind {
        FileKind::Regular => Body::File(FileBody::new(match op.layout.clone() {
            Some(wire) => LayoutTemplate::try_from(wire)?,
            None => default_layout(ctx, parent)?,
        })),
        // The root's default holds for all directories without one anyway: nothing to copy.
        FileKind::Directory if parent.attr.fid == Fid::ROOT => Body::Directory(None),
        FileKind::Directory => Body::Directory(match &parent.body {
            Body::Directory(default) => default.clone(),
            Body::File(_) | Body::Symlink(_) | Body::Special => None,
        }),
        FileKind::Symlink => {
            let target = &op.target;
            if target.len() > SYMLINK_BYTES_MAX {
                return Err(NsError::TargetTooLong(target.len()));
            }
            if target.is_empty() || target.contains(&0) {
                return Err(NsError::Invalid("symbolic link target is empty or contains a NUL"));
            }
            Body::Symlink(target.clone())
        }
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            Body::Special
        }
    })
}

/// The parent's default, else the root's, else the built-in.
pub(super) fn default_layout(ctx: &Ctx<'_, '_>, parent: &Inode) -> Result<LayoutTemplate, NsError> {
    if let Body::Directory(Some(template)) = &parent.body {
        return Ok(template.clone());
    }
    if parent.attr.fid != Fid::ROOT
        && let Body::Directory(Some(template)) = ctx.inode(Fid::ROOT)?.body
    {
        return Ok(template);
    }
    Ok(LayoutTemplate::built_in())
}

pub(super) fn take_fid(ctx: &mut Ctx<'_, '_>) -> Result<Fid, NsError> {
    let given = ctx.caller.new_fid;
    let fid = match given {
        Some(fid) => fid,
        None => ctx.counters()?.take_fid().ok_or(NsError::NoFids)?,
    };
    if given.is_some() && (fid == Fid::ROOT || rows::find_inode(ctx.txn, fid)?.is_some()) {
        return Err(NsError::FidUsed(fid));
    }
    let counters = ctx.counters()?;
    counters.inodes = counters.inodes.saturating_add(1);
    Ok(fid)
}

/// Mode and ACLs: a default ACL of the parent takes the place of the umask.
fn set_permissions(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::CreateOp,
    parent: &Inode,
    inode: &mut Inode,
) -> Result<(), NsError> {
    if inode.attr.kind == FileKind::Symlink {
        inode.attr.perm = 0o777;
        return Ok(());
    }
    let mut perm = op.mode & PERM_MASK;
    match xattr::acl(ctx, parent, DEFAULT)? {
        None => perm &= !(op.umask & 0o777),
        Some(default) => {
            let (access, narrowed) = default.inherit(perm);
            perm = narrowed;
            inherit(ctx, inode, &access, &default)?;
        }
    }
    if inode.is_dir() && parent.attr.perm & SETGID != 0 {
        perm |= SETGID;
    }
    inode.attr.perm = perm;
    Ok(())
}

fn inherit(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    access: &Acl,
    default: &Acl,
) -> Result<(), NsError> {
    if !access.is_mode() {
        xattr::put(ctx, inode, ACCESS, &access.encode())?;
    }
    if inode.is_dir() {
        xattr::put(ctx, inode, DEFAULT, &default.encode())?;
    }
    Ok(())
}
