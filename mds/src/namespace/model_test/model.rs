//! The model: a tree in memory that knows nothing of rows, hashes or counters. Link counts are
//! counted, never kept.

use std::collections::{BTreeMap, BTreeSet};

use nacre_model::{Errno, FileKind};

pub(super) type Id = usize;
pub(super) type Done = Result<Id, Errno>;
pub(super) const ROOT: Id = 0;
const INLINE_MAX: u64 = 16 << 10;
/// Component boundary of the built-in layout.
const FIRST_END: u64 = 64 << 20;

/// owner, named user, owning group, mask, other; without user and mask it is a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acl {
    pub(super) owner: u32,
    pub(super) named: Option<(u32, u32)>,
    pub(super) group: u32,
    pub(super) other: u32,
}

impl Acl {
    fn mode(self) -> u32 {
        let group = self.named.map_or(self.group, |(_, mask)| mask);
        (self.owner << 6) | (group << 3) | self.other
    }
    fn chmod(&mut self, mode: u32) {
        self.owner = mode >> 6 & 7;
        self.other = mode & 7;
        match &mut self.named {
            Some((_, mask)) => *mask = mode >> 3 & 7,
            None => self.group = mode >> 3 & 7,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: FileKind,
    pub(super) perm: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: i64,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    pub(super) parent: Id,
    pub(super) children: BTreeMap<Vec<u8>, Id>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) access: Option<Acl>,
    pub(super) default: Option<Acl>,
    pub(super) orphan: bool,
    pub(super) tmpfile: bool,
    pub(super) freed: bool,
    pub(super) file: File,
}

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    pub(super) size: u64,
    /// Up to where inline bytes were written.
    pub(super) stored: u64,
    /// Those that are not zero.
    pub(super) bytes: BTreeMap<u64, u8>,
    /// Components with objects; none: inline.
    pub(super) live: BTreeSet<u16>,
    pub(super) pending: bool,
    pub(super) lazy: bool,
}

pub(super) struct New {
    pub(super) kind: FileKind,
    pub(super) perm: u32,
    pub(super) umask: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) exclusive: bool,
}

pub(super) struct Model {
    pub(super) nodes: Vec<Node>,
    pub(super) now: i64,
    /// Of the command: inodes that somebody has open.
    pub(super) held: Vec<Id>,
}

