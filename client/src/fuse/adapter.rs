//! The client library as the kernel sees it.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid, Name, ServiceError};

use super::fs::{Filesystem, Inherited, InheritedFile};
use super::lease::{Grants, Leases, Stamp};
use super::leased::Leased;
use super::notifier::Notifier;
use crate::journal::Request;
use crate::types::{
    AllocateMode, Caller, DirPage, LockHold, LockKind, LockOwner, NewNode, OpenFlags, RenameFlags,
    SeekFrom, SetAttr, StatFs, WriteFlags, XattrSet,
};
use crate::{Client, ClientError, OpenFile};

/// What the application gets; the rest of the error is logged here, for nobody else learns of it.
///
/// Only what says that something is broken is worth a line: an application asks for what is not
/// there, or not allowed, all day long.
fn errno(op: &'static str, fid: Fid) -> impl FnOnce(ClientError) -> Errno {
    move |error| {
        let errno = error.errno();
        if matches!(errno, Errno::EIO | Errno::ETIMEDOUT | Errno::ENODEV | Errno::EOVERFLOW) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(op, %fid, error, "operation failed");
        }
        errno
    }
}

impl Filesystem for Client {
    type File = Arc<OpenFile>;

    fn root(&self) -> Fid {
        self.root()
    }

    fn grants(&self) -> Grants {
        if self.inner.config.leases { Grants::All } else { Grants::Nothing }
    }

    fn attach(&self, kernel: Notifier) {
        self.attach(Arc::new(kernel));
    }

    fn stamp(&self) -> Stamp {
        Stamp(self.inner.cache.stamp())
    }

    fn pinned<R>(&self, stamp: Stamp, send: impl FnOnce(&dyn Leases) -> R) -> R {
        let leased = Leased { client: self, stamp: stamp.0 };
        self.inner.cache.pinned(|| send(&leased))
    }

    fn remembered(&self) -> Option<u64> {
        self.inner.config.journal.inherited().map(|header| header.agreed)
    }

    fn remember(&self, agreed: u64) {
        self.inner.config.journal.change_header(|header| header.agreed = agreed);
    }

    fn inherited(&self) -> Inherited<Arc<OpenFile>> {
        let Some(inherited) = self.inner.inherited.lock().take() else {
            return Inherited::default();
        };
        let file = |(request, file): (u64, Arc<OpenFile>)| {
            let (number, fid) = (file.number(), file.fid());
            InheritedFile { number, request, fid, file }
        };
        Inherited {
            files: inherited.files.into_iter().map(file).collect(),
            posix_holders: inherited.posix_holders,
            doubtful: inherited.doubtful,
            names_stand: inherited.names_stand,
        }
    }

    fn first_number(&self) -> u64 {
        self.inner.config.journal.first_number()
    }

    fn number(&self, file: &Arc<OpenFile>) -> Option<u64> {
        Some(file.number())
    }

    fn closes(&self, file: &Arc<OpenFile>) {
        file.drop_note();
    }

    async fn carry(&self, request: u64, work: impl Future<Output = ()> + Send) {
        let journal = &self.inner.config.journal;
        if journal.is_kept() {
            Request::carry(journal.clone(), request, work).await;
        } else {
            work.await;
        }
    }

    async fn lookup(&self, dir: Fid, name: &Name) -> Result<Attr, Errno> {
        self.lookup(dir, name).await.map_err(errno("lookup", dir))
    }

    async fn lookup_parent(&self, dir: Fid) -> Result<Attr, Errno> {
        self.lookup_parent(dir).await.map_err(errno("lookup", dir))
    }

    async fn getattr(&self, fid: Fid) -> Result<Attr, Errno> {
        self.getattr(fid).await.map_err(errno("getattr", fid))
    }

    async fn setattr(
        &self,
        caller: Caller,
        fid: Fid,
        set: SetAttr,
        file: Option<&Arc<OpenFile>>,
    ) -> Result<Attr, Errno> {
        let file = file.map(AsRef::as_ref);
        self.setattr(caller, fid, set, file).await.map_err(errno("setattr", fid))
    }

    async fn create(
        &self,
        caller: Caller,
        dir: Fid,
        name: &Name,
        node: NewNode,
    ) -> Result<Attr, Errno> {
        self.create(caller, dir, name, node).await.map_err(errno("create", dir))
    }

    async fn create_open(
        &self,
        caller: Caller,
        dir: Fid,
        name: &Name,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>), Errno> {
        self.create_open(caller, dir, name, node, flags).await.map_err(errno("create", dir))
    }

    async fn tmpfile(
        &self,
        caller: Caller,
        dir: Fid,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>), Errno> {
        self.tmpfile(caller, dir, node, flags).await.map_err(errno("tmpfile", dir))
    }

    async fn link(&self, caller: Caller, fid: Fid, dir: Fid, name: &Name) -> Result<Attr, Errno> {
        self.link(caller, fid, dir, name).await.map_err(errno("link", fid))
    }

