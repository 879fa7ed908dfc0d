//! The objects held open, a bounded number.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nacre_model::ObjectId;
use parking_lot::Mutex;

use super::slot::{Slot, State};

/// All slots, and which of them are in doubt.
pub(crate) struct Slots {
    max: usize,
    open: Mutex<HashMap<ObjectId, Arc<Slot>>>,
    /// By the round in which they came into doubt. Taken after a slot's state, never before.
    doubtful: Mutex<BTreeSet<(u64, ObjectId)>>,
    round: AtomicU64,
    tick: AtomicU64,
}

impl Slots {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.clamp(16, super::intent::OBJECTS_MAX / 2),
            open: Mutex::default(),
            doubtful: Mutex::default(),
            round: AtomicU64::new(0),
            tick: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, id: ObjectId) -> Option<Arc<Slot>> {
        let slot = self.open.lock().get(&id).map(Arc::clone)?;
        slot.used.store(self.tick.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(slot)
    }

    pub(crate) fn get_or_insert(&self, id: ObjectId) -> Arc<Slot> {
        let mut slots = self.open.lock();
        let slot = slots.entry(id).or_insert_with(|| Arc::new(Slot::new(id)));
        slot.used.store(self.tick.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Arc::clone(slot)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.lock().len() >= self.max
    }

    /// Lets go of an eighth of the slots, the longest unused of those that nobody uses and that
    /// are not in doubt. Whether that was enough to make room.
    pub(crate) fn shrink(&self) -> bool {
        let mut slots = self.open.lock();
        let mut idle: Vec<_> = slots
            .values()
            // Nobody else can come by a slot but through the map, which is locked.
            .filter(|slot| Arc::strong_count(slot) == 1 && !in_doubt(slot))
            .map(|slot| (slot.used.load(Ordering::Relaxed), slot.id))
            .collect();
        let quota = (self.max / 8).max(1);
        if idle.len() > quota {
            idle.select_nth_unstable(quota);
            idle.truncate(quota);
        }
        for (_, id) in idle {
            slots.remove(&id);
        }
        slots.len() < self.max
    }

    /// An object came into doubt.
    pub(crate) fn doubt(&self, id: ObjectId) {
        self.doubtful.lock().insert((self.round.load(Ordering::Relaxed), id));
    }

    /// The oldest in doubt, at most `max`, and only those of rounds before this one if `aged`.
    /// They are no longer listed.
    pub(crate) fn take_doubtful(&self, max: usize, aged: bool) -> Vec<ObjectId> {
        let mut doubtful = self.doubtful.lock();
        let before = if aged { self.round.load(Ordering::Relaxed) } else { u64::MAX };
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(&(round, id)) = doubtful.first()
            && round < before
        {
            doubtful.pop_first();
            taken.push(id);
        }
        taken
    }

    pub(crate) fn next_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn doubtful_count(&self) -> usize {
        self.doubtful.lock().len()
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }
}

fn in_doubt(slot: &Slot) -> bool {
    matches!(&*slot.state.lock(), State::Present(present) if present.doubtful || !present.retiring.is_empty())
}
