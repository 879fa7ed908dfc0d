//! The operations.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Fid, Name};

use crate::types::{
    AllocateMode, Caller, DirPage, LockHold, LockKind, LockOwner, NewNode, OpenFlags, RenameFlags,
    SeekFrom, SetAttr, StatFs, WriteFlags, XattrSet,
};
use crate::{ClientConfig, OpenFile, Result};

/// One client of one file system. Cheap to clone; all clones are the same client.
///
/// Every future may be dropped at any point: what was already sent may then still happen, and is
/// carried to its end in the background, so that the client's own state stays right.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<()>,
}

impl Client {
    /// Finds the cluster by its MGS, opens a session with the MDS and resolves the subdirectory.
    ///
    /// # Errors
    /// [`crate::ClientError::Unreachable`] after `connect_deadline`; ENOENT or ENOTDIR for the
    /// subdirectory.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        let _ = config;
        todo!()
    }

    /// Writes out what is dirty, closes what is open and says goodbye to the MDS.
    pub async fn disconnect(&self) -> Result<()> {
        todo!()
    }

    /// The directory that is the root of this mount.
    pub fn root(&self) -> Fid {
        let _ = &self.inner;
        todo!()
    }

    // ---- namespace

    /// Finds a name in a directory.
    pub async fn lookup(&self, parent: Fid, name: &Name) -> Result<Attr> {
        let _ = (parent, name);
        todo!()
    }

    /// The directory above; the root's is the root itself.
    pub async fn lookup_parent(&self, dir: Fid) -> Result<Attr> {
        let _ = dir;
        todo!()
    }

    /// Attributes with the true size: data that is still here is written out first, and sizes of
    /// objects are asked for when somebody else may be writing. A dead OST is passed over.
    pub async fn getattr(&self, fid: Fid) -> Result<Attr> {
        let _ = fid;
        todo!()
    }

    /// Changes attributes. `handle`: the file through which `ftruncate` came, if any.
    pub async fn setattr(
        &self,
        caller: Caller,
        fid: Fid,
        set: SetAttr,
        handle: Option<&OpenFile>,
    ) -> Result<Attr> {
        let _ = (caller, fid, set, handle);
        todo!()
    }

    /// Makes a file, directory, symbolic link or special file. EEXIST if the name is taken.
    pub async fn create(
        &self,
        caller: Caller,
        parent: Fid,
        name: &Name,
        node: NewNode,
    ) -> Result<Attr> {
        let _ = (caller, parent, name, node);
        todo!()
    }

    /// Makes a regular file and opens it; an existing one is opened unless `EXCLUSIVE`.
    pub async fn create_open(
        &self,
        caller: Caller,
        parent: Fid,
        name: &Name,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>)> {
        let _ = (caller, parent, name, node, flags);
        todo!()
    }

    /// Makes and opens a regular file without a name (`O_TMPFILE`); [`Client::link`] names it.
    pub async fn tmpfile(
        &self,
        caller: Caller,
        parent: Fid,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>)> {
        let _ = (caller, parent, node, flags);
        todo!()
    }

    /// Gives an inode another name.
    pub async fn link(&self, caller: Caller, fid: Fid, parent: Fid, name: &Name) -> Result<Attr> {
        let _ = (caller, fid, parent, name);
        todo!()
    }

    /// Removes a name of something that is not a directory.
    pub async fn unlink(&self, caller: Caller, parent: Fid, name: &Name) -> Result<()> {
        let _ = (caller, parent, name);
        todo!()
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, caller: Caller, parent: Fid, name: &Name) -> Result<()> {
        let _ = (caller, parent, name);
        todo!()
    }

    /// Renames, over an existing file or empty directory unless the flags say otherwise.
    pub async fn rename(
        &self,
        caller: Caller,
        from: (Fid, &Name),
        to: (Fid, &Name),
        flags: RenameFlags,
    ) -> Result<()> {
        let _ = (caller, from, to, flags);
        todo!()
    }

    /// Target of a symbolic link.
    pub async fn readlink(&self, fid: Fid) -> Result<Bytes> {
        let _ = fid;
        todo!()
    }

    /// Entries after `cookie` (0: from the start), about `bytes_max` of them, with attributes if
    /// `plus`.
    pub async fn readdir(
        &self,
        dir: Fid,
        cookie: u64,
        bytes_max: u32,
        plus: bool,
    ) -> Result<DirPage> {
        let _ = (dir, cookie, bytes_max, plus);
        todo!()
    }

    /// Returns when all changes of the directory that were answered are on disk.
    pub async fn fsyncdir(&self, dir: Fid) -> Result<()> {
        let _ = dir;
        todo!()
    }

    /// Space of the file system, summed over what answers.
    pub async fn statfs(&self) -> Result<StatFs> {
        todo!()
    }

    /// All paths of an inode, from the root of the file system, without leading slash.
    pub async fn fid2path(&self, fid: Fid) -> Result<Vec<Bytes>> {
        let _ = fid;
        todo!()
    }

    // ---- extended attributes

    /// Value of an extended attribute; ENODATA if it is not there. Full names
    /// (`user.x`, `system.posix_acl_access`); virtual names start with `nacre.`.
    pub async fn getxattr(&self, fid: Fid, name: &[u8]) -> Result<Bytes> {
        let _ = (fid, name);
        todo!()
    }

    /// Sets an extended attribute. `kill_sgid`: an ACL set by somebody outside the group.
    pub async fn setxattr(
        &self,
        caller: Caller,
        fid: Fid,
        name: &[u8],
        value: Bytes,
        how: XattrSet,
        kill_sgid: bool,
    ) -> Result<()> {
        let _ = (caller, fid, name, value, how, kill_sgid);
        todo!()
    }

    /// Names of all extended attributes.
    pub async fn listxattr(&self, fid: Fid) -> Result<Vec<Bytes>> {
        let _ = fid;
        todo!()
    }

    /// Removes an extended attribute; ENODATA if it is not there.
    pub async fn removexattr(&self, caller: Caller, fid: Fid, name: &[u8]) -> Result<()> {
        let _ = (caller, fid, name);
        todo!()
    }

    // ---- data

    /// Opens a regular file.
    pub async fn open(&self, caller: Caller, fid: Fid, flags: OpenFlags) -> Result<Arc<OpenFile>> {
        let _ = (caller, fid, flags);
        todo!()
    }

    /// Reads up to `len` bytes: segments that follow each other, together shorter than `len` only
    /// at the end of the file.
    pub async fn read(&self, file: &OpenFile, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        let _ = (file, offset, len);
        todo!()
    }

    /// Writes all of `data`. Returns where it was written (which `APPEND` decides).
    pub async fn write(
        &self,
        file: &OpenFile,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<u64> {
        let _ = (file, offset, data, flags);
        todo!()
    }

    /// What `close(2)` waits for: data written through any handle of the file is with the servers,
    /// and others see its size. Tells errors of earlier writes once per open file.
    pub async fn flush(&self, file: &OpenFile) -> Result<()> {
        let _ = file;
        todo!()
    }

    /// Data and attributes are on disk when this returns; with `datasync` only what is needed to
    /// read the data back.
    pub async fn fsync(&self, file: &OpenFile, datasync: bool) -> Result<()> {
        let _ = (file, datasync);
        todo!()
    }

    /// The last descriptor is gone.
    pub async fn release(&self, file: Arc<OpenFile>) -> Result<()> {
        let _ = file;
        todo!()
    }

    /// Reserves or frees space.
    pub async fn fallocate(
        &self,
        file: &OpenFile,
        mode: AllocateMode,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let _ = (file, mode, offset, len);
        todo!()
    }

    /// Finds data or a hole. ENXIO at or beyond the end of the file.
    pub async fn lseek(&self, file: &OpenFile, from: SeekFrom) -> Result<u64> {
        let _ = (file, from);
        todo!()
    }

    /// Copies up to `len` bytes; returns how many, fewer only at the end of the source.
    pub async fn copy_file_range(
        &self,
        from: (&OpenFile, u64),
        to: (&OpenFile, u64),
        len: u64,
    ) -> Result<u64> {
        let _ = (from, to, len);
        todo!()
    }

    // ---- locks

    /// Takes a lock. With `wait`, the future resolves when it is granted; dropping the future
    /// takes the request back. Without, EAGAIN on conflict. EDEADLK as POSIX has it.
    pub async fn lock(&self, fid: Fid, lock: LockHold, wait: bool) -> Result<()> {
        let _ = (fid, lock, wait);
        todo!()
    }

    /// Gives back a range of locks (`start..=end`).
    pub async fn unlock(
        &self,
        fid: Fid,
        kind: LockKind,
        owner: LockOwner,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let _ = (fid, kind, owner, start, end);
        todo!()
    }

    /// The first lock that stands in the way, if any (`F_GETLK`).
    pub async fn test_lock(&self, fid: Fid, lock: LockHold) -> Result<Option<LockHold>> {
        let _ = (fid, lock);
        todo!()
    }
}