    async fn unlink(&self, caller: Caller, dir: Fid, name: &Name) -> Result<(), Errno> {
        self.unlink(caller, dir, name).await.map_err(errno("unlink", dir))
    }

    async fn rmdir(&self, caller: Caller, dir: Fid, name: &Name) -> Result<(), Errno> {
        self.rmdir(caller, dir, name).await.map_err(errno("rmdir", dir))
    }

    async fn rename(
        &self,
        caller: Caller,
        from: (Fid, &Name),
        to: (Fid, &Name),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        self.rename(caller, from, to, flags).await.map_err(errno("rename", from.0))
    }

    async fn readlink(&self, fid: Fid) -> Result<Bytes, Errno> {
        self.readlink(fid).await.map_err(errno("readlink", fid))
    }

    async fn readdir(
        &self,
        dir: Fid,
        cookie: u64,
        bytes_max: u32,
        plus: bool,
    ) -> Result<DirPage, Errno> {
        self.readdir(dir, cookie, bytes_max, plus).await.map_err(errno("readdir", dir))
    }

    async fn fsyncdir(&self, dir: Fid) -> Result<(), Errno> {
        self.fsyncdir(dir).await.map_err(errno("fsyncdir", dir))
    }

    async fn statfs(&self) -> Result<StatFs, Errno> {
        self.statfs().await.map_err(errno("statfs", self.root()))
    }

    async fn syncfs(&self) -> Result<(), Errno> {
        self.sync_all().await.map_err(errno("syncfs", self.root()))
    }

    async fn getxattr(&self, fid: Fid, name: &[u8]) -> Result<Bytes, Errno> {
        self.getxattr(fid, name).await.map_err(errno("getxattr", fid))
    }

    async fn setxattr(
        &self,
        caller: Caller,
        fid: Fid,
        name: &[u8],
        value: Bytes,
        how: XattrSet,
        kill_sgid: bool,
    ) -> Result<(), Errno> {
        let set = self.setxattr(caller, fid, name, value, how, kill_sgid);
        set.await.map_err(errno("setxattr", fid))
    }

    async fn listxattr(&self, fid: Fid) -> Result<Vec<Bytes>, Errno> {
        self.listxattr(fid).await.map_err(errno("listxattr", fid))
    }

    async fn removexattr(&self, caller: Caller, fid: Fid, name: &[u8]) -> Result<(), Errno> {
        self.removexattr(caller, fid, name).await.map_err(errno("removexattr", fid))
    }

    async fn open(
        &self,
        caller: Caller,
        fid: Fid,
        flags: OpenFlags,
    ) -> Result<Arc<OpenFile>, Errno> {
        self.open(caller, fid, flags).await.map_err(errno("open", fid))
    }

    async fn read(&self, file: &Arc<OpenFile>, offset: u64, len: u64) -> Result<Vec<Bytes>, Errno> {
        self.read(file, offset, len).await.map_err(errno("read", file.fid()))
    }

    async fn write(
        &self,
        file: &Arc<OpenFile>,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<(), Errno> {
        let written = self.write(file, offset, data, flags).await;
        written.map(|_where| ()).map_err(errno("write", file.fid()))
    }

    async fn flush(&self, file: &Arc<OpenFile>) -> Result<(), Errno> {
        self.flush(file).await.map_err(errno("flush", file.fid()))
    }

    async fn fsync(&self, file: &Arc<OpenFile>, data_only: bool) -> Result<(), Errno> {
        self.fsync(file, data_only).await.map_err(errno("fsync", file.fid()))
    }

    async fn release(&self, file: &Arc<OpenFile>) -> Result<(), Errno> {
        self.release(Arc::clone(file)).await.map_err(errno("release", file.fid()))
    }

    async fn fallocate(
        &self,
        file: &Arc<OpenFile>,
        mode: AllocateMode,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        self.fallocate(file, mode, offset, len).await.map_err(errno("fallocate", file.fid()))
    }

    async fn lseek(&self, file: &Arc<OpenFile>, from: SeekFrom) -> Result<u64, Errno> {
        self.lseek(file, from).await.map_err(errno("lseek", file.fid()))
    }

    async fn copy_file_range(
        &self,
        from: (&Arc<OpenFile>, u64),
        to: (&Arc<OpenFile>, u64),
        len: u64,
    ) -> Result<u64, Errno> {
        let fid = from.0.fid();
        let copy = self.copy_file_range((from.0, from.1), (to.0, to.1), len);
        copy.await.map_err(errno("copy_file_range", fid))
    }

    async fn lock(&self, fid: Fid, lock: LockHold, wait: bool) -> Result<(), Errno> {
        self.lock(fid, lock, wait).await.map_err(errno("lock", fid))
    }

    async fn unlock(
        &self,
        fid: Fid,
        kind: LockKind,
        owner: LockOwner,
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        self.unlock(fid, kind, owner, start, end).await.map_err(errno("unlock", fid))
    }

    async fn test_lock(&self, fid: Fid, lock: LockHold) -> Result<Option<LockHold>, Errno> {
        self.test_lock(fid, lock).await.map_err(errno("test_lock", fid))
    }
}
