//! The kernel's requests as calls of the disk.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use nacre_node::disk::mem::MemDisk;
use nacre_node::{Disk, DiskFile};
use parking_lot::Mutex;

use super::inodes::{Inode, Inodes};

/// The kernel asks again each time.
const TTL: Duration = Duration::ZERO;
const FRESH: Generation = Generation(0);

pub(super) struct CutFs {
    pub(super) disk: MemDisk,
    pub(super) inodes: Arc<Mutex<Inodes>>,
}

fn errno(error: &io::Error) -> Errno {
    let kinds = [
        (io::ErrorKind::NotFound, libc::ENOENT),
        (io::ErrorKind::AlreadyExists, libc::EEXIST),
        (io::ErrorKind::InvalidInput, libc::EINVAL),
    ];
    let by_kind = kinds.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, number)| *number);
    Errno::from_i32(error.raw_os_error().or(by_kind).unwrap_or(libc::EIO))
}

fn stale() -> io::Error {
    io::Error::from_raw_os_error(libc::ESTALE)
}

impl CutFs {
    fn inode(&self, number: INodeNo) -> io::Result<Inode> {
        self.inodes.lock().get(number.0).ok_or_else(stale)
    }

    fn file(&self, number: INodeNo) -> io::Result<Arc<dyn DiskFile>> {
        self.inode(number)?.file.ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.inode(parent)?.path.join(name))
    }

    fn attr(number: u64, file: Option<&Arc<dyn DiskFile>>) -> io::Result<FileAttr> {
        let size = file.map_or(Ok(0), |file| file.len())?;
        let epoch = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            crtime: epoch,
            kind: if file.is_some() { FileType::RegularFile } else { FileType::Directory },
            perm: if file.is_some() { 0o644 } else { 0o755 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// The inode at a path, known or not yet.
    fn at(&self, path: &Path) -> io::Result<FileAttr> {
        if !self.disk.exists(path)? {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        let mut inodes = self.inodes.lock();
        if let Some(number) = inodes.number_of(path)
            && let Some(inode) = inodes.get(number)
        {
            return Self::attr(number, inode.file.as_ref());
        }
        let file = if self.disk.list(path).is_ok() { None } else { Some(self.disk.open(path)?) };
        let number = inodes.add(path.to_owned(), file.clone());
        Self::attr(number, file.as_ref())
    }

    fn create(&self, parent: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        let path = self.child(parent, name)?;
        self.disk.create(&path)?;
        self.at(&path)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> io::Result<()> {
        let path = self.child(parent, name)?;
        self.disk.remove(&path)?;
        self.inodes.lock().removed(&path);
        Ok(())
    }

    fn rename(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> io::Result<()> {
        let (from, to) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        if self.disk.list(&from).is_ok() {
            self.disk.rename_dir(&from, &to)?;
        } else {
            self.disk.rename(&from, &to)?;
        }
        self.inodes.lock().renamed(&from, &to);
        Ok(())
    }

    fn read(&self, number: INodeNo, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = self.file(number)?.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn list(&self, number: INodeNo) -> io::Result<Vec<(u64, FileType, String)>> {
        let inode = self.inode(number)?;
        let mut entries = vec![
            (number.0, FileType::Directory, ".".to_owned()),
            (number.0, FileType::Directory, "..".to_owned()),
        ];
        for name in self.disk.list(&inode.path)? {
            let attr = self.at(&inode.path.join(&name))?;
            entries.push((attr.ino.0, attr.kind, name));
        }
        Ok(entries)
    }
}

/// Replies with a value or its error.
macro_rules! answer {
    ($result:expr, $reply:ident, $value:pat => $ok:expr) => {
        match $result {
            Ok($value) => $ok,
            Err(error) => $reply.error(errno(&error)),
        }
    };
}

impl Filesystem for CutFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.child(parent, name).and_then(|path| self.at(&path));
        answer!(found, reply, attr => reply.entry(&TTL, &attr, FRESH));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attr = self.inode(ino).and_then(|inode| Self::attr(ino.0, inode.file.as_ref()));
        answer!(attr, reply, attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let cut = match size {
            Some(size) => self.file(ino).and_then(|file| file.set_len(size)),
            None => Ok(()),
        };
        let attr = cut.and_then(|()| self.inode(ino));
        let attr = attr.and_then(|inode| Self::attr(ino.0, inode.file.as_ref()));
        answer!(attr, reply, attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.child(parent, name).and_then(|path| {
            self.disk.create_dir(&path)?;
            self.at(&path)
        });
        answer!(made, reply, attr => reply.entry(&TTL, &attr, FRESH));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self.remove(parent, name), reply, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.child(parent, name).and_then(|path| {
            self.disk.remove_dir(&path)?;
            self.inodes.lock().removed(&path);
            Ok(())
        });
        answer!(removed, reply, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.rename((parent, name), (to_parent, to_name));
        answer!(renamed, reply, () => reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(self.inode(ino), reply, _ => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(self.create(parent, name), reply, attr =>
            reply.created(&TTL, &attr, FRESH, FileHandle(0), direct));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(self.read(ino, offset, size), reply, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.file(ino).and_then(|file| file.write_at(data, offset));
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        answer!(written, reply, () => reply.written(len));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.file(ino).and_then(|file| file.sync_data());
        answer!(synced, reply, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.inode(ino).and_then(|inode| self.disk.sync_dir(&inode.path));
        answer!(synced, reply, () => reply.ok());
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let grow = mode & libc::FALLOC_FL_KEEP_SIZE == 0;
        let done = self.file(ino).and_then(|file| {
            if mode & libc::FALLOC_FL_PUNCH_HOLE == 0 {
                file.allocate(offset, length, grow)
            } else {
                file.punch(offset, length)
            }
        });
        answer!(done, reply, () => reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = match self.list(ino) {
            Ok(entries) => entries,
            Err(error) => return reply.error(errno(&error)),
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (number, kind, name)) in (1..).zip(entries).skip(skip) {
            if reply.add(INodeNo(number), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 22, 1 << 21, 1 << 21, 1 << 20, 1 << 20, 4096, 255, 4096);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}
