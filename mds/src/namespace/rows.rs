//! Typed reads of single rows.

use std::ops::ControlFlow;

use bytes::Bytes;
use nacre_model::Fid;

use super::NsError;
use crate::record::{Counters, Entry, Inode, Record, Superblock, decode_raw, key as keys};
use crate::store::{StoreError, View};

/// Names with the same hash: cookies of one hash differ in their last three bits.
pub(super) const RANKS: u64 = 8;

/// Where a name is, or could be.
#[derive(Debug)]
pub(super) enum Place {
    /// It is there.
    Taken(u64, Entry),
    /// It is not; this cookie is the smallest free one of its hash.
    Free(u64),
    /// It is not, and all cookies of its hash are taken.
    Full,
}

/// The row of a key.
pub(super) fn row<R: Record>(view: &dyn View, key: &[u8]) -> Result<Option<R>, NsError> {
    Ok(view.get(key)?.map(R::decode).transpose()?)
}

pub(super) fn superblock(view: &dyn View) -> Result<Superblock, NsError> {
    row(view, &keys::superblock())?.ok_or(NsError::NotFormatted)
}

pub(super) fn counters(view: &dyn View) -> Result<Counters, NsError> {
    row(view, &keys::counters())?.ok_or(NsError::NotFormatted)
}

pub(super) fn find_inode(view: &dyn View, fid: Fid) -> Result<Option<Inode>, NsError> {
    match view.get(&keys::inode(fid))? {
        None => Ok(None),
        Some(bytes) => Ok(Some(Inode::decode(fid, bytes)?)),
    }
}

pub(super) fn inode(view: &dyn View, fid: Fid) -> Result<Inode, NsError> {
    find_inode(view, fid)?.ok_or(NsError::Gone(fid))
}

/// A directory in which names can be looked for.
pub(super) fn directory(view: &dyn View, fid: Fid) -> Result<Inode, NsError> {
    match find_inode(view, fid)? {
        None => Err(NsError::NoDirectory(fid)),
        Some(inode) if !inode.is_dir() => Err(NsError::NotDirectory(fid)),
        Some(inode) if inode.attr.nlink == 0 => Err(NsError::NoDirectory(fid)),
        Some(inode) => Ok(inode),
    }
}

/// Inline bytes of a file; none when it has no such row.
pub(super) fn inline(view: &dyn View, fid: Fid) -> Result<Bytes, NsError> {
    match view.get(&keys::inline(fid))? {
        None => Ok(Bytes::new()),
        Some(bytes) => Ok(decode_raw(bytes)?),
    }
}

/// Looks for a name that is expected to exist: one `get` when its hash is its own.
pub(super) fn find_entry(
    view: &dyn View,
    superblock: &Superblock,
    parent: Fid,
    name: &[u8],
) -> Result<Option<(u64, Entry)>, NsError> {
    let cookie = superblock.cookie(name);
    if let Some(entry) = row::<Entry>(view, &keys::entry(parent, cookie))?
        && entry.name == name
    {
        return Ok(Some((cookie, entry)));
    }
    match place(view, superblock, parent, name)? {
        Place::Taken(cookie, entry) => Ok(Some((cookie, entry))),
        Place::Free(_) | Place::Full => Ok(None),
    }
}

/// Looks for a name that is expected not to exist, and where to put it.
pub(super) fn place(
    view: &dyn View,
    superblock: &Superblock,
    parent: Fid,
    name: &[u8],
) -> Result<Place, NsError> {
    let first = superblock.cookie(name);
    let end = first.saturating_add(RANKS);
    let mut free = first;
    let mut found = None;
    let mut bad = None;
    let (from, to) = (keys::entry(parent, first), keys::entry(parent, end));
    view.scan(&from, &to, &mut |key, value| {
        let decoded = keys::entry_of(key)
            .and_then(|(_, cookie)| Ok((cookie, Entry::decode(value.to_vec())?)));
        match decoded {
            Ok((cookie, entry)) => {
                if entry.name == name {
                    found = Some((cookie, entry));
                    return ControlFlow::Break(());
                }
                if cookie == free {
                    free = free.saturating_add(1);
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                bad = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match (bad, found) {
        (Some(error), _) => Err(error.into()),
        (None, Some((cookie, entry))) => Ok(Place::Taken(cookie, entry)),
        (None, None) if free < end => Ok(Place::Free(free)),
        (None, None) => Ok(Place::Full),
    }
}

/// Whether nothing is between two keys.
pub(super) fn is_empty(view: &dyn View, from: &[u8], to: &[u8]) -> Result<bool, StoreError> {
    let mut empty = true;
    view.scan(from, to, &mut |_, _| {
        empty = false;
        ControlFlow::Break(())
    })?;
    Ok(empty)
}

/// Whether a directory has no entries.
pub(super) fn is_empty_directory(view: &dyn View, fid: Fid) -> Result<bool, StoreError> {
    is_empty(view, &keys::entry(fid, 0), &keys::entry(fid, u64::MAX))
}

/// All keys from `from` on and before `to`, at most `max`.
pub(super) fn keys_between(
    view: &dyn View,
    from: &[u8],
    to: &[u8],
    max: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut found = Vec::new();
    view.scan(from, to, &mut |key, _| {
        if found.len() < max {
            found.push(key.to_vec());
        }
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}
