//! The store as a whole: what every operation begins with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nacre_model::{ObjectId, OstIndex, Timestamp};
use nacre_node::disk::Space;
use nacre_node::{Clock, Disk};
use parking_lot::Mutex;

use super::files::{OBJECTS, folder_path};
use super::graves::{Fate, Graves};
use super::intent::IntentLog;
use super::range_lock::Mode;
use super::slot::{Held, Slot, State};
use super::slots::Slots;
use super::space::Budget;
use super::{block_end, block_start};
use crate::error::OssError;
use crate::metrics::Metrics;

/// How a store is to be run.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Which OST it is, for logs and metrics.
    pub ost: OstIndex,
    /// Differs at each start; part of the verifier.
    pub boot_id: u64,
    /// Space that is never given to data, in bytes; at most a twentieth of the disk.
    pub reserve_bytes: u64,
    /// Most objects held open; two files each.
    pub objects_max: usize,
    /// From so many objects on that are to be made clean together, the whole file system is
    /// synced instead of file by file.
    pub sync_all_from: usize,
}

impl StoreOptions {
    /// The usual: 64 MiB of reserve, 2048 open objects, file by file below 16.
    pub fn new(ost: OstIndex, boot_id: u64) -> Self {
        Self { ost, boot_id, reserve_bytes: 64 << 20, objects_max: 2048, sync_all_from: 16 }
    }
}

/// Changes when the OST may have forgotten writes that were not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verifier {
    /// Of the process.
    pub boot_id: u64,
    /// Of the target.
    pub epoch: u64,
}

/// What there is to tell of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectInfo {
    /// In bytes.
    pub size: u64,
    /// Allocated, in 512-byte units.
    pub blocks: u64,
    /// Of the last change that this server made.
    pub mtime: Timestamp,
}

/// The object store of one OST.
pub struct ObjectStore {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: StoreOptions,
    pub(crate) slots: Slots,
    pub(crate) intents: IntentLog,
    pub(crate) graves: Graves,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    /// Folders of objects that are known to exist durably.
    folders: Mutex<[bool; 256]>,
    epoch: AtomicU64,
    poisoned: AtomicBool,
    /// What was in doubt when the last run ended is not all found yet.
    walk_due: AtomicBool,
}

/// Whether an operation makes an object that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    Create,
    Pass,
}

