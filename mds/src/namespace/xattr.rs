//! Extended attributes.

use nacre_model::{Fid, FileKind};
use nacre_proto::{XATTR_BYTES_MAX, v1};

use super::acl::{ACCESS, Acl, DEFAULT};
use super::apply::attr_reply;
use super::create::SETGID;
use super::ctx::{Ctx, fid};
use super::{NsError, XATTR_NAMES_BYTES_MAX, XATTR_TOTAL_BYTES_MAX};
use crate::record::{Inode, XattrUse, decode_raw, encode_raw, key as keys};

/// Linux: `XATTR_NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;
/// File capabilities: any write or change of owner takes them away.
const CAPABILITY: &[u8] = b"security.capability";
/// Namespaces in which any name may be set.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Whether an attribute could have this name.
pub(super) fn check_name(name: &[u8]) -> Result<(), NsError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
        return Err(NsError::XattrName(name.len()));
    }
    Ok(())
}

fn check_supported(inode: &Inode, name: &[u8]) -> Result<(), NsError> {
    check_name(name)?;
    let kind = inode.attr.kind;
    if name == ACCESS || name == DEFAULT {
        if kind == FileKind::Symlink {
            return Err(NsError::XattrUnsupported(NsError::show(name)));
        }
    } else if PREFIXES.contains(&name) {
        return Err(NsError::Invalid("attribute name is only a prefix"));
    } else if !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(NsError::XattrUnsupported(NsError::show(name)));
    }
    let plain = matches!(kind, FileKind::Regular | FileKind::Directory);
    if name.starts_with(b"user.") && !plain {
        return Err(NsError::XattrUser(inode.attr.fid));
    }
    Ok(())
}

pub(super) fn setxattr(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::SetxattrOp,
) -> Result<v1::ChangeResponse, NsError> {
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    let name = op.name.as_ref();
    check_supported(&inode, name)?;
    if op.value.len() > XATTR_BYTES_MAX {
        return Err(NsError::XattrTooBig(op.value.len()));
    }
    expect(ctx, &inode, op)?;
    if name == ACCESS {
        set_access(ctx, &mut inode, op)?;
    } else if name == DEFAULT {
        let acl = Acl::parse(&op.value)?;
        match (acl, inode.is_dir()) {
            (Some(_), false) => return Err(NsError::DefaultAcl(inode.attr.fid)),
            (Some(acl), true) => put(ctx, &mut inode, DEFAULT, &acl.encode())?,
            (None, _) => {
                remove(ctx, &mut inode, DEFAULT)?;
            }
        }
    } else {
        put(ctx, &mut inode, name, &op.value)?;
    }
    inode.attr.ctime = ctx.time;
    ctx.put_inode(&inode)?;
    Ok(attr_reply(&inode))
}

fn expect(ctx: &Ctx<'_, '_>, inode: &Inode, op: &v1::SetxattrOp) -> Result<(), NsError> {
    if !op.create && !op.replace {
        return Ok(());
    }
    let there = exists(ctx, inode, &op.name)?;
    let (fid, name) = (inode.attr.fid, || NsError::show(&op.name));
    match (there, op.create, op.replace) {
        (true, true, _) => Err(NsError::XattrExists { fid, name: name() }),
        (false, _, true) => Err(NsError::NoXattr { fid, name: name() }),
        (true, false, _) | (false, _, false) => Ok(()),
    }
}

/// An access ACL sets the mode's bits too, and is not kept when these say it all.
fn set_access(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    op: &v1::SetxattrOp,
) -> Result<(), NsError> {
    match Acl::parse(&op.value)? {
        None => {
            remove(ctx, inode, ACCESS)?;
        }
        Some(acl) => {
            inode.attr.perm = (inode.attr.perm & !0o777) | acl.mode();
            if acl.is_mode() {
                remove(ctx, inode, ACCESS)?;
            } else {
                put(ctx, inode, ACCESS, &acl.encode())?;
            }
        }
    }
    if op.kill_sgid {
        inode.attr.perm &= !SETGID;
    }
    Ok(())
}

