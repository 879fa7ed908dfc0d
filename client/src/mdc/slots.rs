//! The slots of a session: each may have one change in flight, and its xids ascend.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All slots of one session.
#[derive(Debug)]
pub(crate) struct Slots {
    permits: Arc<Semaphore>,
    /// Last xid of each free slot. A slot that just came back is taken first: the server's kept
    /// reply of it is the freshest, and idle slots stay idle.
    free: Mutex<Vec<(u32, u64)>>,
}

/// A slot taken for one change. Dropping it gives the slot back: only after the answer.
#[derive(Debug)]
#[must_use = "dropping gives the slot to the next change"]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    _permit: OwnedSemaphorePermit,
    pub(crate) index: u32,
    pub(crate) xid: u64,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Arc<Self> {
        let count = count.clamp(1, 1024);
        let free = (0..count).rev().map(|index| (index, 0)).collect();
        let permits = Semaphore::new(usize::try_from(count).unwrap_or(1));
        Arc::new(Self { permits: Arc::new(permits), free: Mutex::new(free) })
    }

    /// Waits for a free slot and gives it the next xid.
    ///
    /// # Cancel safety
    /// Safe: nothing was taken.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (index, last) = self.free.lock().pop().expect("there is a free slot for each permit");
        Slot { slots: Arc::clone(self), _permit: permit, index, xid: last.saturating_add(1) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before the permit goes, which fields are dropped after this.
        self.slots.free.lock().push((self.index, self.xid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn xids_ascend_within_each_slot_and_no_slot_is_taken_twice() {
        let slots = Slots::new(2);
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
}
