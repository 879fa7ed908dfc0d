//! Bytes in the inode, and what clients tell after writing objects.

use nacre_model::layout::FILE_BYTES_MAX;
use nacre_model::{Fid, Timestamp};
use nacre_proto::v1;
use nacre_proto::v1::WorkKind;

use super::apply::attr_reply;
use super::ctx::{Ctx, fid, time};
use super::{BLOCK_UNIT, INLINE_BYTES_MAX, NsError, free, hsm, rows, setattr, xattr};
use crate::record::{Body, FileBody, Inode};

/// Sets a file's inline row, and what the inode knows of it. The caller puts the inode.
pub(super) fn put_bytes(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    bytes: &[u8],
) -> Result<(), NsError> {
    let fid = inode.attr.fid;
    let (_, file) = as_file(inode)?;
    file.inline_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    inode.attr.blocks = (bytes.len() as u64).div_ceil(BLOCK_UNIT);
    ctx.put_inline(fid, bytes);
    Ok(())
}

/// The regular file in an inode.
pub(super) fn as_file(inode: &mut Inode) -> Result<(Fid, &mut FileBody), NsError> {
    let fid = inode.attr.fid;
    match &mut inode.body {
        Body::File(file) => Ok((fid, file)),
        Body::Directory(_) => Err(NsError::IsDirectory(fid)),
        Body::Symlink(_) | Body::Special => Err(NsError::Invalid("not a regular file")),
    }
}

pub(super) fn write_inline(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::WriteInlineOp,
) -> Result<v1::ChangeResponse, NsError> {
    let mtime = time(op.mtime)?;
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let size = inode.attr.size;
    let (fid, file) = as_file(&mut inode)?;
    hsm::must_be_here(fid, file)?;
    if !file.is_inline {
        return Err(NsError::NotInline(fid));
    }
    hsm::bytes_change(file);
    if let Some(len) = op.punch_len {
        if file.inline_bytes > 0 && len > 0 {
            overtake(ctx, fid, file)?;
            let kept = punch(rows::inline(ctx.txn, fid)?.to_vec(), op.offset, len);
            put_bytes(ctx, &mut inode, &kept)?;
        }
    } else if !op.data.is_empty() {
        let end = op.offset.saturating_add(op.data.len() as u64);
        if end > u64::from(INLINE_BYTES_MAX) {
            return Err(NsError::InlineFull { fid, end });
        }
        overtake(ctx, fid, file)?;
        let bytes = overwrite(rows::inline(ctx.txn, fid)?.to_vec(), op.offset, &op.data);
        put_bytes(ctx, &mut inode, &bytes)?;
        inode.attr.size = size.max(end);
    }
    inode.attr.mtime = mtime.unwrap_or(ctx.time);
    inode.attr.ctime = changed(ctx, &inode, mtime);
    written(ctx, &mut inode, op.kill_suidgid)?;
    ctx.put_inode(&inode)?;
    Ok(attr_reply(&inode))
}

/// A promotion under way has copied bytes that are about to change: its objects are forsaken, and
/// its commit will find so.
fn overtake(ctx: &mut Ctx<'_, '_>, fid: Fid, file: &mut FileBody) -> Result<(), NsError> {
    free::destroy_pending(ctx, fid, file, WorkKind::DestroyTombstone)?;
    file.pending = None;
    Ok(())
}

/// `bytes` with `data` at `offset`, and zeros between. Both ends are below [`INLINE_BYTES_MAX`].
fn overwrite(mut bytes: Vec<u8>, offset: u64, data: &[u8]) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(range) = bytes.get_mut(start..end) {
        range.copy_from_slice(data);
    }
    bytes
}

/// `bytes` with zeros at `offset`; a hole at the end needs no bytes.
fn punch(mut bytes: Vec<u8>, offset: u64, len: u64) -> Vec<u8> {
    let have = bytes.len();
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(have);
    let (start, end) = (clamp(offset), clamp(offset.saturating_add(len)));
    if end == have {
        bytes.truncate(start);
    } else if let Some(range) = bytes.get_mut(start..end) {
        range.fill(0);
    }
    bytes
}

/// When a file was changed that a client wrote at `mtime` and tells of now: the client has told its
/// applications that time already.
fn changed(ctx: &Ctx<'_, '_>, inode: &Inode, mtime: Option<Timestamp>) -> Timestamp {
    mtime.map_or(ctx.time, |mtime| mtime.min(ctx.time)).max(inode.attr.ctime)
}

/// After a write: capabilities go, set-id bits when the writer may not keep them.
fn written(ctx: &mut Ctx<'_, '_>, inode: &mut Inode, kill: bool) -> Result<(), NsError> {
    if kill { setattr::kill_set_ids(ctx, inode) } else { xattr::drop_capability(ctx, inode) }
}

/// What a client knows of the objects it wrote. While the file is inline (somebody cut it to 0
/// since), sizes and blocks of its objects say nothing about it and are passed over.
pub(super) fn settle(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::SettleOp,
) -> Result<v1::ChangeResponse, NsError> {
    let (atime, mtime) = (time(op.atime)?, time(op.mtime)?);
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let before = inode.clone();
    let only_writer = !ctx.caller.used_by_others.contains(&inode.attr.fid);
    if let Body::File(file) = &inode.body
        && !file.is_inline
    {
        if let Some(size) = op.size {
            if size > FILE_BYTES_MAX {
                return Err(NsError::TooFar { fid: inode.attr.fid, offset: size });
            }
            inode.attr.size = inode.attr.size.max(size);
        }
        inode.attr.blocks = op.blocks.unwrap_or(inode.attr.blocks);
        // Whoever has written beside others does not say how far: the objects know.
        inode.attr.size_lazy |= mtime.is_some() && op.size.is_none();
        if op.exact && only_writer {
            inode.attr.size_lazy = false;
        }
    }
    if let Some(mtime) = mtime {
        inode.attr.mtime = mtime;
        if let Body::File(file) = &mut inode.body {
            hsm::bytes_change(file);
        }
        written(ctx, &mut inode, op.kill_suidgid)?;
    } else if op.kill_suidgid {
        setattr::kill_set_ids(ctx, &mut inode)?;
    }
    // A size by itself belongs to a write that was told before.
    if op.mtime.is_some() || inode.attr.perm != before.attr.perm {
        inode.attr.ctime = changed(ctx, &inode, mtime);
    }
    inode.attr.atime = atime.unwrap_or(inode.attr.atime);
    if inode != before {
        ctx.put_inode(&inode)?;
    }
    Ok(attr_reply(&inode))
}

/// Somebody opens the file for writing: from now on its objects may reach beyond its size. Inline
/// files have none, and `instantiate` and `promote` mark them when they get some.
pub(super) fn mark_lazy(ctx: &mut Ctx<'_, '_>, fid: Fid) -> Result<(), NsError> {
    let Some(mut inode) = rows::find_inode(ctx.txn, fid)? else {
        return Ok(());
    };
    if let Body::File(file) = &mut inode.body
        && !file.is_inline
        && !inode.attr.size_lazy
    {
        hsm::bytes_change(file);
        inode.attr.size_lazy = true;
        ctx.put_inode(&inode)?;
    }
    Ok(())
}