impl ObjectStore {
    /// Opens the store in a folder, making what is missing.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: StoreOptions,
    ) -> Result<Self, OssError> {
        disk.create_dir(Path::new(OBJECTS)).map_err(OssError::disk("make folder of objects"))?;
        disk.sync_dir(Path::new("")).map_err(OssError::disk("make folder of objects"))?;
        let (intents, clean) = IntentLog::open(&*disk)?;
        Ok(Self {
            intents,
            graves: Graves::open(&*disk)?,
            slots: Slots::new(options.objects_max),
            budget: Budget::new(options.reserve_bytes),
            metrics: Metrics::new(options.ost),
            folders: Mutex::new([false; 256]),
            epoch: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            walk_due: AtomicBool::new(!clean),
            disk,
            clock,
            options,
        })
    }

    /// Whether the last stop was not a clean one, and [`ObjectStore::walk_done`] not yet said.
    pub fn walk_is_due(&self) -> bool {
        self.walk_due.load(Ordering::Acquire)
    }

    /// Every object was rechecked since the start.
    pub fn walk_done(&self) {
        self.walk_due.store(false, Ordering::Release);
    }

    /// Of now.
    pub fn verifier(&self) -> Verifier {
        Verifier { boot_id: self.options.boot_id, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// Takes note of the target's epoch; never goes back.
    pub fn raise_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// Refuses a caller that believes in an older epoch.
    pub fn check_epoch(&self, got: u64) -> Result<(), OssError> {
        let current = self.epoch.load(Ordering::Acquire);
        if got < current {
            return Err(OssError::StaleEpoch { ost: self.options.ost, got, current });
        }
        Ok(())
    }

    /// Space of the disk, without the reserve.
    pub fn space(&self) -> Result<Space, OssError> {
        self.budget.space(&*self.disk).map_err(OssError::disk("statfs"))
    }

    /// Whether a sync failed, so that no change is taken any more.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// How many objects are in doubt.
    pub fn doubtful(&self) -> usize {
        self.slots.doubtful_count()
    }

    pub(crate) fn check_poison(&self) -> Result<(), OssError> {
        if self.is_poisoned() { Err(OssError::Poisoned) } else { Ok(()) }
    }

    /// Passes the result of a sync on; an error is the last word until the target is restarted:
    /// the kernel may have dropped what it could not write, and a second sync would not say so.
    pub(crate) fn sealed<T>(&self, result: Result<T, OssError>) -> Result<T, OssError> {
        if let Err(error) = &result
            && !self.poisoned.swap(true, Ordering::AcqRel)
        {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(
                ost = %self.options.ost, %error, cause,
                "sync failed: this target takes no changes until it is restarted"
            );
            self.metrics.poisoned.set(1.0);
        }
        result
    }

    /// Waits for the blocks of a range of an object that exists and whose checksums there may be
    /// believed. `None`: it does not exist.
    pub(crate) fn enter(
        &self,
        id: ObjectId,
        (start, end): (u64, u64),
        mode: Mode,
        absent: Absent,
    ) -> Result<Option<Held>, OssError> {
        let (start, end) = (block_start(start), block_end(end));
        loop {
            let slot = self.slot(id)?;
            let held = slot.hold(start, end, mode);
            let next = match &*slot.state.lock() {
                State::Unknown => Next::Load,
                State::Absent => Next::Absent,
                State::Present(present) if present.unchecked.overlaps(start, end) => Next::Recheck,
                State::Present(_) => Next::Go,
            };
            match next {
                Next::Go => return Ok(Some(held)),
                Next::Absent => {
                    drop(held);
                    let fate = self.graves.fate(id);
                    match (absent, fate) {
                        (Absent::Create, None) => self.create(&slot)?,
                        (Absent::Pass, None | Some(Fate::Gone)) => return Ok(None),
                        (_, Some(_)) => return Err(OssError::Destroyed(id)),
                    }
                }
                Next::Load => {
                    drop(held);
                    self.load(&slot)?;
                }
                Next::Recheck => {
                    drop(held);
                    self.recheck(&slot, start, end)?;
                }
            }
        }
    }

    /// The slot of an object; makes room for it first.
    pub(crate) fn slot(&self, id: ObjectId) -> Result<Arc<Slot>, OssError> {
        if let Some(slot) = self.slots.get(id) {
            return Ok(slot);
        }
        self.make_room()?;
        Ok(self.slots.get_or_insert(id))
    }

    /// Makes a folder of objects, once.
    pub(crate) fn make_folder(&self, folder: u8) -> Result<(), OssError> {
        if self.folders.lock().get(usize::from(folder)).copied().unwrap_or(false) {
            return Ok(());
        }
        let make = || {
            point!("oss::disk::create_dir");
            self.disk.create_dir(&folder_path(folder))
        };
        make().map_err(OssError::disk("make folder of objects"))?;
        self.sealed(self.sync_folder(Path::new(OBJECTS)))?;
        if let Some(made) = self.folders.lock().get_mut(usize::from(folder)) {
            *made = true;
        }
        Ok(())
    }

    pub(crate) fn sync_folder(&self, path: &Path) -> Result<(), OssError> {
        let sync = || {
            point!("oss::disk::sync_dir");
            self.disk.sync_dir(path)
        };
        sync().map_err(OssError::disk("sync folder of objects"))
    }
}

enum Next {
    Go,
    Load,
    Absent,
    Recheck,
}
