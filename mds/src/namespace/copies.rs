//! What a file's HSM record says of its copy, as objects come and go.

use nacre_model::Fid;
use nacre_proto::v1;

use super::ctx::Ctx;
use super::data::as_file;
use super::hsm::{put, row};
use super::{NsError, rows};
use crate::record::{HsmFlags, Inode};

/// What is known of a file whose copy is this.
pub(super) fn record_of(object: &v1::ExportedObject) -> v1::HsmRecord {
    v1::HsmRecord {
        archive_id: object.repository,
        copy: Some(copy_of(object)),
        ..v1::HsmRecord::default()
    }
}

/// There is a copy now.
pub(super) fn has_copy(
    inode: &mut Inode,
    row: &mut v1::HsmRecord,
    copy: v1::HsmCopy,
) -> Result<(), NsError> {
    let lazy = inode.attr.size_lazy;
    let (_, file) = as_file(inode)?;
    file.hsm.insert(HsmFlags::EXISTS | HsmFlags::ARCHIVED);
    file.hsm.remove(HsmFlags::LOST);
    // Whoever opens a file whose size is lazy already raises no version.
    if file.data_version == copy.data_version && !lazy {
        file.hsm.remove(HsmFlags::DIRTY);
    } else {
        file.hsm.insert(HsmFlags::DIRTY);
    }
    row.copy = Some(copy);
    Ok(())
}

fn copy_of(object: &v1::ExportedObject) -> v1::HsmCopy {
    v1::HsmCopy {
        bucket: object.bucket.clone(),
        key: object.key.clone(),
        etag: object.etag.clone(),
        version_id: object.version_id.clone(),
        size: object.size,
        data_version: object.data_version,
    }
}

/// Objects of an inode were put: the first is the copy of a file.
pub(super) fn exported(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    objects: &[v1::ExportedObject],
) -> Result<(), NsError> {
    let (Some(object), Some(mut inode)) = (objects.first(), rows::find_inode(ctx.txn, fid)?) else {
        return Ok(());
    };
    if as_file(&mut inode).is_err() {
        return Ok(());
    }
    let mut row = row(ctx, fid)?;
    row.archive_id = object.repository;
    has_copy(&mut inode, &mut row, copy_of(object))?;
    put(ctx, &mut inode, &row)
}

/// Objects of an inode were deleted; these are left.
pub(super) fn copies_left(
    ctx: &mut Ctx<'_, '_>,
    fid: Fid,
    left: &[v1::ExportedObject],
) -> Result<(), NsError> {
    let Some(mut inode) = rows::find_inode(ctx.txn, fid)? else { return Ok(()) };
    let Ok((_, file)) = as_file(&mut inode) else { return Ok(()) };
    let mut row = row(ctx, fid)?;
    let Some(copy) = &row.copy else { return Ok(()) };
    let is_there = |object: &v1::ExportedObject| *copy == copy_of(object);
    if left.iter().any(is_there) {
        return Ok(());
    }
    let same = left.iter().find(|object| object.data_version == copy.data_version);
    match same.map(copy_of) {
        Some(copy) => row.copy = Some(copy),
        None if file.hsm.contains(HsmFlags::RELEASED) => file.hsm.insert(HsmFlags::LOST),
        None => {
            row.copy = None;
            file.hsm
                .remove(HsmFlags::EXISTS | HsmFlags::ARCHIVED | HsmFlags::DIRTY | HsmFlags::LOST);
        }
    }
    put(ctx, &mut inode, &row)
}

/// The copy may not be there any more: it must not be all that is left of the file.
pub(super) fn doubt_copy(ctx: &mut Ctx<'_, '_>, mut inode: Inode) -> Result<(), NsError> {
    let Ok((fid, file)) = as_file(&mut inode) else { return Ok(()) };
    if !file.hsm.contains(HsmFlags::ARCHIVED) {
        return Ok(());
    }
    file.hsm.insert(HsmFlags::DIRTY);
    let row = row(ctx, fid)?;
    put(ctx, &mut inode, &row)
}
