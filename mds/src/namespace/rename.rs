//! Rename: plain, over something, exchanging.

use nacre_model::{Fid, Name};
use nacre_proto::v1;

use super::apply::attr_reply;
use super::ctx::{Ctx, fid, name};
use super::{NsError, export, free, read, rows};
use crate::record::{Entry, Inode, key as keys};

/// A name in a directory.
struct Spot {
    parent: Fid,
    name: Name,
}

/// The reply has the attributes of the inode that `name` named.
pub(super) fn rename(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::RenameOp,
) -> Result<v1::ChangeResponse, NsError> {
    if op.noreplace && op.exchange {
        return Err(NsError::Invalid("rename cannot both exchange and not replace"));
    }
    let parent = ctx.directory(fid("parent", op.parent)?)?.attr.fid;
    let from = Spot { parent, name: name(&op.name)? };
    let parent = ctx.directory(fid("new_parent", op.new_parent)?)?.attr.fid;
    let to = Spot { parent, name: name(&op.new_name)? };

    let (old_cookie, source) = ctx.expect_entry(from.parent, &from.name)?;
    let target = ctx.find(to.parent, &to.name)?;
    let (found, told) = (target.as_ref().map(|(_, entry)| entry.fid), op.replaced.map(Fid::from));
    if ctx.caller.in_batch && found != told && found != Some(source.fid) {
        return Err(NsError::Elsewhere { found, told });
    }
    if op.noreplace && target.is_some() {
        let name = NsError::show(to.name.as_bytes());
        return Err(NsError::Exists { parent: to.parent, name });
    }
    if op.exchange && target.is_none() {
        let name = NsError::show(to.name.as_bytes());
        return Err(NsError::NoEntry { parent: to.parent, name });
    }
    let moved = ctx.inode(source.fid)?;
    for fid in found.into_iter().chain([source.fid]) {
        if moved.is_dir() && export::is_linked(ctx, fid)? {
            return Err(NsError::LinkedFolder(fid));
        }
    }
    if let Some((_, entry)) = &target
        && entry.fid == source.fid
    {
        return Ok(attr_reply(&moved));
    }
    if moved.is_dir() && read::is_ancestor(ctx.txn, source.fid, to.parent)? {
        return Err(NsError::IntoItself(source.fid));
    }
    match target {
        Some((cookie, entry)) if op.exchange => {
            exchange(ctx, (&from, old_cookie), (&to, cookie), moved, &entry)
        }
        target => replace(ctx, (&from, old_cookie), &to, moved, target),
    }
}

fn replace(
    ctx: &mut Ctx<'_, '_>,
    (from, old_cookie): (&Spot, u64),
    to: &Spot,
    mut moved: Inode,
    target: Option<(u64, Entry)>,
) -> Result<v1::ChangeResponse, NsError> {
    let is_dir = moved.is_dir();
    let mut lost_subdir = 0;
    let cookie = match target {
        None => ctx.free_cookie(to.parent, &to.name)?,
        Some((cookie, entry)) => {
            let victim = ctx.inode(entry.fid)?;
            match (is_dir, victim.is_dir()) {
                (true, false) => return Err(NsError::NotDirectory(entry.fid)),
                (false, true) => return Err(NsError::IsDirectory(entry.fid)),
                (true, true) if !rows::is_empty_directory(ctx.txn, entry.fid)? => {
                    return Err(NsError::NotEmpty(entry.fid));
                }
                (true, true) => lost_subdir = 1,
                (false, false) => {}
            }
            free::drop_link(ctx, victim, to.parent, &to.name)?;
            cookie
        }
    };
    ctx.txn.remove(keys::entry(from.parent, old_cookie));
    ctx.put_entry(to.parent, cookie, &to.name, &moved.attr);
    relink(ctx, &mut moved, from, to)?;
    let subdir = i32::from(is_dir);
    if from.parent == to.parent {
        ctx.touch_directory(to.parent, -lost_subdir)?;
    } else {
        ctx.touch_directory(from.parent, -subdir)?;
        ctx.touch_directory(to.parent, subdir - lost_subdir)?;
    }
    Ok(attr_reply(&ctx.inode(moved.attr.fid)?))
}

fn exchange(
    ctx: &mut Ctx<'_, '_>,
    (from, old_cookie): (&Spot, u64),
    (to, cookie): (&Spot, u64),
    mut moved: Inode,
    entry: &Entry,
) -> Result<v1::ChangeResponse, NsError> {
    let mut other = ctx.inode(entry.fid)?;
    if other.is_dir() && read::is_ancestor(ctx.txn, entry.fid, from.parent)? {
        return Err(NsError::IntoItself(entry.fid));
    }
    ctx.put_entry(to.parent, cookie, &to.name, &moved.attr);
    ctx.put_entry(from.parent, old_cookie, &from.name, &other.attr);
    relink(ctx, &mut moved, from, to)?;
    relink(ctx, &mut other, to, from)?;
    if from.parent == to.parent {
        ctx.touch_directory(to.parent, 0)?;
    } else {
        let gained = i32::from(moved.is_dir()) - i32::from(other.is_dir());
        ctx.touch_directory(from.parent, -gained)?;
        ctx.touch_directory(to.parent, gained)?;
    }
    Ok(attr_reply(&ctx.inode(moved.attr.fid)?))
}

/// The inode's own side of a move.
fn relink(ctx: &mut Ctx<'_, '_>, inode: &mut Inode, from: &Spot, to: &Spot) -> Result<(), NsError> {
    inode.remove_link(from.parent, &from.name);
    inode.add_link(to.parent, &to.name);
    inode.attr.ctime = ctx.time;
    inode.settle_links();
    ctx.moved.push(inode.attr.fid);
    ctx.put_inode(inode)
}
