//! One object in memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nacre_model::{ObjectId, Timestamp};
use parking_lot::Mutex;

use super::files::Files;
use super::header::Owner;
use super::range_lock::{Mode, RangeLock};
use super::ranges::RangeSet;

/// An object that somebody asked for: at most one slot for each id, so that its lock is the
/// object's. Order of locks: range, then state; no state of two slots at a time, and no I/O
/// under a state.
pub(crate) struct Slot {
    pub(crate) id: ObjectId,
    pub(crate) lock: RangeLock,
    pub(crate) state: Mutex<State>,
    /// Tick of the last use.
    pub(crate) used: AtomicU64,
}

/// ```text
/// Unknown --load--> Absent --create--> Present
///    |                ^                   |
///    '----load--------+------------------>|
///                     '-----destroy-------'
/// ```
pub(crate) enum State {
    /// Nobody has looked.
    Unknown,
    /// The object does not exist.
    Absent,
    /// It does.
    Present(Present),
}

/// What is known of an object that exists.
pub(crate) struct Present {
    pub(crate) files: Arc<Files>,
    /// In bytes: the length of the data file.
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) owner: Owner,
    /// Of the header last written.
    pub(crate) version: u64,
    /// Changes since it was loaded.
    pub(crate) changes: u64,
    /// How many of them were on the disk at the last sync.
    pub(crate) synced: u64,
    /// Whether the names of its files are durable.
    pub(crate) named: bool,
    /// What lies below is clean unless in one of the sets; what lies above is in doubt.
    pub(crate) clean_end: u64,
    /// Ranges below `clean_end` that the intent log names durably: in doubt, writable at once.
    pub(crate) logged: RangeSet,
    /// Ranges that the log names until a header that is being written is durable, and ranges
    /// that it named before the last start.
    pub(crate) retiring: RangeSet,
    /// Ranges whose checksums a crash may have left untrue: computed anew before use.
    pub(crate) unchecked: RangeSet,
    /// Intents logged since the object was clean: the ranges grow with them.
    pub(crate) intents: u32,
    /// Whether something is in doubt, so that it must be made clean.
    pub(crate) doubtful: bool,
}

impl Slot {
    pub(crate) fn new(id: ObjectId) -> Self {
        Self {
            id,
            lock: RangeLock::default(),
            state: Mutex::new(State::Unknown),
            used: AtomicU64::new(0),
        }
    }

    /// Runs `f` on the object, if it is known to exist.
    pub(crate) fn present<T>(&self, f: impl FnOnce(&mut Present) -> T) -> Option<T> {
        match &mut *self.state.lock() {
            State::Present(present) => Some(f(present)),
            State::Unknown | State::Absent => None,
        }
    }

    /// Waits for a range of the object.
    pub(crate) fn hold(self: &Arc<Self>, start: u64, end: u64, mode: Mode) -> Held {
        let ticket = self.lock.acquire(start, end, mode);
        Held { slot: Arc::clone(self), ticket }
    }

    /// Waits for the whole object.
    pub(crate) fn hold_all(self: &Arc<Self>) -> Held {
        self.hold(0, u64::MAX, Mode::Exclusive)
    }
}

/// A range of an object.
#[must_use = "dropping releases the range"]
pub(crate) struct Held {
    pub(crate) slot: Arc<Slot>,
    ticket: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slot.lock.release(self.ticket);
    }
}
