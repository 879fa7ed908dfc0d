//! One mount: what all its requests share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use nacre_model::{Errno, Fid};
use nacre_node::Scope;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::abi::flags::RELEASE_FLOCK_UNLOCK;
use super::abi::input::{ForgetOne, InHeader};
use super::answer::Answer;
use super::device::Transport;
use super::dirstream::DirStream;
use super::flock_closes::{FlockClose, FlockCloses};
use super::fs::{Filesystem, Inherited};
use super::handles::Handles;
use super::init::Negotiated;
use super::interrupt::{Interruptible, Interrupts};
use super::kept::Kept;
use super::lease::Grants;
use super::linking::{self, Linked};
use super::nodes::Nodes;
use super::notifier::Notifier;
use super::options::LockScope;
use super::posix_holders::PosixHolders;
use super::request::Op;
use super::unleased::Unleased;
use crate::journal::RESENT;
use crate::types::Caller;

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
    /// No more than the kernel can be made to forget.
    pub(super) grants: Grants,
    pub(super) kept: Arc<Kept>,
    pub(super) unleased: Unleased,
    pub(super) kernel: Notifier,
    /// Files that another process has opened, by the requests that it did so for.
    unanswered: Mutex<HashMap<u64, (u64, Fid)>>,
    /// Of what goes on beside the requests.
    scope: Scope,
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
    /// A file that another process has opened for the same request: handle and inode.
    pub(super) unanswered: Option<(u64, Fid)>,
    /// For the close of a file that has a flock.
    pub(super) flock_close: Option<FlockClose>,
}

impl<F: Filesystem> Session<F> {
    pub(super) fn new(
        fs: F,
        negotiated: Negotiated,
        locks: LockScope,
        (queue, scope): (Weak<dyn Transport>, Scope),
    ) -> Self {
        let nodes = Nodes::new(fs.root());
        let kept = Arc::new(Kept::new(fs.names_rest()));
        let epochs = negotiated.grants == Grants::All;
        let kernel = Notifier::new(queue, nodes, Arc::clone(&kept), epochs);
        let Inherited { files: open, posix_holders, doubtful, names_stand } = fs.inherited();
        let (files, unleased) = (Handles::default(), Unleased::default());
        let dirs = Handles::starting_at(fs.first_number());
        let mut unanswered = HashMap::new();
        for one in open {
            files.insert_as(one.number, one.file);
            unanswered.insert(one.request, (one.number, one.fid));
        }
        for fid in doubtful {
            unleased.mark(fid);
        }
        if fs.remembered().is_some() {
            kept.inherit();
        }
        fs.attach(kernel.clone());
        if !names_stand {
            let kernel = kernel.clone();
            scope.spawn_light(&Handle::current(), async move { kernel.inval_names().await });
        }
        Self {
            fs,
            nodes,
            kept,
            unleased,
            unanswered: Mutex::new(unanswered),
            kernel,
            scope,
            grants: negotiated.grants,
            files,
            dirs,
            interrupts: Interrupts::default(),
            posix_holders: PosixHolders::of(posix_holders),
            flock_closes: FlockCloses::default(),
            locks,
            negotiated,
        }
    }

    /// What the operations need to know of a request.
    pub(super) fn call(&self, header: &InHeader, op: &Op) -> Call {
        let fid = self.nodes.fid(header.nodeid);
        let waits = matches!(op, Op::Setlk { wait: true, .. });
        let again = header.unique & RESENT != 0;
        let number = header.unique & !RESENT;
        let drops_flock = matches!(op, Op::Release(args)
            if args.release_flags & RELEASE_FLOCK_UNLOCK != 0 && self.locks == LockScope::Cluster);
        Call {
            fid,
            unanswered: again.then(|| self.unanswered.lock().remove(&number)).flatten(),
            flock_close: drops_flock.then(|| self.flock_closes.begin(fid)),
            caller: Caller { uid: header.uid, gid: header.gid },
            interrupt: waits.then(|| self.interrupts.begin(header.unique)),
        }
    }

    /// Nodes that the kernel took out of its memory.
    pub(super) fn forgets(&self, nodes: &[ForgetOne]) {
        if self.grants == Grants::Nothing {
            return;
        }
        for node in nodes {
            if linking::is_listing(node.nodeid) {
                self.linked(node.nodeid);
            } else {
                self.forget(self.nodes.fid(node.nodeid), node.lookups);
            }
        }
    }

    /// So many lookups of an inode less.
    pub(super) fn forget(&self, fid: Fid, lookups: u64) {
        if self.kept.known.forget(fid, lookups) {
            self.fs.forgotten(fid);
        }
    }

    /// The kernel took a listing up.
    pub(super) fn linked(&self, number: u64) {
        if self.kept.linking.end(number) == Linked::Late {
            let kernel = self.kernel.clone();
            self.scope.spawn_light(&Handle::current(), async move { kernel.inval_names().await });
        }
    }

    /// Attributes of these inodes that were sent before, and are not yet taken up, count no more:
    /// an operation changed the inodes that the kernel does not compare them with.
    pub(super) fn changed(&self, fids: &[Fid]) {
        if self.grants != Grants::Nothing {
            for fid in fids {
                self.kernel.overtake(*fid);
            }
        }
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
            Op::Read(args) => self.read(&call, &args).await,
            Op::Write(args) => self.write(&call, &args, data).await,
            Op::Flush(args) => self.flush(&call, &args).await,
            Op::Fsync(args) => self.fsync(&args).await,
            Op::Fallocate(args) => self.fallocate(&call, &args).await,
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
            Op::Opendir
            | Op::Release(_)
            | Op::Releasedir(_)
            | Op::Forget(_)
            | Op::Interrupt { .. }
            | Op::Destroy => Err(Errno::ENOSYS),
        }
    }
}
