//! Pure reads of a committed state, or of a transaction.

use std::ops::ControlFlow;

use bytes::Bytes;
use nacre_model::{Attr, Fid, FileKind, Layout, LayoutTemplate};
use nacre_proto::v1;

use super::{NsError, rows, xattr};
use crate::command::Work;
use crate::record::{
    BadRecord, Body, Entry, HsmFlags, Inode, Record, Session, SessionId, WorkItem, decode_raw,
    key as keys,
};
use crate::store::View;

/// Most directories above one another that a path is followed through.
const DEPTH_MAX: usize = 1 << 16;
/// Most entries of one listing, whatever bytes are allowed.
const LISTING_ENTRIES_MAX: usize = 1 << 14;
/// About what an entry takes in an answer, without its name.
const ENTRY_BYTES: usize = 40;
/// About what attributes take in an answer.
const ATTR_BYTES: usize = 110;

/// Everything that opening a file needs.
#[derive(Debug, Clone, PartialEq)]
pub struct FileView {
    /// Attributes.
    pub attr: Attr,
    /// Of a regular file.
    pub layout: Option<Layout>,
    /// `inline_data`, and zeros up to the size, are the file.
    pub is_inline: bool,
    /// May be shorter than the size.
    pub inline_data: Bytes,
    /// Of a directory: the layout for files made in it.
    pub directory_default: Option<LayoutTemplate>,
}

/// One page of a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Ascending by cookie, without `.` and `..`.
    pub entries: Vec<ListedEntry>,
    /// Nothing follows.
    pub eof: bool,
    /// The directory above; of the root the root itself.
    pub parent: Fid,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedEntry {
    /// The name.
    pub name: Bytes,
    /// Where to go on after it: 8 <= cookie < 2^63.
    pub cookie: u64,
    /// What it names.
    pub fid: Fid,
    /// What that is.
    pub kind: FileKind,
}

/// Counts of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Inodes, with the root and with orphans.
    pub inodes: u64,
    /// Fids that can be given out before another sequence is needed.
    pub fids_left: u64,
    /// Sequence number of the next work record.
    pub next_work: u64,
}

/// Attributes of an inode.
pub fn getattr(view: &dyn View, fid: Fid) -> Result<Attr, NsError> {
    Ok(rows::inode(view, fid)?.attr)
}

/// Attributes of what a name names; `..` is the directory above, of the root the root itself.
pub fn lookup(view: &dyn View, parent: Fid, name: &[u8]) -> Result<Attr, NsError> {
    let directory = rows::directory(view, parent)?;
    if name == b".." {
        return getattr(view, above(&directory));
    }
    let name = super::ctx::name(name)?;
    let superblock = rows::superblock(view)?;
    match rows::find_entry(view, &superblock, parent, name.as_bytes())? {
        Some((_, entry)) => match rows::find_inode(view, entry.fid)? {
            Some(inode) => Ok(inode.attr),
            None => Err(NsError::Inconsistent { fid: entry.fid, what: "inode of an entry" }),
        },
        None => Err(NsError::NoEntry { parent, name: NsError::show(name.as_bytes()) }),
    }
}

/// What a name leads to, without looking at that inode.
pub fn lookup_fid(view: &dyn View, parent: Fid, name: &[u8]) -> Result<Option<Fid>, NsError> {
    let name = super::ctx::name(name)?;
    let superblock = rows::superblock(view)?;
    let found = rows::find_entry(view, &superblock, parent, name.as_bytes())?;
    Ok(found.map(|(_, entry)| entry.fid))
}

fn above(directory: &Inode) -> Fid {
    directory.links.first().map_or(directory.attr.fid, |link| link.parent)
}

