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

    /// What an earlier process agreed on with the kernel, if this one goes on with its mount.
    fn remembered(&self) -> Option<u64> {
        None
    }

    /// For the process after this one. Never 0.
    fn remember(&self, _agreed: u64) {}

    /// What that process had under way. Asked once, before the first request comes.
    fn inherited(&self) -> Inherited<Self::File> {
        Inherited::default()
    }

    /// Numbers below this one may be known to the kernel from an earlier process.
    fn first_number(&self) -> u64 {
        1
    }

    /// What the kernel calls an open file by, if the file system can tell: another process must
    /// know it by that number too.
    fn number(&self, _file: &Self::File) -> Option<u64> {
        None
    }

    /// The file is about to be released; nobody else need go on with it.
    fn closes(&self, _file: &Self::File) {}

    /// Carries out a request that the kernel may send again to another process: its answer is
    /// written at the end of `work`.
    fn carry(
        &self,
        _request: u64,
        work: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = ()> + Send {
        work
    }

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

/// What an earlier process of the same mount had under way.
#[derive(Debug)]
pub struct Inherited<File> {
    /// Open files.
    pub files: Vec<InheritedFile<File>>,
    /// Owners of POSIX locks.
    pub posix_holders: Vec<(Fid, u64)>,
    /// Inodes whose pages in the kernel need not be true.
    pub doubtful: Vec<Fid>,
    /// Whether leases stand for the names that the kernel keeps.
    pub names_stand: bool,
}

/// A file that an earlier process had open.
#[derive(Debug)]
pub struct InheritedFile<File> {
    /// What the kernel calls it by.
    pub number: u64,
    /// The request that opened it: if that comes again, the kernel never learned the number.
    pub request: u64,
    /// Its inode.
    pub fid: Fid,
    /// The file itself.
    pub file: File,
}

impl<File> Default for Inherited<File> {
    fn default() -> Self {
        let (files, posix_holders, doubtful) = (Vec::new(), Vec::new(), Vec::new());
        Self { files, posix_holders, doubtful, names_stand: true }
    }
}

/// An answer in the making.
pub trait Answering<T>: Future<Output = Result<T, Errno>> + Send {}
impl<T, F: Future<Output = Result<T, Errno>> + Send> Answering<T> for F {}
