//! A file system in memory: no more than the channel's tests look at.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_client::fuse::{Filesystem, Grants, Leases, Notifier, Stamp};
use nacre_client::{
    AllocateMode, Caller, DirEntry, DirPage, LockHold, LockKind, LockOwner, NewNode, OpenFlags,
    RenameFlags, SeekFrom, SetAttr, SetTime, StatFs, WriteFlags, XattrSet,
};
use nacre_model::{Attr, Errno, Fid, FileKind, Name};
use parking_lot::Mutex;

use crate::memleases::MemLeases;
use crate::memlocks::MemLocks;
use crate::memstate::{State, file_attr};

type Result<T> = std::result::Result<T, Errno>;

/// What the tests look at afterwards.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Longest payload of one write.
    pub(crate) write_max: usize,
    /// Flags of the last write.
    pub(crate) write_flags: WriteFlags,
    /// The last change of attributes.
    pub(crate) setattr: SetAttr,
    /// Unlock calls.
    pub(crate) unlocks: Vec<(LockKind, u64)>,
    /// Released files.
    pub(crate) released: usize,
}

/// Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct MemFs {
    state: Arc<Mutex<State>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) locks: Arc<MemLocks>,
    pub(crate) leases: Arc<MemLeases>,
    grants: Grants,
}

impl MemFs {
    pub(crate) fn new(grants: Grants) -> Self {
        let mut state = State { next: 1, next_cookie: 3, ..State::default() };
        let attr = file_attr(Fid::ROOT, FileKind::Directory, 0o755, Caller::default());
        state.add(attr, Fid::ROOT, Bytes::new());
        Self {
            state: Arc::new(Mutex::new(state)),
            seen: Arc::default(),
            locks: Arc::default(),
            leases: Arc::default(),
            grants,
        }
    }
}

impl MemFs {
    pub(crate) fn find(&self, dir: Fid, name: &Name) -> Result<Attr> {
        let mut state = self.state.lock();
        let (_, fid) = state.find(dir, name)?;
        Ok(state.inode(fid)?.attr.clone())
    }

    fn content(&self, file: Fid, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        let mut state = self.state.lock();
        let data = &state.inode(file)?.data;
        let at = |offset: u64| usize::try_from(offset).map_or(data.len(), |o| o.min(data.len()));
        let part = &data[at(offset)..at(offset.saturating_add(len))];
        // In small pieces, so that answers have many.
        Ok(part.chunks(50_000).map(Bytes::copy_from_slice).collect())
    }

    fn page(&self, dir: Fid, cookie: u64) -> Result<DirPage> {
        const PAGE: usize = 1_000;
        let mut state = self.state.lock();
        let parent = state.inode(dir)?.parent;
        let behind = state.inode(dir)?.entries.range(cookie + 1..);
        let listed: Vec<_> = behind.take(PAGE).map(|(at, to)| (*at, to.clone())).collect();
        let eof = listed.len() < PAGE;
        let mut entries = Vec::new();
        for (cookie, (name, fid)) in listed {
            let attr = state.inode(fid)?.attr.clone();
            entries.push(DirEntry { name, cookie, fid, kind: attr.kind, attr: Some(attr) });
        }
        Ok(DirPage { entries, eof, parent })
    }
}

impl Filesystem for MemFs {
    type File = Fid;

    fn root(&self) -> Fid {
        Fid::ROOT
    }

    fn grants(&self) -> Grants {
        self.grants
    }

    fn names_rest(&self) -> Duration {
        Duration::ZERO
    }

    fn attach(&self, kernel: Notifier) {
        self.leases.attach(kernel);
    }

    fn stamp(&self) -> Stamp {
        self.leases.stamp()
    }

    fn pinned<R>(&self, stamp: Stamp, send: impl FnOnce(&dyn Leases) -> R) -> R {
        self.leases.pinned(stamp, send)
    }

    fn forgotten(&self, fid: Fid) {
        self.leases.forgotten(fid);
    }

    async fn lookup(&self, dir: Fid, name: &Name) -> Result<Attr> {
        assert_ne!(name.as_bytes(), b"panic", "a test asked for this panic");
        self.leases.ask("lookup");
        let found = self.find(dir, name);
        self.leases.made_up("lookup").await;
        found
    }

    async fn lookup_parent(&self, dir: Fid) -> Result<Attr> {
        let mut state = self.state.lock();
        let parent = state.inode(dir)?.parent;
        Ok(state.inode(parent)?.attr.clone())
    }

