//! The end of an inode.

use nacre_model::{Attr, Fid, Name};
use nacre_proto::v1::WorkKind;

use super::ctx::Ctx;
use super::{NsError, hsm, rows};
use crate::record::{Body, FileBody, Inode, WorkItem, key as keys};

/// Takes a name from an inode, whose entry the caller removes or gives to another inode. Without
/// names it becomes an orphan while somebody has it open, else it is freed.
pub(super) fn drop_link(
    ctx: &mut Ctx<'_, '_>,
    mut inode: Inode,
    parent: Fid,
    name: &Name,
) -> Result<Attr, NsError> {
    let fid = inode.attr.fid;
    inode.remove_link(parent, name);
    inode.attr.nlink = if inode.is_dir() { 0 } else { inode.attr.nlink.saturating_sub(1) };
    inode.attr.ctime = ctx.time;
    inode.settle_links();
    let attr = inode.attr.clone();
    if attr.nlink > 0 {
        ctx.put_inode(&inode)?;
        return Ok(attr);
    }
    ctx.unlinked.push(fid);
    if ctx.caller.held_open.contains(&fid) {
        ctx.txn.put(keys::orphan(fid), Vec::new());
        ctx.put_inode(&inode)?;
    } else {
        free(ctx, &inode)?;
    }
    Ok(attr)
}

/// Frees an orphan. One that was freed, or linked again, is none.
pub(super) fn reap(ctx: &mut Ctx<'_, '_>, fid: Fid) -> Result<(), NsError> {
    if ctx.get(&keys::orphan(fid))?.is_none() {
        return Ok(());
    }
    ctx.txn.remove(keys::orphan(fid));
    let inode = ctx.inode(fid)?;
    if inode.attr.nlink > 0 {
        return Err(NsError::Inconsistent { fid, what: "orphan with links" });
    }
    ctx.unlinked.push(fid);
    free(ctx, &inode)
}

fn free(ctx: &mut Ctx<'_, '_>, inode: &Inode) -> Result<(), NsError> {
    let fid = inode.attr.fid;
    ctx.txn.remove(keys::inode(fid));
    ctx.touched.push(fid);
    if inode.xattrs.count > 0 {
        let (from, to) = (keys::xattr(fid, b""), keys::xattr_end(fid));
        for key in rows::keys_between(ctx.txn, &from, &to, usize::MAX)? {
            ctx.txn.remove(key);
        }
    }
    if let Body::File(file) = &inode.body {
        if file.inline_bytes > 0 {
            ctx.txn.remove(keys::inline(fid));
        }
        destroy_objects(ctx, fid, file, WorkKind::Destroy)?;
        destroy_pending(ctx, fid, file, WorkKind::Destroy)?;
        hsm::forget(ctx, fid, file)?;
    }
    let counters = ctx.counters()?;
    counters.inodes = counters.inodes.saturating_sub(1);
    Ok(())
}

/// Leaves work that destroys the objects of all components.
pub(super) fn destroy_objects(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    file: &FileBody,
    kind: WorkKind,
) -> Result<(), NsError> {
    for (component, row) in (0_u16..).zip(&file.components) {
        if !row.osts.is_empty() {
            ctx.add_work(&WorkItem {
                fid,
                component,
                object_generation: row.object_generation,
                osts: row.osts.clone(),
                kind,
                sizes: Vec::new(),
            })?;
        }
    }
    Ok(())
}

/// Leaves work that destroys the objects which `promote` reserved.
pub(super) fn destroy_pending(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    file: &FileBody,
    kind: WorkKind,
) -> Result<(), NsError> {
    if let Some(pending) = &file.pending {
        ctx.add_work(&WorkItem {
            fid,
            component: 0,
            object_generation: pending.object_generation,
            osts: pending.osts.clone(),
            kind,
            sizes: Vec::new(),
        })?;
    }
    Ok(())
}