pub(super) fn removexattr(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::RemovexattrOp,
) -> Result<v1::ChangeResponse, NsError> {
    let mut inode = ctx.inode(fid("fid", op.fid)?)?;
    check_supported(&inode, &op.name)?;
    // As Linux: removing an ACL that is not there succeeds.
    let is_acl = op.name == ACCESS || op.name == DEFAULT;
    if remove(ctx, &mut inode, &op.name)? {
        inode.attr.ctime = ctx.time;
        ctx.put_inode(&inode)?;
    } else if !is_acl {
        return Err(NsError::NoXattr { fid: inode.attr.fid, name: NsError::show(&op.name) });
    }
    Ok(attr_reply(&inode))
}

fn exists(ctx: &Ctx<'_, '_>, inode: &Inode, name: &[u8]) -> Result<bool, NsError> {
    Ok(inode.xattrs.count > 0 && ctx.get(&keys::xattr(inode.attr.fid, name))?.is_some())
}

/// Length of a value; `None` when there is none.
fn value_len(ctx: &Ctx<'_, '_>, fid: Fid, name: &[u8]) -> Result<Option<u32>, NsError> {
    match ctx.get(&keys::xattr(fid, name))? {
        None => Ok(None),
        Some(bytes) => Ok(Some(wide(decode_raw(bytes)?.len()))),
    }
}

fn wide(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Sets an attribute. The caller puts the inode.
pub(super) fn put(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    name: &[u8],
    value: &[u8],
) -> Result<(), NsError> {
    let fid = inode.attr.fid;
    let old = if inode.xattrs.count > 0 { value_len(ctx, fid, name)? } else { None };
    let mut used = inode.xattrs;
    if let Some(old) = old {
        used.value_bytes = used.value_bytes.saturating_sub(old);
    } else {
        used.count = used.count.saturating_add(1);
        used.name_bytes = used.name_bytes.saturating_add(wide(name.len())).saturating_add(1);
    }
    used.value_bytes = used.value_bytes.saturating_add(wide(value.len()));
    if used.value_bytes > XATTR_TOTAL_BYTES_MAX || used.name_bytes > XATTR_NAMES_BYTES_MAX {
        return Err(NsError::XattrSpace(fid));
    }
    inode.xattrs = used;
    ctx.txn.put(keys::xattr(fid, name), encode_raw(value));
    Ok(())
}

/// Removes an attribute; `false` when there was none. The caller puts the inode.
pub(super) fn remove(
    ctx: &mut Ctx<'_, '_>,
    inode: &mut Inode,
    name: &[u8],
) -> Result<bool, NsError> {
    let fid = inode.attr.fid;
    if inode.xattrs.count == 0 {
        return Ok(false);
    }
    let Some(len) = value_len(ctx, fid, name)? else {
        return Ok(false);
    };
    let XattrUse { count, value_bytes, name_bytes } = inode.xattrs;
    inode.xattrs = XattrUse {
        count: count.saturating_sub(1),
        value_bytes: value_bytes.saturating_sub(len),
        name_bytes: name_bytes.saturating_sub(wide(name.len())).saturating_sub(1),
    };
    ctx.txn.remove(keys::xattr(fid, name));
    Ok(true)
}

/// An ACL of an inode.
pub(super) fn acl(ctx: &Ctx<'_, '_>, inode: &Inode, name: &[u8]) -> Result<Option<Acl>, NsError> {
    if inode.xattrs.count == 0 {
        return Ok(None);
    }
    match ctx.get(&keys::xattr(inode.attr.fid, name))? {
        None => Ok(None),
        Some(bytes) => Acl::parse(&decode_raw(bytes)?),
    }
}

/// Sets permission bits, and the access ACL's entries with them. The caller puts the inode.
pub(super) fn chmod(ctx: &mut Ctx<'_, '_>, inode: &mut Inode, perm: u32) -> Result<(), NsError> {
    inode.attr.perm = perm;
    if let Some(mut acl) = acl(ctx, inode, ACCESS)? {
        acl.set_mode(perm);
        put(ctx, inode, ACCESS, &acl.encode())?;
    }
    Ok(())
}

/// File capabilities do not survive a write, a truncation or a change of owner. The caller puts
/// the inode.
pub(super) fn drop_capability(ctx: &mut Ctx<'_, '_>, inode: &mut Inode) -> Result<(), NsError> {
    remove(ctx, inode, CAPABILITY)?;
    Ok(())
}
