//! Leases of the file system in memory, and what it was asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use nacre_client::fuse::{Leases, Notifier, Stamp};
use nacre_model::{Attr, Fid};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::oneshot;

/// All inodes are leased, until a test revokes them.
#[derive(Debug, Default)]
pub(crate) struct MemLeases {
    table: RwLock<Table>,
    kernel: OnceLock<Notifier>,
    asked: Mutex<BTreeMap<&'static str, usize>>,
    held: Mutex<Option<Held>>,
    forgotten: Mutex<HashSet<Fid>>,
}

#[derive(Debug, Default)]
struct Table {
    stamp: u64,
    lost: HashSet<Fid>,
    since: HashMap<Fid, u64>,
}

/// The next answer of one operation waits.
#[derive(Debug)]
struct Held {
    op: &'static str,
    reached: oneshot::Sender<()>,
    release: oneshot::Receiver<()>,
}

/// An answer that was made up, but is not sent.
#[must_use]
pub(crate) struct HeldBack {
    reached: Option<oneshot::Receiver<()>>,
    release: oneshot::Sender<()>,
}

impl HeldBack {
    /// Waits until there is one.
    pub(crate) fn wait(&mut self) {
        self.reached.take().unwrap().blocking_recv().unwrap();
    }

    pub(crate) fn release(self) {
        self.release.send(()).unwrap();
    }
}

struct View<'a> {
    table: RwLockReadGuard<'a, Table>,
    stamp: Stamp,
}

impl View<'_> {
    fn counts(&self, fid: Fid) -> bool {
        let since = self.table.since.get(&fid).copied().unwrap_or_default();
        !self.table.lost.contains(&fid) && since <= self.stamp.0
    }
}

impl Leases for View<'_> {
    fn attr(&self, attr: &Attr) -> bool {
        self.counts(attr.fid)
    }

    fn names(&self, dir: Fid) -> bool {
        self.counts(dir)
    }

    fn data(&self, fid: Fid) -> bool {
        self.counts(fid)
    }
}

impl MemLeases {
    pub(crate) fn attach(&self, kernel: Notifier) {
        self.kernel.set(kernel).unwrap();
    }

    pub(crate) fn kernel(&self) -> &Notifier {
        self.kernel.get().unwrap()
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.table.read().stamp)
    }

    pub(crate) fn pinned<R>(&self, stamp: Stamp, send: impl FnOnce(&dyn Leases) -> R) -> R {
        send(&View { table: self.table.read(), stamp })
    }

    /// The moment of a revocation; the kernel is to be told afterwards.
    pub(crate) fn lose(&self, fid: Fid) {
        let mut table = self.table.write();
        table.stamp += 1;
        table.lost.insert(fid);
    }

    /// Leased again.
    pub(crate) fn gain(&self, fid: Fid) {
        let mut table = self.table.write();
        table.stamp += 1;
        let stamp = table.stamp;
        table.lost.remove(&fid);
        table.since.insert(fid, stamp);
    }

    pub(crate) fn ask(&self, op: &'static str) {
        *self.asked.lock().entry(op).or_default() += 1;
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Holds the next answer to `op` back, as it is made up.
    pub(crate) fn hold_back(&self, op: &'static str) -> HeldBack {
        let (tell, reached) = oneshot::channel();
        let (release, wait) = oneshot::channel();
        *self.held.lock() = Some(Held { op, reached: tell, release: wait });
        HeldBack { reached: Some(reached), release }
    }

    /// Where an answer is made up.
    pub(crate) async fn made_up(&self, op: &'static str) {
        let held = self.held.lock().take_if(|held| held.op == op);
        if let Some(held) = held {
            held.reached.send(()).unwrap();
            held.release.await.unwrap();
        }
    }

    pub(crate) fn forgotten(&self, fid: Fid) {
        self.forgotten.lock().insert(fid);
    }

    pub(crate) fn was_forgotten(&self, fid: Fid) -> bool {
        self.forgotten.lock().contains(&fid)
    }
}
