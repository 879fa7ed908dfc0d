//! Attributes, among them the size.

use nacre_model::attr::PERM_MASK;
use nacre_model::layout::FILE_BYTES_MAX;
use nacre_model::{Component, FileKind, StripeIndex};
use nacre_proto::v1;
use nacre_proto::v1::WorkKind;

use super::apply::{layout_reply, range};
use super::create::SETGID;
use super::ctx::{Ctx, fid, time};
use super::{NsError, data, free, hsm, layout, rows, xattr};
use crate::record::{Body, FileBody, Inode, WorkItem};

const SETUID: u32 = 0o4000;
const GROUP_EXECUTE: u32 = 0o010;

pub(super) fn setattr(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::SetattrOp,
) -> Result<v1::ChangeResponse, NsError> {
    check(op)?;
    let (atime, mtime) = (time(op.atime)?, time(op.mtime)?);
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let before = inode.clone();
    let mut changed = false;
    if let Some(size) = op.size {
        set_size(ctx, &mut inode, size)?;
        xattr::drop_capability(ctx, &mut inode)?;
        inode.attr.mtime = ctx.time;
        changed = true;
    }
    if op.uid.is_some() || op.gid.is_some() {
        inode.attr.uid = op.uid.unwrap_or(inode.attr.uid);
        inode.attr.gid = op.gid.unwrap_or(inode.attr.gid);
        kill_set_ids(ctx, &mut inode)?;
        changed = true;
    }
    if op.kill_suidgid {
        kill_set_ids(ctx, &mut inode)?;
    }
    if let Some(perm) = op.perm {
        xattr::chmod(ctx, &mut inode, perm)?;
        changed = true;
    }
    if let Some(atime) = if op.atime_now { Some(ctx.time) } else { atime } {
        inode.attr.atime = atime;
        changed = true;
    }
    if let Some(mtime) = if op.mtime_now { Some(ctx.time) } else { mtime } {
        inode.attr.mtime = mtime;
        changed = true;
    }
    if changed || inode != before {
        inode.attr.ctime = ctx.time;
        ctx.put_inode(&inode)?;
    }
    Ok(layout_reply(&inode))
}

fn check(op: &v1::SetattrOp) -> Result<(), NsError> {
    if let Some(perm) = op.perm
        && perm & !PERM_MASK != 0
    {
        return Err(range("perm", perm.into()));
    }
    for (field, id) in [("uid", op.uid), ("gid", op.gid)] {
        if id == Some(u32::MAX) {
            return Err(range(field, u32::MAX.into()));
        }
    }
    Ok(())
}

/// Takes set-user-id, and set-group-id where the group may execute, from anything but a
/// directory; and file capabilities. The caller puts the inode.
pub(super) fn kill_set_ids(ctx: &mut Ctx<'_, '_>, inode: &mut Inode) -> Result<(), NsError> {
    if inode.is_dir() {
        return Ok(());
    }
    inode.attr.perm &= !SETUID;
    if inode.attr.perm & GROUP_EXECUTE != 0 {
        inode.attr.perm &= !SETGID;
    }
    xattr::drop_capability(ctx, inode)
}

fn set_size(ctx: &mut Ctx<'_, '_>, inode: &mut Inode, size: u64) -> Result<(), NsError> {
    let fid = inode.attr.fid;
    if size == 0 && inode.attr.released {
        hsm::forsake_copy(inode)?;
    }
    let Body::File(file) = &mut inode.body else {
        return Err(match inode.attr.kind {
            FileKind::Directory => NsError::IsDirectory(fid),
            FileKind::Regular
            | FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => NsError::Invalid("only a regular file has a size to set"),
        });
    };
    let reach = file.components.last().map_or(0, |last| last.template.end).min(FILE_BYTES_MAX);
    if size > reach {
        return Err(NsError::TooFar { fid, offset: size });
    }
    hsm::must_be_here(fid, file)?;
    hsm::bytes_change(file);
    if file.is_inline {
        if file.pending.is_some() {
            free::destroy_pending(ctx, fid, file, WorkKind::DestroyTombstone)?;
            file.pending = None;
        }
        if size < u64::from(file.inline_bytes) {
            let mut bytes = rows::inline(ctx.txn, fid)?;
            bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            data::put_bytes(ctx, inode, &bytes)?;
        }
    } else if size == 0 && !ctx.caller.used_by_others.contains(&fid) {
        empty(ctx, inode)?;
    } else if size < inode.attr.size || inode.attr.size_lazy {
        cut(ctx, inode.attr.fid, file, size)?;
    }
    inode.attr.size = size;
    Ok(())
}

/// Back to an inline file without bytes: whoever still has the old layout finds tombstones.
fn empty(ctx: &mut Ctx<'_, '_>, inode: &mut Inode) -> Result<(), NsError> {
    let Body::File(file) = &mut inode.body else {
        return Ok(());
    };
    free::destroy_objects(ctx, inode.attr.fid, file, WorkKind::DestroyTombstone)?;
    layout::next_generation(file)?;
    for component in &mut file.components {
        component.osts.clear();
    }
    file.is_inline = true;
    file.inline_bytes = 0;
    inode.attr.layout_gen = inode.attr.layout_gen.wrapping_add(1);
    inode.attr.size_lazy = false;
    inode.attr.blocks = 0;
    Ok(())
}

/// Leaves work that cuts the objects of a file which ends at `size`. Components that end before
/// are whole; objects of components that begin after keep nothing.
fn cut(
    ctx: &mut Ctx<'_, '_>,
    fid: nacre_model::Fid,
    file: &FileBody,
    size: u64,
) -> Result<(), NsError> {
    let shown = file.layout(0);
    for (index, component) in (0_u16..).zip(&shown.components) {
        if component.osts.is_empty() || component.end <= size {
            continue;
        }
        ctx.add_work(&WorkItem {
            fid,
            component: index,
            object_generation: component.object_generation,
            osts: component.osts.clone(),
            kind: WorkKind::Truncate,
            sizes: object_sizes(component, size),
        })?;
    }
    Ok(())
}

fn object_sizes(component: &Component, size: u64) -> Vec<u64> {
    let stripes = (0..component.stripe_count.get()).map(StripeIndex);
    if component.start >= size {
        stripes.map(|_| 0).collect()
    } else {
        stripes.map(|stripe| component.object_size(stripe, size)).collect()
    }
}