fn fail<T>(errno: Errno) -> Result<T, Errno> {
    Err(errno)
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self { nodes: Vec::new(), now: 0, held: Vec::new() };
        model.add(FileKind::Directory, 0o755, 0, 0, ROOT);
        model
    }

    fn add(&mut self, kind: FileKind, perm: u32, uid: u32, gid: u32, parent: Id) -> Id {
        let now = self.now;
        self.nodes.push(Node {
            kind,
            perm,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            parent,
            children: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            access: None,
            default: None,
            orphan: false,
            tmpfile: false,
            freed: false,
            file: File::default(),
        });
        self.nodes.len() - 1
    }

    pub(super) fn is_dir(&self, id: Id) -> bool {
        self.nodes[id].kind == FileKind::Directory
    }

    pub(super) fn nlink(&self, id: Id) -> u32 {
        let node = &self.nodes[id];
        if node.freed || node.orphan {
            return 0;
        }
        let count = if self.is_dir(id) {
            2 + node.children.values().filter(|child| self.is_dir(**child)).count()
        } else {
            let all = self.nodes.iter().flat_map(|node| node.children.values());
            all.filter(|child| **child == id).count()
        };
        u32::try_from(count).unwrap()
    }

    fn dir(&self, id: Id) -> Result<Id, Errno> {
        let node = &self.nodes[id];
        if node.freed {
            return fail(Errno::ENOENT);
        }
        if !self.is_dir(id) {
            return fail(Errno::ENOTDIR);
        }
        if node.orphan { fail(Errno::ENOENT) } else { Ok(id) }
    }

    fn live(&mut self, id: Id) -> Result<&mut Node, Errno> {
        let node = &mut self.nodes[id];
        if node.freed { fail(Errno::ESTALE) } else { Ok(node) }
    }

    fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.nodes[dir].children.get(name).copied()
    }

    fn touch(&mut self, dir: Id) {
        self.nodes[dir].mtime = self.now;
        self.nodes[dir].ctime = self.now;
    }

    /// After a name of it went.
    fn unnamed(&mut self, id: Id) {
        self.nodes[id].ctime = self.now;
        if self.is_dir(id) || self.nlink(id) == 0 {
            let held = self.held.contains(&id);
            let node = &mut self.nodes[id];
            (node.orphan, node.freed) = (held, !held);
        }
    }

    pub(super) fn create(&mut self, dir: Id, name: &[u8], new: &New) -> Done {
        let dir = self.dir(dir)?;
        if name.is_empty() && new.kind != FileKind::Regular {
            return fail(Errno::EINVAL);
        }
        if let Some(found) = self.child(dir, name) {
            if new.exclusive || new.kind != FileKind::Regular {
                return fail(Errno::EEXIST);
            }
            return match self.nodes[found].kind {
                FileKind::Regular => Ok(found),
                FileKind::Directory => fail(Errno::EISDIR),
                _ => fail(Errno::EEXIST),
            };
        }
        let parent = self.nodes[dir].clone();
        let gid = if parent.perm & 0o2000 != 0 { parent.gid } else { new.gid };
        let id = self.add(new.kind, new.perm, new.uid, gid, dir);
        let node = &mut self.nodes[id];
        if new.kind == FileKind::Symlink {
            node.perm = 0o777;
        } else if let Some(default) = parent.default {
            let mut access = default;
            access.chmod(new.perm & default.mode());
            node.perm = (new.perm & !0o777) | access.mode();
            node.access = access.named.map(|_| access);
            node.default = (new.kind == FileKind::Directory).then_some(default);
        } else {
            node.perm &= !new.umask;
        }
        if new.kind == FileKind::Directory {
            node.perm |= parent.perm & 0o2000;
        }
        if name.is_empty() {
            (node.orphan, node.tmpfile) = (true, true);
        } else {
            self.nodes[dir].children.insert(name.to_vec(), id);
            self.touch(dir);
        }
        Ok(id)
    }

    pub(super) fn link(&mut self, id: Id, dir: Id, name: &[u8]) -> Done {
        self.live(id)?;
        let dir = self.dir(dir)?;
        if self.child(dir, name).is_some() {
            return fail(Errno::EEXIST);
        }
        if self.is_dir(id) {
            return fail(Errno::EPERM);
        }
        let now = self.now;
        let node = &mut self.nodes[id];
        if node.orphan && !node.tmpfile {
            return fail(Errno::ENOENT);
        }
        if node.orphan {
            (node.orphan, node.tmpfile) = (false, false);
        }
        node.ctime = now;
        self.nodes[dir].children.insert(name.to_vec(), id);
        self.touch(dir);
        Ok(id)
    }

    pub(super) fn remove(&mut self, dir: Id, name: &[u8], rmdir: bool) -> Done {
        let dir = self.dir(dir)?;
        let id = self.child(dir, name).ok_or(Errno::ENOENT)?;
        match (self.is_dir(id), rmdir) {
            (true, false) => return fail(Errno::EISDIR),
            (false, true) => return fail(Errno::ENOTDIR),
            (true, true) if !self.nodes[id].children.is_empty() => return fail(Errno::ENOTEMPTY),
            _ => {}
        }
        self.nodes[dir].children.remove(name);
        self.touch(dir);
        self.unnamed(id);
        Ok(id)
    }

    fn inside(&self, dir: Id, of: Id) -> bool {
        dir == of || (dir != ROOT && self.inside(self.nodes[dir].parent, of))
    }

    pub(super) fn rename(&mut self, from: (Id, &[u8]), to: (Id, &[u8]), flag: u8) -> Done {
        let (from, to) = ((self.dir(from.0)?, from.1), (self.dir(to.0)?, to.1));
        let source = self.child(from.0, from.1).ok_or(Errno::ENOENT)?;
        let target = self.child(to.0, to.1);
        let exchange = flag == 2;
        match target {
            Some(_) if flag == 1 => return fail(Errno::EEXIST),
            None if exchange => return fail(Errno::ENOENT),
            Some(target) if target == source => return Ok(source),
            _ => {}
        }
        if self.is_dir(source) && self.inside(to.0, source) {
            return fail(Errno::EINVAL);
        }
        if exchange {
            let target = target.unwrap();
            if self.is_dir(target) && self.inside(from.0, target) {
                return fail(Errno::EINVAL);
            }
            self.nodes[from.0].children.insert(from.1.to_vec(), target);
            self.nodes[target].ctime = self.now;
            if self.is_dir(target) {
                self.nodes[target].parent = from.0;
            }
        } else {
            if let Some(target) = target {
                match (self.is_dir(source), self.is_dir(target)) {
                    (true, false) => return fail(Errno::ENOTDIR),
                    (false, true) => return fail(Errno::EISDIR),
                    (true, true) if !self.nodes[target].children.is_empty() => {
                        return fail(Errno::ENOTEMPTY);
                    }
                    _ => {}
                }
            }
            self.nodes[from.0].children.remove(from.1);
        }
        self.nodes[to.0].children.insert(to.1.to_vec(), source);
        self.nodes[source].ctime = self.now;
        if self.is_dir(source) {
            self.nodes[source].parent = to.0;
        }
        if let (Some(target), false) = (target, exchange) {
            self.unnamed(target);
        }
        self.touch(from.0);
        self.touch(to.0);
        Ok(source)
    }

    pub(super) fn chmod(&mut self, id: Id, perm: u32) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        (node.perm, node.ctime) = (perm, now);
        if let Some(acl) = &mut node.access {
            acl.chmod(perm);
        }
        Ok(id)
    }

    fn drop_ids(node: &mut Node) {
        if node.kind != FileKind::Directory {
            node.perm &= !0o4000;
            if node.perm & 0o010 != 0 {
                node.perm &= !0o2000;
            }
            node.xattrs.remove(&b"security.capability"[..]);
        }
    }

    pub(super) fn chown(&mut self, id: Id, uid: u32, gid: u32) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        (node.uid, node.gid, node.ctime) = (uid, gid, now);
        Self::drop_ids(node);
        Ok(id)
    }

    pub(super) fn utimes(&mut self, id: Id, atime: i64, mtime: Option<i64>) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        (node.atime, node.mtime, node.ctime) = (atime, mtime.unwrap_or(now), now);
        Ok(id)
    }

    fn file(&mut self, id: Id) -> Result<&mut Node, Errno> {
        let node = self.live(id)?;
        match node.kind {
            FileKind::Regular => Ok(node),
            FileKind::Directory => fail(Errno::EISDIR),
            _ => fail(Errno::EINVAL),
        }
    }

    pub(super) fn truncate(&mut self, id: Id, size: u64, kill: bool, others: bool) -> Done {
        let now = self.now;
        let node = self.file(id)?;
        if size > i64::MAX as u64 {
            return fail(Errno::EFBIG);
        }
        let file = &mut node.file;
        if file.live.is_empty() {
            file.pending = false;
            file.stored = file.stored.min(size);
            file.bytes.retain(|at, _| *at < size);
        } else if size == 0 && !others {
            (file.live, file.lazy) = (BTreeSet::new(), false);
        }
        file.size = size;
        (node.mtime, node.ctime) = (now, now);
        node.xattrs.remove(&b"security.capability"[..]);
        if kill {
            Self::drop_ids(node);
        }
        Ok(id)
    }

    pub(super) fn write(&mut self, id: Id, offset: u64, data: &[u8], kill: bool) -> Done {
        let now = self.now;
        let node = self.file(id)?;
        let (file, len) = (&mut node.file, data.len() as u64);
        if !file.live.is_empty() {
            return fail(Errno::ESTALE);
        }
        if len > 0 && offset + len > INLINE_MAX {
            return fail(Errno::EFBIG);
        }
        if len > 0 {
            file.pending = false;
            file.size = file.size.max(offset + len);
            file.stored = file.stored.max(offset + len);
        }
        file.bytes.extend((offset..).zip(data.iter().copied()));
        Self::wrote(node, now, kill);
        Ok(id)
    }

    pub(super) fn punch(&mut self, id: Id, offset: u64, len: u64) -> Done {
        let now = self.now;
        let node = self.file(id)?;
        let file = &mut node.file;
        if !file.live.is_empty() {
            return fail(Errno::ESTALE);
        }
        if len > 0 && file.stored > 0 {
            file.pending = false;
            file.bytes.retain(|at, _| !(offset..offset + len).contains(at));
            if offset + len >= file.stored {
                file.stored = file.stored.min(offset);
            }
        }
        Self::wrote(node, now, false);
        Ok(id)
    }

    fn wrote(node: &mut Node, now: i64, kill: bool) {
        (node.mtime, node.ctime) = (now, now);
        node.xattrs.remove(&b"security.capability"[..]);
        if kill {
            Self::drop_ids(node);
        }
    }

    pub(super) fn instantiate(&mut self, id: Id, offset: u64, len: u64) -> Done {
        let file = &mut self.file(id)?.file;
        let end = offset.saturating_add(len.max(1));
        if end > i64::MAX as u64 {
            return fail(Errno::EFBIG);
        }
        if file.stored > 0 {
            return fail(Errno::EBUSY);
        }
        if offset < FIRST_END {
            file.live.insert(0);
        }
        if end > FIRST_END {
            file.live.insert(1);
        }
        (file.pending, file.lazy) = (false, true);
        Ok(id)
    }

    pub(super) fn promote(&mut self, id: Id, commit: bool) -> Done {
        let file = &mut self.file(id)?.file;
        if !file.live.is_empty() || (commit && !file.pending) {
            return fail(Errno::ESTALE);
        }
        if commit {
            file.live.insert(0);
            file.bytes.clear();
            (file.stored, file.lazy) = (0, true);
        }
        file.pending = !commit;
        Ok(id)
    }

    pub(super) fn settle(&mut self, id: Id, size: u64, exact: bool, others: bool) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        if node.kind == FileKind::Regular && !node.file.live.is_empty() {
            node.file.size = node.file.size.max(size);
            node.file.lazy &= !exact || others;
        }
        Self::wrote(node, now, false);
        Ok(id)
    }

    pub(super) fn mark_lazy(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        node.file.lazy |= !node.freed && !node.file.live.is_empty();
    }

    pub(super) fn set_layout(&mut self, id: Id) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        match node.kind {
            FileKind::Directory => {}
            FileKind::Regular => {
                if node.file.size > 0 || !node.file.live.is_empty() {
                    return fail(Errno::EBUSY);
                }
                node.file.pending = false;
            }
            _ => return fail(Errno::EINVAL),
        }
        node.ctime = now;
        Ok(id)
    }

    pub(super) fn setxattr(&mut self, id: Id, name: &[u8], value: &[u8], flag: u8) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        if name.starts_with(b"system.") {
            return fail(Errno::EOPNOTSUPP);
        }
        let plain = matches!(node.kind, FileKind::Regular | FileKind::Directory);
        if name.starts_with(b"user.") && !plain {
            return fail(Errno::EPERM);
        }
        match (flag, node.xattrs.contains_key(name)) {
            (1, true) => return fail(Errno::EEXIST),
            (2, false) => return fail(Errno::ENODATA),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), value.to_vec());
        node.ctime = now;
        Ok(id)
    }

    pub(super) fn removexattr(&mut self, id: Id, name: &[u8]) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        if name.starts_with(b"system.") {
            return fail(Errno::EOPNOTSUPP);
        }
        let plain = matches!(node.kind, FileKind::Regular | FileKind::Directory);
        if name.starts_with(b"user.") && !plain {
            return fail(Errno::EPERM);
        }
        if node.xattrs.remove(name).is_none() {
            return fail(Errno::ENODATA);
        }
        node.ctime = now;
        Ok(id)
    }

    pub(super) fn setacl(&mut self, id: Id, default: bool, acl: Option<Acl>) -> Done {
        let now = self.now;
        let node = self.live(id)?;
        match node.kind {
            FileKind::Symlink => return fail(Errno::EOPNOTSUPP),
            FileKind::Directory => {}
            _ if default && acl.is_some() => return fail(Errno::EACCES),
            _ => {}
        }
        if default {
            node.default = acl;
        } else {
            if let Some(acl) = acl {
                node.perm = (node.perm & !0o777) | acl.mode();
            }
            node.access = acl.filter(|acl| acl.named.is_some());
        }
        node.ctime = now;
        Ok(id)
    }

    pub(super) fn reap(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        if node.orphan {
            (node.orphan, node.freed) = (false, true);
        }
    }
}
