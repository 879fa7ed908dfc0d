//! Inodes and names of the file system in memory.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use nacre_client::{Caller, CreateKind, NewNode};
use nacre_model::{Attr, Errno, Fid, FileKind, Name, Timestamp};

type Result<T> = std::result::Result<T, Errno>;

/// Birth time of every inode.
pub(crate) const BTIME: Timestamp = Timestamp { secs: 1_000_000_007, nanos: 7 };

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) attr: Attr,
    pub(crate) data: Vec<u8>,
    pub(crate) entries: BTreeMap<u64, (Name, Fid)>,
    pub(crate) parent: Fid,
    pub(crate) target: Bytes,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) inodes: HashMap<Fid, Inode>,
    pub(crate) next: u32,
    pub(crate) next_cookie: u64,
}

pub(crate) fn file_attr(fid: Fid, kind: FileKind, perm: u32, caller: Caller) -> Attr {
    let now = Timestamp { secs: 1_700_000_000, nanos: 1 };
    Attr {
        fid,
        kind,
        perm,
        nlink: if kind == FileKind::Directory { 2 } else { 1 },
        uid: caller.uid,
        gid: caller.gid,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: BTIME,
        size_lazy: false,
        released: false,
        layout_gen: 0,
        xattr_count: 0,
    }
}

impl State {
    pub(crate) fn add(&mut self, attr: Attr, parent: Fid, target: Bytes) {
        let fid = attr.fid;
        let inode = Inode {
            data: Vec::new(),
            entries: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            attr,
            parent,
            target,
        };
        self.inodes.insert(fid, inode);
    }

    pub(crate) fn inode(&mut self, fid: Fid) -> Result<&mut Inode> {
        self.inodes.get_mut(&fid).ok_or(Errno::ESTALE)
    }

    pub(crate) fn find(&mut self, dir: Fid, name: &Name) -> Result<(u64, Fid)> {
        let entries = &self.inode(dir)?.entries;
        let found = entries.iter().find(|(_, (other, _))| other == name);
        found.map(|(cookie, (_, fid))| (*cookie, *fid)).ok_or(Errno::ENOENT)
    }

    pub(crate) fn make(&mut self, caller: Caller, dir: Fid, node: &NewNode) -> Attr {
        self.next += 1;
        let fid = Fid { seq: Fid::SEQ_NORMAL, oid: self.next, ver: 0 };
        let kind = node.kind.file_kind();
        let mut attr = file_attr(fid, kind, node.perm & !node.umask, caller);
        let mut target = Bytes::new();
        match &node.kind {
            CreateKind::CharDevice(device) | CreateKind::BlockDevice(device) => {
                attr.rdev = *device;
            }
            CreateKind::Symlink(to) => {
                attr.size = to.len() as u64;
                target = Bytes::from(to.clone());
            }
            CreateKind::Regular | CreateKind::Directory | CreateKind::Fifo | CreateKind::Socket => {
            }
        }
        self.add(attr.clone(), dir, target);
        attr
    }

    pub(crate) fn enter(&mut self, dir: Fid, name: &Name, fid: Fid) -> Result<()> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.inode(dir)?.entries.insert(cookie, (name.clone(), fid));
        self.changed(dir)
    }

    /// The kernel knows by this time whether its listing is up to date.
    pub(crate) fn changed(&mut self, dir: Fid) -> Result<()> {
        self.inode(dir)?.attr.mtime.nanos += 1;
        Ok(())
    }

    pub(crate) fn resize(&mut self, fid: Fid, size: u64) -> Result<()> {
        let inode = self.inode(fid)?;
        inode.data.resize(usize::try_from(size).map_err(|_| Errno::EFBIG)?, 0);
        inode.attr.size = size;
        Ok(())
    }

    pub(crate) fn remove(&mut self, dir: Fid, name: &Name) -> Result<()> {
        let (cookie, fid) = self.find(dir, name)?;
        self.inode(dir)?.entries.remove(&cookie);
        self.changed(dir)?;
        let inode = self.inode(fid)?;
        inode.attr.nlink = inode.attr.nlink.saturating_sub(1);
        Ok(())
    }
}
