//! Keys of the store. See the table in the module above.

use nacre_model::Fid;

use super::BadRecord;

/// Kinds of rows: the first byte of every key.
pub mod kind {
    /// Superblock.
    pub const SUPERBLOCK: u8 = b'S';
    /// Counters.
    pub const COUNTERS: u8 = b'C';
    /// Inode.
    pub const INODE: u8 = b'I';
    /// Inline bytes.
    pub const INLINE: u8 = b'B';
    /// Directory entry.
    pub const ENTRY: u8 = b'D';
    /// Extended attribute.
    pub const XATTR: u8 = b'X';
    /// Orphan.
    pub const ORPHAN: u8 = b'O';
    /// Session.
    pub const SESSION: u8 = b'N';
    /// Session of a client uuid.
    pub const SESSION_OF_UUID: u8 = b'U';
    /// Kept reply.
    pub const REPLY: u8 = b'R';
    /// Work for OSTs.
    pub const WORK: u8 = b'W';
    /// Action of the HSM coordinator.
    pub const ACTION: u8 = b'A';
    /// What an archive knows of a file.
    pub const HSM: u8 = b'H';
    /// Data repository.
    pub const REPOSITORY: u8 = b'P';
    /// What buckets have of an inode.
    pub const EXPORT: u8 = b'E';
    /// An object that we know of.
    pub const KNOWN: u8 = b'K';
    /// All kinds, ascending.
    pub const ALL: [u8; 16] = [
        ACTION,
        INLINE,
        COUNTERS,
        ENTRY,
        EXPORT,
        HSM,
        INODE,
        KNOWN,
        SESSION,
        ORPHAN,
        REPOSITORY,
        REPLY,
        SUPERBLOCK,
        SESSION_OF_UUID,
        WORK,
        XATTR,
    ];
}

fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(len.saturating_add(1));
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// The superblock's.
pub fn superblock() -> Vec<u8> {
    join(kind::SUPERBLOCK, &[])
}

/// The counters'.
pub fn counters() -> Vec<u8> {
    join(kind::COUNTERS, &[])
}

/// An inode's.
pub fn inode(fid: Fid) -> Vec<u8> {
    join(kind::INODE, &[&fid.to_bytes()])
}

/// Of a small file's bytes.
pub fn inline(fid: Fid) -> Vec<u8> {
    join(kind::INLINE, &[&fid.to_bytes()])
}

/// A directory entry's; `cookie` is what `readdir` shows.
pub fn entry(parent: Fid, cookie: u64) -> Vec<u8> {
    join(kind::ENTRY, &[&parent.to_bytes(), &cookie.to_be_bytes()])
}

/// An extended attribute's.
pub fn xattr(fid: Fid, name: &[u8]) -> Vec<u8> {
    join(kind::XATTR, &[&fid.to_bytes(), name])
}

/// After all extended attributes of an inode.
pub fn xattr_end(fid: Fid) -> Vec<u8> {
    // Names are not empty and hold at most 255 bytes, so 256 times 0xff sorts after them all.
    join(kind::XATTR, &[&fid.to_bytes(), &[0xff; 256]])
}

/// An orphan's.
pub fn orphan(fid: Fid) -> Vec<u8> {
    join(kind::ORPHAN, &[&fid.to_bytes()])
}

/// A session's.
pub fn session(session: u64) -> Vec<u8> {
    join(kind::SESSION, &[&session.to_be_bytes()])
}

/// Of the session of a mount.
pub fn session_of_uuid(uuid: &str) -> Vec<u8> {
    join(kind::SESSION_OF_UUID, &[uuid.as_bytes()])
}

/// A kept reply's.
pub fn reply(session: u64, slot: u32) -> Vec<u8> {
    join(kind::REPLY, &[&session.to_be_bytes(), &slot.to_be_bytes()])
}

/// Of work for OSTs.
pub fn work(sequence: u64) -> Vec<u8> {
    join(kind::WORK, &[&sequence.to_be_bytes()])
}

/// Of an action of the HSM coordinator.
pub fn action(cookie: u64) -> Vec<u8> {
    join(kind::ACTION, &[&cookie.to_be_bytes()])
}

/// Of what an archive knows of a file.
pub fn hsm(fid: Fid) -> Vec<u8> {
    join(kind::HSM, &[&fid.to_bytes()])
}

/// Of a data repository.
pub fn repository(id: u32) -> Vec<u8> {
    join(kind::REPOSITORY, &[&u64::from(id).to_be_bytes()])
}

/// Of what buckets have of an inode.
pub fn export(fid: Fid) -> Vec<u8> {
    join(kind::EXPORT, &[&fid.to_bytes()])
}

/// Of an object that we know of.
pub fn known(repository: u32, object: &str) -> Vec<u8> {
    join(kind::KNOWN, &[&repository.to_be_bytes(), object.as_bytes()])
}

/// After all objects of a repository.
pub fn known_end(repository: u32) -> Vec<u8> {
    join(kind::KNOWN, &[&repository.saturating_add(1).to_be_bytes()])
}

/// The object in such a key.
pub fn known_of(key: &[u8]) -> Result<(u32, &str), BadRecord> {
    let (repository, object) = parts::<4>(key, kind::KNOWN)?;
    let object = std::str::from_utf8(object).map_err(|_| BadRecord::Key)?;
    Ok((u32::from_be_bytes(repository), object))
}

/// All rows of a kind: `from <= key < to`.
pub fn all_of(kind: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![kind], vec![kind.saturating_add(1)])
}

/// The smallest key after `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

fn parts<const N: usize>(key: &[u8], kind: u8) -> Result<([u8; N], &[u8]), BadRecord> {
    let (first, rest) = key.split_first().ok_or(BadRecord::Key)?;
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(BadRecord::Key)?;
    if *first == kind { Ok((*head, tail)) } else { Err(BadRecord::Key) }
}

fn whole<const N: usize>(key: &[u8], kind: u8) -> Result<[u8; N], BadRecord> {
    match parts(key, kind)? {
        (head, []) => Ok(head),
        _ => Err(BadRecord::Key),
    }
}

/// The fid of an inode, inline or orphan key of that kind.
pub fn fid_of(key: &[u8], kind: u8) -> Result<Fid, BadRecord> {
    Ok(Fid::from_bytes(whole(key, kind)?))
}

/// The directory and cookie of an entry's key.
pub fn entry_of(key: &[u8]) -> Result<(Fid, u64), BadRecord> {
    let (fid, tail) = parts::<16>(key, kind::ENTRY)?;
    let cookie = <[u8; 8]>::try_from(tail).map_err(|_| BadRecord::Key)?;
    Ok((Fid::from_bytes(fid), u64::from_be_bytes(cookie)))
}

/// The inode and name of an extended attribute's key.
pub fn xattr_of(key: &[u8]) -> Result<(Fid, &[u8]), BadRecord> {
    let (fid, name) = parts::<16>(key, kind::XATTR)?;
    if name.is_empty() { Err(BadRecord::Key) } else { Ok((Fid::from_bytes(fid), name)) }
}

/// The number in a session's or work's key.
pub fn number_of(key: &[u8], kind: u8) -> Result<u64, BadRecord> {
    Ok(u64::from_be_bytes(whole(key, kind)?))
}

/// The session and slot of a reply's key.
pub fn reply_of(key: &[u8]) -> Result<(u64, u32), BadRecord> {
    let (session, tail) = parts::<8>(key, kind::REPLY)?;
    let slot = <[u8; 4]>::try_from(tail).map_err(|_| BadRecord::Key)?;
    Ok((u64::from_be_bytes(session), u32::from_be_bytes(slot)))
}