    async fn getattr(&self, fid: Fid) -> Result<Attr> {
        self.leases.ask("getattr");
        let attr = self.state.lock().inode(fid).map(|inode| inode.attr.clone());
        self.leases.made_up("getattr").await;
        attr
    }

    async fn setattr(
        &self,
        _caller: Caller,
        fid: Fid,
        set: SetAttr,
        _file: Option<&Fid>,
    ) -> Result<Attr> {
        self.seen.lock().setattr = set;
        let mut state = self.state.lock();
        if let Some(size) = set.size {
            state.resize(fid, size)?;
        }
        let attr = &mut state.inode(fid)?.attr;
        attr.perm = set.perm.unwrap_or(attr.perm);
        attr.uid = set.uid.unwrap_or(attr.uid);
        attr.gid = set.gid.unwrap_or(attr.gid);
        if let Some(SetTime::At(time)) = set.mtime {
            attr.mtime = time;
        }
        Ok(attr.clone())
    }

    async fn create(&self, caller: Caller, dir: Fid, name: &Name, node: NewNode) -> Result<Attr> {
        let mut state = self.state.lock();
        if state.find(dir, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let attr = state.make(caller, dir, &node);
        state.enter(dir, name, attr.fid)?;
        Ok(attr)
    }

    async fn create_open(
        &self,
        caller: Caller,
        dir: Fid,
        name: &Name,
        node: NewNode,
        _flags: OpenFlags,
    ) -> Result<(Attr, Fid)> {
        let attr = self.create(caller, dir, name, node).await?;
        let fid = attr.fid;
        Ok((attr, fid))
    }

    async fn tmpfile(
        &self,
        caller: Caller,
        dir: Fid,
        node: NewNode,
        _flags: OpenFlags,
    ) -> Result<(Attr, Fid)> {
        let mut state = self.state.lock();
        let fid = state.make(caller, dir, &node).fid;
        let attr = &mut state.inode(fid)?.attr;
        attr.nlink = 0;
        Ok((attr.clone(), fid))
    }

    async fn link(&self, _caller: Caller, fid: Fid, dir: Fid, name: &Name) -> Result<Attr> {
        let mut state = self.state.lock();
        state.enter(dir, name, fid)?;
        let attr = &mut state.inode(fid)?.attr;
        attr.nlink += 1;
        Ok(attr.clone())
    }

    async fn unlink(&self, _caller: Caller, dir: Fid, name: &Name) -> Result<()> {
        self.state.lock().remove(dir, name)
    }

    async fn rmdir(&self, _caller: Caller, dir: Fid, name: &Name) -> Result<()> {
        let mut state = self.state.lock();
        let (_, fid) = state.find(dir, name)?;
        if !state.inode(fid)?.entries.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        state.remove(dir, name)
    }

    async fn rename(
        &self,
        _caller: Caller,
        from: (Fid, &Name),
        to: (Fid, &Name),
        flags: RenameFlags,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let (cookie, fid) = state.find(from.0, from.1)?;
        if state.find(to.0, to.1).is_ok() {
            if flags.contains(RenameFlags::NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            state.remove(to.0, to.1)?;
        }
        state.inode(from.0)?.entries.remove(&cookie);
        state.changed(from.0)?;
        state.enter(to.0, to.1, fid)
    }

    async fn readlink(&self, fid: Fid) -> Result<Bytes> {
        Ok(self.state.lock().inode(fid)?.target.clone())
    }

    async fn readdir(&self, dir: Fid, cookie: u64, _max: u32, _plus: bool) -> Result<DirPage> {
        self.leases.ask("readdir");
        let page = self.page(dir, cookie);
        self.leases.made_up("readdir").await;
        page
    }

    async fn fsyncdir(&self, _dir: Fid) -> Result<()> {
        Ok(())
    }

    async fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            bytes_total: 40 << 30,
            bytes_free: 30 << 30,
            bytes_available: 20 << 30,
            inodes_used: 10,
            inodes_free: 90,
            ..StatFs::default()
        })
    }

    async fn syncfs(&self) -> Result<()> {
        Ok(())
    }

    async fn getxattr(&self, fid: Fid, name: &[u8]) -> Result<Bytes> {
        self.state.lock().inode(fid)?.xattrs.get(name).cloned().ok_or(Errno::ENODATA)
    }

    async fn setxattr(
        &self,
        _caller: Caller,
        fid: Fid,
        name: &[u8],
        value: Bytes,
        how: XattrSet,
        _kill_sgid: bool,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let xattrs = &mut state.inode(fid)?.xattrs;
        match (how, xattrs.contains_key(name)) {
            (XattrSet::Create, true) => return Err(Errno::EEXIST),
            (XattrSet::Replace, false) => return Err(Errno::ENODATA),
            _ => xattrs.insert(name.to_vec(), value),
        };
        Ok(())
    }

    async fn listxattr(&self, fid: Fid) -> Result<Vec<Bytes>> {
        let mut state = self.state.lock();
        Ok(state.inode(fid)?.xattrs.keys().map(|name| Bytes::from(name.clone())).collect())
    }

    async fn removexattr(&self, _caller: Caller, fid: Fid, name: &[u8]) -> Result<()> {
        let removed = self.state.lock().inode(fid)?.xattrs.remove(name);
        removed.map(drop).ok_or(Errno::ENODATA)
    }

    async fn open(&self, _caller: Caller, fid: Fid, flags: OpenFlags) -> Result<Fid> {
        self.leases.ask("open");
        if flags.contains(OpenFlags::TRUNCATE) {
            self.state.lock().resize(fid, 0)?;
        }
        Ok(fid)
    }

    async fn read(&self, file: &Fid, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        self.leases.ask("read");
        let parts = self.content(*file, offset, len);
        self.leases.made_up("read").await;
        parts
    }

    async fn write(&self, file: &Fid, offset: u64, data: Bytes, flags: WriteFlags) -> Result<()> {
        let mut seen = self.seen.lock();
        seen.write_max = seen.write_max.max(data.len());
        seen.write_flags = flags;
        drop(seen);
        let mut state = self.state.lock();
        let size = state.inode(*file)?.attr.size;
        let offset = if flags.contains(WriteFlags::APPEND) { size } else { offset };
        let end = offset.checked_add(data.len() as u64).ok_or(Errno::EFBIG)?;
        if end > size {
            state.resize(*file, end)?;
        }
        let range = usize::try_from(offset).unwrap()..usize::try_from(end).unwrap();
        state.inode(*file)?.data[range].copy_from_slice(&data);
        Ok(())
    }

    async fn flush(&self, _file: &Fid) -> Result<()> {
        Ok(())
    }

    async fn fsync(&self, _file: &Fid, _data_only: bool) -> Result<()> {
        Ok(())
    }

    async fn release(&self, _file: &Fid) -> Result<()> {
        self.seen.lock().released += 1;
        Ok(())
    }

    async fn fallocate(&self, file: &Fid, mode: AllocateMode, offset: u64, len: u64) -> Result<()> {
        if mode != AllocateMode::Reserve {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        let size = state.inode(*file)?.attr.size.max(offset + len);
        state.resize(*file, size)
    }

    async fn lseek(&self, file: &Fid, from: SeekFrom) -> Result<u64> {
        let size = self.state.lock().inode(*file)?.attr.size;
        match from {
            SeekFrom::Data(at) | SeekFrom::Hole(at) if at >= size => Err(Errno::ENXIO),
            SeekFrom::Data(at) => Ok(at),
            SeekFrom::Hole(_) => Ok(size),
        }
    }

    async fn copy_file_range(&self, from: (&Fid, u64), to: (&Fid, u64), len: u64) -> Result<u64> {
        let data = self.read(from.0, from.1, len).await?.concat();
        let copied = data.len() as u64;
        self.write(to.0, to.1, data.into(), WriteFlags::empty()).await?;
        Ok(copied)
    }

    async fn lock(&self, fid: Fid, lock: LockHold, wait: bool) -> Result<()> {
        self.locks.lock(fid, lock, wait).await
    }

    async fn unlock(
        &self,
        fid: Fid,
        kind: LockKind,
        owner: LockOwner,
        _start: u64,
        _end: u64,
    ) -> Result<()> {
        self.seen.lock().unlocks.push((kind, owner.owner));
        self.locks.unlock(fid, kind, owner);
        Ok(())
    }

    async fn test_lock(&self, fid: Fid, lock: LockHold) -> Result<Option<LockHold>> {
        Ok(self.locks.in_the_way(fid, lock))
    }
}
