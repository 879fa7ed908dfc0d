//! One mount: what all its requests share.

use std::sync::Arc;

use nacre_model::{Attr, Errno, Fid};

use super::abi::flags::RELEASE_FLOCK_UNLOCK;
use super::abi::input::InHeader;
use super::dirstream::DirStream;
use super::encode;
use super::flock_closes::{FlockClose, FlockCloses};
use super::fs::Filesystem;
use super::handles::Handles;
use super::init::Negotiated;
use super::interrupt::{Interruptible, Interrupts};
use super::nodes::Nodes;
use super::options::LockScope;
use super::posix_holders::PosixHolders;
use super::reply::Answer;
use super::request::Op;
use crate::types::Caller;
use bytes::Bytes;

/// One mount.
#[derive(Debug)]
pub(super) struct Session<F: Filesystem> {
    pub(super) fs: F,
    pub(super) nodes: Nodes,
    pub(super) files: Handles<F::File>,
    pub(super) dirs: Handles<DirStream>,
    pub(super) interrupts: Interrupts,
    pub(super) posix_holders: PosixHolders,
    pub(super) flock_closes: FlockCloses,
    pub(super) locks: LockScope,
    pub(super) negotiated: Negotiated,
}

/// One request, as the operations see it.
#[derive(Debug)]
pub(super) struct Call {
    /// The inode it is about.
    pub(super) fid: Fid,
    /// Who asks.
    pub(super) caller: Caller,
    /// For requests that a signal may cut short.
    pub(super) interrupt: Option<Interruptible>,
    /// For the close of a file that has a flock.
    pub(super) flock_close: Option<FlockClose>,
}

impl<F: Filesystem> Session<F> {
    pub(super) fn new(fs: F, negotiated: Negotiated, locks: LockScope) -> Self {
        let nodes = Nodes::new(fs.root());
        Self {
            fs,
            nodes,
            files: Handles::default(),
            dirs: Handles::default(),
            interrupts: Interrupts::default(),
            posix_holders: PosixHolders::default(),
            flock_closes: FlockCloses::default(),
            locks,
            negotiated,
        }
    }

    /// What the operations need to know of a request.
    pub(super) fn call(&self, header: &InHeader, op: &Op) -> Call {
        let fid = self.nodes.fid(header.nodeid);
        let waits = matches!(op, Op::Setlk { wait: true, .. });
        let drops_flock = matches!(op, Op::Release(args)
            if args.release_flags & RELEASE_FLOCK_UNLOCK != 0 && self.locks == LockScope::Cluster);
        Call {
            fid,
            flock_close: drops_flock.then(|| self.flock_closes.begin(fid)),
            caller: Caller { uid: header.uid, gid: header.gid },
            interrupt: waits.then(|| self.interrupts.begin(header.unique)),
        }
    }

    /// Answers with an inode that a name leads to.
    pub(super) fn entry(&self, attr: &Attr) -> Answer {
        Answer::of(&encode::entry_out(self.nodes, attr, self.fs.validity(attr.fid)))
    }

    /// Carries out one request. `data` is the payload of a write.
    pub(super) async fn answer(
        self: &Arc<Self>,
        call: Call,
        op: Op,
        data: Bytes,
    ) -> Result<Answer, Errno> {
        match op {
            Op::Lookup(target) => self.lookup(&call, target).await,
            Op::Readlink => self.readlink(&call).await,
            Op::Symlink { name, target } => self.symlink(&call, name, target).await,
            Op::Mknod(args, name) => self.mknod(&call, &args, name).await,
            Op::Mkdir(args, name) => self.mkdir(&call, &args, name).await,
            Op::Unlink(name) => self.unlink(&call, name).await,
            Op::Rmdir(name) => self.rmdir(&call, name).await,
            Op::Rename { new_parent, flags, name, new_name } => {
                self.rename(&call, new_parent, flags, name, new_name).await
            }
            Op::Link { node, name } => self.link(&call, node, name).await,
            Op::Getattr => self.getattr(&call).await,
            Op::Statx => self.statx(&call).await,
            Op::Setattr(args) => self.setattr(&call, &args).await,
            Op::Statfs => self.statfs().await,
            Op::Syncfs => self.syncfs().await,
            Op::Open(args) => self.open(&call, &args).await,
            Op::Create(args, name) => self.create(&call, &args, name).await,
            Op::Tmpfile(args) => self.tmpfile(&call, &args).await,
            Op::Read(args) => self.read(&args).await,
            Op::Write(args) => self.write(&args, data).await,
            Op::Flush(args) => self.flush(&call, &args).await,
            Op::Release(args) => self.release(&call, &args).await,
            Op::Fsync(args) => self.fsync(&args).await,
            Op::Fallocate(args) => self.fallocate(&args).await,
            Op::Lseek(args) => self.lseek(&args).await,
            Op::CopyFileRange { args, wide } => self.copy_file_range(&args, wide).await,
            Op::Readdir { args, plus } => self.readdir(&call, &args, plus).await,
            Op::Fsyncdir => self.fsyncdir(&call).await,
            Op::Setxattr { name, value, flags, kill_sgid } => {
                self.setxattr(&call, &name, value, flags, kill_sgid).await
            }
            Op::Getxattr { name, size } => self.getxattr(&call, &name, size).await,
            Op::Listxattr { size } => self.listxattr(&call, size).await,
            Op::Removexattr { name } => self.removexattr(&call, &name).await,
            Op::Getlk(args) => self.getlk(&call, &args).await,
            Op::Setlk { args, .. } => self.setlk(call, &args).await,
            // Taken care of where they are read.
            Op::Opendir | Op::Releasedir(_) | Op::Forget | Op::Interrupt { .. } | Op::Destroy => {
                Err(Errno::ENOSYS)
            }
        }
    }
}
