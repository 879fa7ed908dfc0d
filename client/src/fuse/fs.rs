//! What the kernel channel needs of a file system.
//!
//! [`crate::Client`] is the one that is mounted; the channel's own tests bring another.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid, Name};

use super::lease::{Grants, Leases, NoLeases, Stamp};
use super::notifier::Notifier;
use crate::types::{
    AllocateMode, Caller, DirPage, LockHold, LockKind, LockOwner, NewNode, OpenFlags, RenameFlags,
    SeekFrom, SetAttr, StatFs, WriteFlags, XattrSet,
};

/// Answers the kernel's requests. Names are checked, permissions too (the mount has
/// `default_permissions`); everything else is up to the implementation.
///
/// An errno goes to the application as it is; whoever makes one of a deeper error logs that.
#[expect(
    missing_docs,
    reason = "what has no comment does what the client's method of that name does"
)]
pub trait Filesystem: Send + Sync + 'static {
    /// One open file.
    type File: Send + Sync + 'static;

    /// The directory that the mount shows.
    fn root(&self) -> Fid;

    /// For what [`Filesystem::pinned`] ever finds a lease. Asked once, when it is mounted.
    fn grants(&self) -> Grants {
        Grants::Nothing
    }

    /// How long no names are kept after the kernel had to forget them ([`Notifier::inval_names`]
    /// says why it should not have to too often).
    fn names_rest(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Called once, before the first request comes: how to take back what was granted.
    fn attach(&self, _kernel: Notifier) {}

    /// Now. Taken before an answer is made up.
    fn stamp(&self) -> Stamp {
        Stamp::default()
    }

    /// Calls `send`, which writes an answer to the device, while no lease can be revoked, and shows
    /// it which leases count for an answer that was begun at `stamp`.
    ///
    /// `send` neither blocks nor calls back. A read lock here, and the write lock for the moment in
    /// which a lease is forgotten, is all there is to it.
    fn pinned<R>(&self, _stamp: Stamp, send: impl FnOnce(&dyn Leases) -> R) -> R {
        send(&NoLeases)
    }

    /// The kernel has forgotten the inode, so a lease on it is of no more use to it. It may learn
    /// of it again at any time: giving the lease back is a revocation as any other.
    fn forgotten(&self, _fid: Fid) {}

    fn lookup(&self, dir: Fid, name: &Name) -> impl Answering<Attr>;
    fn lookup_parent(&self, dir: Fid) -> impl Answering<Attr>;
    fn getattr(&self, fid: Fid) -> impl Answering<Attr>;
    fn setattr(
        &self,
        caller: Caller,
        fid: Fid,
        set: SetAttr,
        file: Option<&Self::File>,
    ) -> impl Answering<Attr>;
    fn create(&self, caller: Caller, dir: Fid, name: &Name, node: NewNode) -> impl Answering<Attr>;
    fn create_open(
        &self,
        caller: Caller,
        dir: Fid,
        name: &Name,
        node: NewNode,
        flags: OpenFlags,
    ) -> impl Answering<(Attr, Self::File)>;
    fn tmpfile(
        &self,
        caller: Caller,
        dir: Fid,
        node: NewNode,
        flags: OpenFlags,
    ) -> impl Answering<(Attr, Self::File)>;
    fn link(&self, caller: Caller, fid: Fid, dir: Fid, name: &Name) -> impl Answering<Attr>;
    fn unlink(&self, caller: Caller, dir: Fid, name: &Name) -> impl Answering<()>;
    fn rmdir(&self, caller: Caller, dir: Fid, name: &Name) -> impl Answering<()>;
    fn rename(
        &self,
        caller: Caller,
        from: (Fid, &Name),
        to: (Fid, &Name),
        flags: RenameFlags,
    ) -> impl Answering<()>;
    fn readlink(&self, fid: Fid) -> impl Answering<Bytes>;
    fn readdir(&self, dir: Fid, cookie: u64, bytes_max: u32, plus: bool)
    -> impl Answering<DirPage>;
    fn fsyncdir(&self, dir: Fid) -> impl Answering<()>;
    fn statfs(&self) -> impl Answering<StatFs>;
    /// Everything written is on the disks when it returns.
    fn syncfs(&self) -> impl Answering<()>;

    fn getxattr(&self, fid: Fid, name: &[u8]) -> impl Answering<Bytes>;
    fn setxattr(
        &self,
        caller: Caller,
        fid: Fid,
        name: &[u8],
        value: Bytes,
        how: XattrSet,
        kill_sgid: bool,
    ) -> impl Answering<()>;
    fn listxattr(&self, fid: Fid) -> impl Answering<Vec<Bytes>>;
    fn removexattr(&self, caller: Caller, fid: Fid, name: &[u8]) -> impl Answering<()>;

    fn open(&self, caller: Caller, fid: Fid, flags: OpenFlags) -> impl Answering<Self::File>;
    fn read(&self, file: &Self::File, offset: u64, len: u64) -> impl Answering<Vec<Bytes>>;
    /// Writes all of `data`, or fails.
    fn write(
        &self,
        file: &Self::File,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> impl Answering<()>;
    fn flush(&self, file: &Self::File) -> impl Answering<()>;
    fn fsync(&self, file: &Self::File, data_only: bool) -> impl Answering<()>;
    /// The last descriptor is gone. The kernel does not wait for the answer, and drops its error.
    fn release(&self, file: &Self::File) -> impl Answering<()>;
    fn fallocate(
        &self,
        file: &Self::File,
        mode: AllocateMode,
        offset: u64,
        len: u64,
    ) -> impl Answering<()>;
    fn lseek(&self, file: &Self::File, from: SeekFrom) -> impl Answering<u64>;
    fn copy_file_range(
        &self,
        from: (&Self::File, u64),
        to: (&Self::File, u64),
        len: u64,
    ) -> impl Answering<u64>;

    /// Takes a lock. With `wait`, dropping the future takes the request back.
    fn lock(&self, fid: Fid, lock: LockHold, wait: bool) -> impl Answering<()>;
    fn unlock(
        &self,
        fid: Fid,
        kind: LockKind,
        owner: LockOwner,
        start: u64,
        end: u64,
    ) -> impl Answering<()>;
    fn test_lock(&self, fid: Fid, lock: LockHold) -> impl Answering<Option<LockHold>>;
}

/// An answer in the making.
pub trait Answering<T>: Future<Output = Result<T, Errno>> + Send {}
impl<T, F: Future<Output = Result<T, Errno>> + Send> Answering<T> for F {}
