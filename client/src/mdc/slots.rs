//! The slots of a session: each may have one change in flight, and its xids ascend.
//!
//! The server keeps the last reply of each slot. A change that may have to be asked for again by
//! another process keeps its slot until nobody will; of those there are so few that the others
//! always find one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All slots of one session.
#[derive(Debug)]
pub(crate) struct Slots {
    permits: Arc<Semaphore>,
    /// Last xid of each free slot. A slot that just came back is taken first: the server's kept
    /// reply of it is the freshest, and idle slots stay idle.
    free: Mutex<Vec<(u32, u64)>>,
    /// One for each slot that may be kept beyond its answer.
    keeping: Arc<Semaphore>,
    /// Slots, and their xids, of changes that the process before has sent and may not have seen
    /// answered.
    left: Mutex<BTreeMap<u32, u64>>,
}

/// A slot taken for one change. Dropping it gives the slot back: only after the answer.
#[derive(Debug)]
#[must_use = "dropping gives the slot to the next change"]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// None of a slot that was left by the process before.
    permit: Option<OwnedSemaphorePermit>,
    _keeping: Option<OwnedSemaphorePermit>,
    pub(crate) index: u32,
    pub(crate) xid: u64,
}

impl Slots {
    /// Slots `0..count`, whose xids begin above `last`, but for those that were left.
    pub(crate) fn new(count: u32, last: u64, left: BTreeMap<u32, u64>) -> Arc<Self> {
        let count = count.clamp(1, 1024);
        let free: Vec<_> =
            (0..count).rev().filter(|index| !left.contains_key(index)).map(|i| (i, last)).collect();
        let permits = Arc::new(Semaphore::new(free.len()));
        let keeping = Semaphore::new(usize::try_from(count.div_ceil(2)).unwrap_or(1));
        let (free, left) = (Mutex::new(free), Mutex::new(left));
        Arc::new(Self { permits, free, keeping: Arc::new(keeping), left })
    }

    /// Waits for a free slot and gives it the next xid.
    ///
    /// # Cancel safety
    /// Safe: nothing was taken.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        self.take_with(None).await
    }

    /// The same for a change that keeps its slot beyond its answer.
    ///
    /// # Cancel safety
    /// Safe: nothing was taken.
    pub(super) async fn take_to_keep(self: &Arc<Self>) -> Slot {
        let keeping = Arc::clone(&self.keeping).acquire_owned().await;
        let keeping = keeping.expect("the semaphore is never closed");
        self.take_with(Some(keeping)).await
    }

    async fn take_with(self: &Arc<Self>, keeping: Option<OwnedSemaphorePermit>) -> Slot {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (index, last) = self.free.lock().pop().expect("there is a free slot for each permit");
        let xid = last.saturating_add(1);
        Slot { slots: Arc::clone(self), permit: Some(permit), _keeping: keeping, index, xid }
    }

    /// The slot of a change that the process before has sent with that xid. Once.
    pub(crate) fn again(self: &Arc<Self>, index: u32, xid: u64) -> Option<Slot> {
        let mut left = self.left.lock();
        left.get(&index).filter(|left| **left == xid)?;
        left.remove(&index);
        Some(Slot { slots: Arc::clone(self), permit: None, _keeping: None, index, xid })
    }

    fn give_back(&self, index: u32, xid: u64, permit: Option<OwnedSemaphorePermit>) {
        self.free.lock().push((index, xid));
        match permit {
            Some(permit) => drop(permit),
            None => self.permits.add_permits(1),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give_back(self.index, self.xid, self.permit.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn xids_ascend_within_each_slot_and_no_slot_is_taken_twice() {
        let slots = Slots::new(2, 0, BTreeMap::new());
        let a = slots.take().await;
        let b = slots.take().await;
        assert_ne!(a.index, b.index);
        let (index, xid) = (a.index, a.xid);
        let waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.take().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(a);
        let next = waiting.await.unwrap();
        assert_eq!((next.index, next.xid), (index, xid + 1));
    }

    #[tokio::test]
    async fn a_slot_that_was_left_is_given_for_its_own_change_only() {
        let slots = Slots::new(2, 1 << 40, BTreeMap::from([(0, 9)]));
        let free = slots.take().await;
        assert_eq!((free.index, free.xid), (1, (1 << 40) + 1));
        assert!(slots.again(0, 8).is_none() && slots.again(1, 9).is_none());
        let again = slots.again(0, 9).unwrap();
        assert_eq!((again.index, again.xid), (0, 9));
        assert!(slots.again(0, 9).is_none());
        drop(again);
        assert_eq!(slots.take().await.index, 0);
    }

    #[tokio::test]
    async fn slots_that_are_kept_leave_some_for_the_others() {
        let slots = Slots::new(2, 0, BTreeMap::new());
        let _kept = slots.take_to_keep().await;
        let another = tokio::time::timeout(std::time::Duration::ZERO, slots.take_to_keep()).await;
        assert!(another.is_err());
        let _other = slots.take().await;
    }
}
