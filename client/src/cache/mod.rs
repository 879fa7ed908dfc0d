//! What this client was told and may use without asking, because it holds a lease on it.
//!
//! ```text
//! ask() ─► request ─► reply ─► learn_…(asked, lease, what)      kept while the lease lasts
//! change(fids) ─► request ─► reply ─► done(…)                   own changes keep the lease
//! recall ─► revoke() ─► kernel, dirty data ─► ReturnLeases      `recall`
//! ```
//!
//! Three things decide whether what a reply says may be kept: its session is still the one, its
//! lease has a higher number than any recall has named, and no change of this client's own came
//! between question and answer.

mod node;
mod recall;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nacre_model::{Attr, Fid, FileKind};
use nacre_proto::v1;
use parking_lot::{Mutex, RwLock};

pub(crate) use node::Mode;
pub use recall::KernelCache;
pub(crate) use recall::{Event, Recalls};
use table::Table;

/// Leases of one mount, and what is known under them.
#[derive(Debug)]
pub(crate) struct Cache {
    table: Mutex<Table>,
    /// Shared while an answer that rests on a lease is on its way to the kernel; alone in the
    /// instant in which leases are revoked.
    sending: RwLock<()>,
    /// The server has not been heard of for most of the lease time: it may have given the leases
    /// to others any moment now.
    suspended: AtomicBool,
}

/// When a question was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    session: u64,
    clock: u64,
    moment: u64,
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It leads here.
    To(Fid),
    /// There is none.
    Absent,
    /// Ask.
    Nothing,
}

/// What is known of an extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Xattr {
    Is(Bytes),
    Absent,
    /// Ask.
    Unknown,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::default(),
            sending: RwLock::new(()),
            suspended: AtomicBool::new(false),
        }
    }

    /// Another process of this mount held these leases. Nothing is known under them.
    pub(crate) fn inherit(&self, session: u64, leases: Vec<(Fid, Mode, u64)>) {
        let mut table = self.table.lock();
        table.begin(session);
        for (fid, mode, number) in leases {
            table.inherit(fid, mode, number);
        }
    }

    fn usable(&self) -> bool {
        !self.suspended.load(Ordering::Acquire)
    }

    /// Taken before a question is sent in `session`.
    pub(crate) fn ask(&self, session: u64) -> Asked {
        let table = self.table.lock();
        Asked { session, clock: table.clock, moment: table.moment }
    }

    /// The mode in which the inode is held.
    pub(crate) fn mode(&self, fid: Fid) -> Mode {
        if self.usable() { self.table.lock().mode(fid) } else { Mode::None }
    }

    /// Whether written data may wait here. Also while the server is silent: nobody else can have
    /// the file before this client is evicted.
    pub(crate) fn may_hold_data(&self, fid: Fid) -> bool {
        self.table.lock().mode(fid) == Mode::Exclusive
    }

    /// Does something while nothing can be revoked, if the inode is held at least so.
    pub(crate) fn under_lease<T>(
        &self,
        fid: Fid,
        least: Mode,
        act: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let table = self.table.lock();
        (self.usable() && table.mode(fid) >= least).then(act).flatten()
    }

    /// Attributes, if they are known.
    pub(crate) fn attr(&self, fid: Fid) -> Option<Attr> {
        if !self.usable() {
            return None;
        }
        self.table.lock().used(fid)?.attr.clone()
    }

    /// Where a name of a directory leads.
    pub(crate) fn name(&self, dir: Fid, name: &[u8]) -> Known {
        if !self.usable() {
            return Known::Nothing;
        }
        let mut table = self.table.lock();
        let Some(node) = table.used(dir) else { return Known::Nothing };
        match node.names.get(name) {
            Some(Some(fid)) => Known::To(*fid),
            Some(None) => Known::Absent,
            None if node.complete => Known::Absent,
            None => Known::Nothing,
        }
    }

    /// Target of a symbolic link.
    pub(crate) fn target(&self, fid: Fid) -> Option<Bytes> {
        if !self.usable() {
            return None;
        }
        self.table.lock().used(fid)?.target.clone()
    }

    /// Value of an extended attribute.
    pub(crate) fn xattr(&self, fid: Fid, name: &[u8]) -> Xattr {
        if !self.usable() {
            return Xattr::Unknown;
        }
        let mut table = self.table.lock();
        let Some(node) = table.used(fid) else { return Xattr::Unknown };
        if node.attr.as_ref().is_some_and(|attr| attr.xattr_count == 0) {
            return Xattr::Absent;
        }
        match node.xattrs.get(name) {
            Some(Some(value)) => Xattr::Is(value.clone()),
            Some(None) => Xattr::Absent,
            None => Xattr::Unknown,
        }
    }

    /// A reply brought a lease, and attributes: true ones, or none worth keeping.
    pub(crate) fn learn(
        &self,
        asked: Asked,
        fid: Fid,
        lease: Option<v1::Lease>,
        attr: Option<&Attr>,
    ) {
        self.learn_with(asked, fid, lease, attr, |_held| {});
    }

    /// The same; what else is kept of the reply is noted meanwhile, where no lease can go. `act` is
    /// told whether one stands for the reply.
    pub(crate) fn learn_with(
        &self,
        asked: Asked,
        fid: Fid,
        lease: Option<v1::Lease>,
        attr: Option<&Attr>,
        act: impl FnOnce(bool),
    ) {
        let mut table = self.table.lock();
        if let Some(node) = table.granted(asked, fid, lease)
            && let Some(attr) = attr
        {
            node.attr = Some(attr.clone());
        }
        let held = table.takes(asked, fid, lease);
        act(held);
    }

    /// As [`Cache::learn`]; the moment since when the lease stands under which the reply is true.
    pub(crate) fn learn_since(
        &self,
        asked: Asked,
        fid: Fid,
        lease: Option<v1::Lease>,
        attr: &Attr,
    ) -> Option<u64> {
        let mut table = self.table.lock();
        if let Some(node) = table.granted(asked, fid, lease) {
            node.attr = Some(attr.clone());
        }
        table.takes(asked, fid, lease).then(|| table.since(fid)).flatten()
    }

    /// Does something while nothing can be revoked, if the lease of that moment still stands.
    pub(crate) fn under_lease_since<T>(
        &self,
        fid: Fid,
        since: Option<u64>,
        act: impl FnOnce() -> T,
    ) -> Option<T> {
        let table = self.table.lock();
        (self.usable() && since.is_some() && table.since(fid) == since).then(act)
    }

    /// A reply told where a name leads.
    pub(crate) fn learn_name(
        &self,
        asked: Asked,
        dir: Fid,
        lease: Option<v1::Lease>,
        name: Bytes,
        to: Option<Fid>,
    ) {
        self.table.lock().learn_name(asked, dir, lease, name, to);
    }

    /// A reply told the target of a symbolic link. No lease came with it.
    pub(crate) fn learn_target(&self, asked: Asked, fid: Fid, target: Bytes) {
        if let Some(node) = self.table.lock().granted(asked, fid, None) {
            node.target = Some(target);
        }
    }

    /// A reply told an extended attribute, or that there is none. No lease came with it.
    pub(crate) fn learn_xattr(&self, asked: Asked, fid: Fid, name: Bytes, value: Option<Bytes>) {
        if let Some(node) = self.table.lock().granted(asked, fid, None) {
            node.learn_xattr(name, value);
        }
    }

    /// This client is about to change these inodes itself. What is learned of them meanwhile is
    /// not kept.
    pub(crate) fn change(&self, fids: &[Fid]) -> Changing<'_> {
        let mut fids = fids.to_vec();
        fids.sort_unstable();
        fids.dedup();
        let mut table = self.table.lock();
        for fid in &fids {
            table.begin_change(*fid);
        }
        let begun = table.now();
        Changing { cache: self, begun, fids, done: false }
    }

    /// The inode has ceased to be.
    pub(crate) fn gone(&self, fid: Fid) {
        self.table.lock().gone(fid);
    }

    /// The moment at which an answer is begun.
    pub(crate) fn stamp(&self) -> u64 {
        self.table.lock().moment
    }

    /// Does something while nothing can be revoked.
    pub(crate) fn pinned<R>(&self, act: impl FnOnce() -> R) -> R {
        let _sending = self.sending.read();
        act()
    }

    /// Whether a lease on the inode stood at that moment, and stands.
    pub(crate) fn stood(&self, fid: Fid, stamp: u64) -> bool {
        self.usable() && self.table.lock().stood(fid, stamp)
    }

    /// Leases held.
    pub(crate) fn held_count(&self) -> usize {
        self.table.lock().held
    }
}

