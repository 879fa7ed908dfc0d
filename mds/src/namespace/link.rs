//! Hard links and removal.

use nacre_model::Fid;
use nacre_proto::v1;

use super::apply::attr_reply;
use super::ctx::{Ctx, fid, name};
use super::{LINKS_MAX, NsError, export, free, rows};
use crate::record::key as keys;

pub(super) fn link(ctx: &mut Ctx<'_, '_>, op: &v1::LinkOp) -> Result<v1::ChangeResponse, NsError> {
    let name = name(&op.name)?;
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let directory = ctx.directory(fid("parent", op.parent)?)?;
    let (fid, parent) = (inode.attr.fid, directory.attr.fid);
    let cookie = ctx.free_cookie(parent, &name)?;
    if inode.is_dir() {
        return Err(NsError::LinkDirectory(fid));
    }
    let nlink = inode.attr.nlink;
    if nlink == 0 {
        if !inode.tmpfile {
            return Err(NsError::Unlinked(fid));
        }
        inode.tmpfile = false;
        ctx.txn.remove(keys::orphan(fid));
    }
    if nlink >= LINKS_MAX {
        return Err(NsError::TooManyLinks { fid, nlink });
    }
    inode.attr.nlink = nlink.saturating_add(1);
    inode.attr.ctime = ctx.time;
    inode.add_link(parent, &name);
    ctx.put_inode(&inode)?;
    ctx.put_entry(parent, cookie, &name, &inode.attr);
    ctx.touch(directory, 0)?;
    Ok(attr_reply(&inode))
}

/// The reply has the attributes after the removal, also of an inode that is gone with it.
pub(super) fn unlink(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::UnlinkOp,
) -> Result<v1::ChangeResponse, NsError> {
    let name = name(&op.name)?;
    let directory = ctx.directory(fid("parent", op.parent)?)?;
    let parent = directory.attr.fid;
    let (cookie, entry) = ctx.expect_entry(parent, &name)?;
    expected(op.fid, entry.fid)?;
    let inode = ctx.inode(entry.fid)?;
    if inode.is_dir() {
        return Err(NsError::IsDirectory(entry.fid));
    }
    ctx.txn.remove(keys::entry(parent, cookie));
    ctx.touch(directory, 0)?;
    let attr = free::drop_link(ctx, inode, parent, &name)?;
    Ok(v1::ChangeResponse { attr: Some(attr.into()), ..v1::ChangeResponse::default() })
}

pub(super) fn rmdir(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::RmdirOp,
) -> Result<v1::ChangeResponse, NsError> {
    let name = name(&op.name)?;
    let directory = ctx.directory(fid("parent", op.parent)?)?;
    let parent = directory.attr.fid;
    let (cookie, entry) = ctx.expect_entry(parent, &name)?;
    expected(op.fid, entry.fid)?;
    let inode = ctx.inode(entry.fid)?;
    if !inode.is_dir() {
        return Err(NsError::NotDirectory(entry.fid));
    }
    if export::is_linked(ctx, entry.fid)? {
        return Err(NsError::LinkedFolder(entry.fid));
    }
    if !rows::is_empty_directory(ctx.txn, entry.fid)? {
        return Err(NsError::NotEmpty(entry.fid));
    }
    ctx.txn.remove(keys::entry(parent, cookie));
    ctx.touch(directory, -1)?;
    let attr = free::drop_link(ctx, inode, parent, &name)?;
    Ok(v1::ChangeResponse { attr: Some(attr.into()), ..v1::ChangeResponse::default() })
}

/// Whether a name leads to what the client says, if it says anything.
fn expected(told: Option<v1::Fid>, found: Fid) -> Result<(), NsError> {
    match told.map(Fid::from) {
        Some(told) if told != found => {
            Err(NsError::Elsewhere { found: Some(found), told: Some(told) })
        }
        Some(_) | None => Ok(()),
    }
}