/// The entries after `cookie` (0: from the start), about `bytes_max` bytes of them but at least one;
/// with `plus` there is room for attributes, which [`listed_attr`] tells.
///
/// An entry keeps its cookie as long as it exists, so a listing that goes on from the last cookie
/// shows everything exactly once that was there from its beginning to its end. A directory that
/// was removed while open is empty.
pub fn readdir(
    view: &dyn View,
    fid: Fid,
    cookie: u64,
    bytes_max: usize,
    plus: bool,
) -> Result<Listing, NsError> {
    let directory = rows::inode(view, fid)?;
    if !directory.is_dir() {
        return Err(NsError::NotDirectory(fid));
    }
    let mut listing = Listing { entries: Vec::new(), eof: true, parent: above(&directory) };
    let mut left = bytes_max;
    let mut bad = None;
    let each = if plus { ENTRY_BYTES.saturating_add(ATTR_BYTES) } else { ENTRY_BYTES };
    let from = keys::entry(fid, cookie.saturating_add(1));
    view.scan(&from, &keys::entry(fid, u64::MAX), &mut |key, value| {
        let need = value.len().saturating_add(each);
        if !listing.entries.is_empty()
            && (need > left || listing.entries.len() >= LISTING_ENTRIES_MAX)
        {
            listing.eof = false;
            return ControlFlow::Break(());
        }
        left = left.saturating_sub(need);
        match listed(key, value) {
            Ok(entry) => listing.entries.push(entry),
            Err(error) => {
                bad = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = bad {
        return Err(error.into());
    }
    Ok(listing)
}

/// Attributes of an entry of a listing; none when it is gone since.
pub fn listed_attr(view: &dyn View, fid: Fid) -> Result<Option<Attr>, NsError> {
    Ok(rows::find_inode(view, fid)?.map(|inode| inode.attr))
}

fn listed(key: &[u8], value: &[u8]) -> Result<ListedEntry, BadRecord> {
    let (_, cookie) = keys::entry_of(key)?;
    let Entry { name, fid, kind } = Entry::decode(value.to_vec())?;
    Ok(ListedEntry { name, cookie, fid, kind })
}

/// Where a symbolic link leads.
pub fn readlink(view: &dyn View, fid: Fid) -> Result<Bytes, NsError> {
    match rows::inode(view, fid)?.body {
        Body::Symlink(target) => Ok(target),
        Body::File(_) | Body::Directory(_) | Body::Special => {
            Err(NsError::Invalid("not a symbolic link"))
        }
    }
}

/// The value of an extended attribute.
pub fn getxattr(view: &dyn View, fid: Fid, name: &[u8]) -> Result<Bytes, NsError> {
    let inode = rows::inode(view, fid)?;
    xattr::check_name(name)?;
    let none = || NsError::NoXattr { fid, name: NsError::show(name) };
    if inode.xattrs.count == 0 {
        return Err(none());
    }
    let value = view.get(&keys::xattr(fid, name))?.ok_or_else(none)?;
    Ok(decode_raw(value)?)
}

/// Names of all extended attributes, ascending.
pub fn listxattr(view: &dyn View, fid: Fid) -> Result<Vec<Bytes>, NsError> {
    let inode = rows::inode(view, fid)?;
    if inode.xattrs.count == 0 {
        return Ok(Vec::new());
    }
    let (from, to) = (keys::xattr(fid, b""), keys::xattr_end(fid));
    let mut names = Vec::new();
    for key in rows::keys_between(view, &from, &to, usize::MAX)? {
        names.push(Bytes::copy_from_slice(keys::xattr_of(&key)?.1));
    }
    Ok(names)
}

/// Attributes, layout and inline bytes.
pub fn layout(view: &dyn View, fid: Fid) -> Result<FileView, NsError> {
    let inode = rows::inode(view, fid)?;
    let mut file = FileView {
        layout: None,
        is_inline: false,
        inline_data: Bytes::new(),
        directory_default: None,
        attr: inode.attr,
    };
    match inode.body {
        Body::File(body) => {
            file.layout = Some(body.layout(file.attr.layout_gen));
            // Of a released file there are no bytes to be told.
            file.is_inline = body.is_inline && !body.hsm.contains(HsmFlags::RELEASED);
            if body.inline_bytes != 0 {
                file.inline_data = rows::inline(view, fid)?;
            }
        }
        Body::Directory(default) => file.directory_default = default,
        Body::Symlink(_) | Body::Special => {}
    }
    Ok(file)
}

/// What was wished for a regular file's components: what a placement has to respect. Unlike its
/// layout this tells lists of OSTs, and counts before placement.
pub fn template(view: &dyn View, fid: Fid) -> Result<LayoutTemplate, NsError> {
    match rows::inode(view, fid)?.body {
        Body::File(file) => Ok(file.template()),
        Body::Directory(_) | Body::Symlink(_) | Body::Special => {
            Err(NsError::Invalid("not a regular file"))
        }
    }
}

/// The layout that a file made in this directory gets by default: the directory's own, else the
/// root's. `None` leaves it to the cluster map.
pub fn default_template(view: &dyn View, parent: Fid) -> Result<Option<LayoutTemplate>, NsError> {
    for fid in [parent, Fid::ROOT] {
        if let Body::Directory(Some(template)) = rows::directory(view, fid)?.body {
            return Ok(Some(template));
        }
    }
    Ok(None)
}

/// The paths of an inode from the root, without leading slash; the root's is empty. None for an
/// orphan; not all when it has more than [`super::LINKS_KEPT_MAX`].
pub fn fid2path(view: &dyn View, fid: Fid) -> Result<Vec<Vec<u8>>, NsError> {
    if fid == Fid::ROOT {
        return Ok(vec![Vec::new()]);
    }
    let inode = rows::inode(view, fid)?;
    let mut paths = Vec::with_capacity(inode.links.len());
    for link in &inode.links {
        let mut names = vec![link.name.clone()];
        let mut at = link.parent;
        while at != Fid::ROOT {
            let directory = rows::directory(view, at)?;
            let link = directory.links.first();
            let link = link.ok_or(NsError::Inconsistent { fid: at, what: "parent" })?;
            if names.len() >= DEPTH_MAX {
                return Err(NsError::Inconsistent { fid, what: "path without end" });
            }
            names.push(link.name.clone());
            at = link.parent;
        }
        names.reverse();
        paths.push(names.join(&b'/'));
    }
    Ok(paths)
}

/// Everything about a file and the archive.
#[derive(Debug, Clone, PartialEq)]
pub struct HsmView {
    /// Attributes.
    pub attr: Attr,
    /// Flags.
    pub flags: HsmFlags,
    /// Of its bytes.
    pub data_version: u64,
    /// The copy, and what is under way.
    pub row: v1::HsmRecord,
}

/// What the archive knows of a regular file.
pub fn hsm(view: &dyn View, fid: Fid) -> Result<HsmView, NsError> {
    let inode = rows::inode(view, fid)?;
    let Body::File(file) = inode.body else {
        return Err(NsError::Invalid("not a regular file"));
    };
    let row = rows::row(view, &keys::hsm(fid))?.unwrap_or_default();
    Ok(HsmView { attr: inode.attr, flags: file.hsm, data_version: file.data_version, row })
}

/// An action of the queue; `None` when it has ended.
pub fn action(view: &dyn View, cookie: u64) -> Result<Option<v1::HsmActionRecord>, NsError> {
    rows::row(view, &keys::action(cookie))
}

/// Actions of the queue after `cookie`, ascending, at most `max`.
pub fn actions(
    view: &dyn View,
    cookie: u64,
    max: usize,
) -> Result<Vec<(u64, v1::HsmActionRecord)>, NsError> {
    let (_, to) = keys::all_of(keys::kind::ACTION);
    let mut actions = Vec::new();
    let mut bad = None;
    view.scan(&keys::action(cookie.saturating_add(1)), &to, &mut |key, value| {
        let decoded = keys::number_of(key, keys::kind::ACTION)
            .and_then(|cookie| Ok((cookie, v1::HsmActionRecord::decode(value.to_vec())?)));
        match decoded {
            Ok(action) if actions.len() < max => {
                actions.push(action);
                return ControlFlow::Continue(());
            }
            Ok(_) => {}
            Err(error) => bad = Some(error),
        }
        ControlFlow::Break(())
    })?;
    bad.map_or(Ok(actions), |error| Err(error.into()))
}

/// All data repositories, by number.
pub fn repositories(view: &dyn View) -> Result<Vec<v1::Repository>, NsError> {
    let (from, to) = keys::all_of(keys::kind::REPOSITORY);
    let mut found = Vec::new();
    for key in rows::keys_between(view, &from, &to, super::repository::REPOSITORIES_MAX)? {
        found.extend(rows::row::<v1::Repository>(view, &key)?);
    }
    Ok(found)
}

/// The repository that a path from the root, without leading slash, is in; and the path below the
/// repository's folder.
pub fn repository_of<'p>(
    view: &dyn View,
    path: &'p str,
) -> Result<Option<(v1::Repository, &'p str)>, NsError> {
    let linked = repositories(view)?;
    let found = super::repository::holding(&linked, path);
    Ok(found.map(|(repository, below)| (repository.clone(), below)))
}

/// What a path from the root leads to, without following symbolic links; slashes at its ends do not
/// count.
pub fn resolve(view: &dyn View, path: &str) -> Result<Option<Attr>, NsError> {
    let mut at = getattr(view, Fid::ROOT)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if at.kind != FileKind::Directory {
            return Ok(None);
        }
        let Some(fid) = lookup_fid(view, at.fid, part.as_bytes())? else { return Ok(None) };
        at = getattr(view, fid)?;
    }
    Ok(Some(at))
}

/// Objects of a repository that we know of, with keys after `after`, up to `last` (empty: to the
/// end), at most `max`.
pub fn known_objects(
    view: &dyn View,
    repository: u32,
    (after, last): (&str, &str),
    max: usize,
) -> Result<Vec<(String, v1::KnownRecord)>, NsError> {
    let from = keys::after(&keys::known(repository, after));
    let to = if last.is_empty() {
        keys::known_end(repository)
    } else {
        keys::after(&keys::known(repository, last))
    };
    let mut found = Vec::new();
    for key in rows::keys_between(view, &from, &to, max)? {
        let (_, object) = keys::known_of(&key)?;
        found.extend(rows::row::<v1::KnownRecord>(view, &key)?.map(|row| (object.to_owned(), row)));
    }
    Ok(found)
}

/// Whether `directory` is `below` or one of the directories above it.
pub(super) fn is_ancestor(view: &dyn View, directory: Fid, below: Fid) -> Result<bool, NsError> {
    let mut at = below;
    for _ in 0..DEPTH_MAX {
        if at == directory {
            return Ok(true);
        }
        if at == Fid::ROOT {
            return Ok(false);
        }
        at = above(&rows::directory(view, at)?);
    }
    Err(NsError::Inconsistent { fid: below, what: "path without end" })
}

/// How many inodes there are, with the root and with orphans.
pub fn inode_count(view: &dyn View) -> Result<u64, NsError> {
    Ok(rows::counters(view)?.inodes)
}

/// Counts.
pub fn statistics(view: &dyn View) -> Result<Statistics, NsError> {
    let counters = rows::counters(view)?;
    Ok(Statistics {
        inodes: counters.inodes,
        fids_left: counters.fids_left(),
        next_work: counters.next_work,
    })
}

/// Orphans after `after`, ascending, at most `max`.
pub fn orphans(view: &dyn View, after: Option<Fid>, max: usize) -> Result<Vec<Fid>, NsError> {
    let (start, to) = keys::all_of(keys::kind::ORPHAN);
    let from = after.map_or(start, |fid| keys::after(&keys::orphan(fid)));
    let found = rows::keys_between(view, &from, &to, max)?;
    found.iter().map(|key| Ok(keys::fid_of(key, keys::kind::ORPHAN)?)).collect()
}

/// Work for OSTs that is not done, with sequence numbers after `after`, oldest first, at most `max`.
pub fn pending_work(view: &dyn View, after: u64, max: usize) -> Result<Vec<(u64, Work)>, NsError> {
    let (_, to) = keys::all_of(keys::kind::WORK);
    let from = keys::work(after.saturating_add(1));
    let mut found = Vec::new();
    for key in rows::keys_between(view, &from, &to, max)? {
        if let Some(item) = rows::row::<WorkItem>(view, &key)? {
            found.push((keys::number_of(&key, keys::kind::WORK)?, item.work()));
        }
    }
    Ok(found)
}

/// All sessions, ascending.
pub fn sessions(view: &dyn View) -> Result<Vec<(u64, Session)>, NsError> {
    let (from, to) = keys::all_of(keys::kind::SESSION);
    let mut found = Vec::new();
    for key in rows::keys_between(view, &from, &to, usize::MAX)? {
        if let Some(session) = rows::row::<Session>(view, &key)? {
            found.push((keys::number_of(&key, keys::kind::SESSION)?, session));
        }
    }
    Ok(found)
}

/// One session.
pub fn session(view: &dyn View, session: u64) -> Result<Option<Session>, NsError> {
    rows::row(view, &keys::session(session))
}

/// The session that a mount has.
pub fn session_of(view: &dyn View, client_uuid: &str) -> Result<Option<u64>, NsError> {
    let row = rows::row::<SessionId>(view, &keys::session_of_uuid(client_uuid))?;
    Ok(row.map(|SessionId(session)| session))
}

/// Name of the file system, as `format` wrote it.
pub fn fsname(view: &dyn View) -> Result<String, NsError> {
    Ok(rows::superblock(view)?.fsname)
}