/// A change of this client's own on its way.
#[derive(Debug)]
pub(crate) struct Changing<'a> {
    cache: &'a Cache,
    begun: Asked,
    fids: Vec<Fid>,
    done: bool,
}

/// What a change that succeeded has made of what was known.
#[derive(Debug)]
pub(crate) enum Effect<'a> {
    /// These are its attributes now.
    Attr(&'a Attr),
    /// It has other attributes now, which nobody told.
    Touched,
    /// A name leads here now, or nowhere.
    Name(Bytes, Option<Fid>),
}

impl Changing<'_> {
    /// The change was made. What has no effect named is touched.
    pub(crate) fn done(mut self, effects: &[(Fid, Effect<'_>)]) {
        self.done = true;
        let mut table = self.cache.table.lock();
        for fid in &self.fids {
            let told = effects.iter().filter(|(other, _)| other == fid).map(|(_, effect)| effect);
            // What was lost meanwhile may have been changed by others after this.
            let held = table.stands(self.begun, *fid);
            table.end_change(self.begun, *fid, held.then(|| told.collect()));
        }
    }

    /// The change was of this one file.
    pub(crate) fn done_file(mut self, fid: Fid, changed: &crate::mdc::Changed) {
        self.done = true;
        let effect = changed.attr.as_ref().map_or(Effect::Touched, Effect::Attr);
        let mut table = self.cache.table.lock();
        let told = table.takes(self.begun, fid, changed.lease);
        table.end_change(self.begun, fid, told.then(|| vec![&effect]));
    }

    /// What came about besides: an inode that was made, with its lease.
    pub(crate) fn made(&self, fid: Fid, lease: Option<v1::Lease>, attr: &Attr) {
        let mut table = self.cache.table.lock();
        let asked = Asked { session: self.begun.session, ..table.now() };
        if let Some(node) = table.granted(asked, fid, lease) {
            node.attr = Some(attr.clone());
            // Nobody else can have known of it when the lease was given.
            node.complete = attr.kind == FileKind::Directory;
        }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Whether it happened is not known.
        let mut table = self.cache.table.lock();
        for fid in &self.fids {
            table.end_change(self.begun, *fid, None);
        }
    }
}
