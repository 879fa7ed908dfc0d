//! Layouts: giving objects to files, and saying how.

use nacre_model::layout::{FILE_BYTES_MAX, STRIPE_COUNT_MAX};
use nacre_model::{Fid, LayoutTemplate, OstIndex};
use nacre_proto::v1;
use nacre_proto::v1::WorkKind;

use super::apply::{attr_reply, layout_reply};
use super::create::default_layout;
use super::ctx::{Ctx, fid};
use super::data::as_file;
use super::{NsError, free, hsm};
use crate::record::{Body, FileBody, Inode, Pending};

/// A generation for a new object set.
pub(super) fn next_generation(file: &mut FileBody) -> Result<u32, NsError> {
    let next = file.object_generation.checked_add(1);
    file.object_generation = next.ok_or(NsError::UsedUp("object generation"))?;
    Ok(file.object_generation)
}

fn placement(ctx: &Ctx<'_, '_>, fid: Fid, component: u16) -> Result<Vec<OstIndex>, NsError> {
    let osts = ctx.caller.placed(component).ok_or(NsError::NoPlacement { fid, component })?;
    if osts.len() > usize::from(STRIPE_COUNT_MAX) {
        return Err(NsError::Invalid("placement of more than 2000 stripes"));
    }
    Ok(osts.to_vec())
}

pub(super) fn instantiate(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::InstantiateOp,
) -> Result<v1::ChangeResponse, NsError> {
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let before = inode.clone();
    let (fid, file) = as_file(&mut inode)?;
    hsm::must_be_here(fid, file)?;
    let end = op.offset.saturating_add(op.len.max(1));
    let reach = file.components.last().map_or(0, |last| last.template.end);
    if end > reach.min(FILE_BYTES_MAX) {
        return Err(NsError::TooFar { fid, offset: end });
    }
    if file.inline_bytes > 0 {
        return Err(NsError::HasInlineBytes(fid));
    }
    if file.is_inline {
        free::destroy_pending(ctx, fid, file, WorkKind::DestroyTombstone)?;
        file.pending = None;
        file.is_inline = false;
    }
    let next = file.object_generation.checked_add(1);
    let next = next.ok_or(NsError::UsedUp("object generation"))?;
    let mut start = 0;
    for (index, component) in (0_u16..).zip(&mut file.components) {
        let touched = start < end && op.offset < component.template.end;
        start = component.template.end;
        if touched && component.osts.is_empty() {
            component.osts = placement(ctx, fid, index)?;
            component.object_generation = next;
            file.object_generation = next;
        }
    }
    if inode.body != before.body {
        inode.attr.layout_gen = inode.attr.layout_gen.wrapping_add(1);
        let (_, file) = as_file(&mut inode)?;
        hsm::bytes_change(file);
    }
    inode.attr.size_lazy = true;
    if inode != before {
        ctx.put_inode(&inode)?;
    }
    Ok(layout_reply(&inode))
}

/// Reserves objects for component 0, which is never shorter than what an inode holds. The reply's
/// layout is the one that `commit` will make, and its generation the one to commit with.
pub(super) fn promote_begin(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::PromoteOp,
) -> Result<v1::ChangeResponse, NsError> {
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let (fid, file) = as_file(&mut inode)?;
    hsm::must_be_here(fid, file)?;
    if !file.is_inline {
        return Err(NsError::NotInline(fid));
    }
    free::destroy_pending(ctx, fid, file, WorkKind::DestroyTombstone)?;
    let osts = placement(ctx, fid, 0)?;
    let object_generation = next_generation(file)?;
    file.pending = Some(Pending { object_generation, osts });
    ctx.put_inode(&inode)?;
    let mut reply = attr_reply(&inode);
    promote(&mut inode);
    reply.layout = inode.shown_layout();
    Ok(reply)
}

pub(super) fn promote_commit(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::PromoteOp,
) -> Result<v1::ChangeResponse, NsError> {
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let (fid, file) = as_file(&mut inode)?;
    let reserved = file.pending.as_ref().map(|pending| pending.object_generation);
    if !file.is_inline || reserved != Some(op.object_generation) {
        return Err(NsError::PromoteLost(fid));
    }
    promote(&mut inode);
    ctx.put_inline(fid, &[]);
    ctx.put_inode(&inode)?;
    Ok(layout_reply(&inode))
}

/// Makes the reserved objects the file. The caller removes the inline row.
fn promote(inode: &mut Inode) {
    if let Body::File(file) = &mut inode.body
        && let (Some(pending), Some(first)) = (file.pending.take(), file.components.first_mut())
    {
        first.osts = pending.osts;
        first.object_generation = pending.object_generation;
        file.is_inline = false;
        file.inline_bytes = 0;
        inode.attr.layout_gen = inode.attr.layout_gen.wrapping_add(1);
        inode.attr.size_lazy = true;
    }
}

pub(super) fn set_layout(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::SetLayoutOp,
) -> Result<v1::ChangeResponse, NsError> {
    let template = op.layout.clone().map(LayoutTemplate::try_from).transpose()?;
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let fid = inode.attr.fid;
    let parent = inode.links.first().map_or(Fid::ROOT, |link| link.parent);
    match &mut inode.body {
        Body::Directory(default) => *default = template,
        Body::File(file) => {
            hsm::must_be_here(fid, file)?;
            if !file.is_inline || file.inline_bytes > 0 || inode.attr.size > 0 {
                return Err(NsError::HasData(fid));
            }
            free::destroy_pending(ctx, fid, file, WorkKind::DestroyTombstone)?;
            let (object_generation, data_version) = (file.object_generation, file.data_version);
            let hsm = file.hsm;
            let template = match template {
                Some(template) => template,
                None => default_layout(ctx, &ctx.directory(parent)?)?,
            };
            *file = FileBody { object_generation, data_version, hsm, ..FileBody::new(template) };
            inode.attr.layout_gen = inode.attr.layout_gen.wrapping_add(1);
        }
        Body::Symlink(_) | Body::Special => {
            return Err(NsError::Invalid("neither a regular file nor a directory"));
        }
    }
    inode.attr.ctime = ctx.time;
    ctx.put_inode(&inode)?;
    Ok(layout_reply(&inode))
}
