//! Memory that all transfers share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of file data that all transfers of a copytool may hold at a time.
///
/// Who waits is served in the order of asking. Clones share the budget.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

/// A share of the budget, returned when it is dropped.
#[derive(Debug)]
#[must_use = "dropping returns the share"]
pub struct Share(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: u32) -> Self {
        let bytes = usize::try_from(bytes_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))), bytes_max }
    }

    /// Waits for a share of so many bytes. One that exceeds the whole budget waits for all of it:
    /// a single part of a huge file must go out all the same.
    ///
    /// # Cancel safety
    /// Safe: no share is taken, and the place in the order is lost.
    pub async fn take(&self, bytes: u64) -> Share {
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        let taken = Arc::clone(&self.bytes).acquire_many_owned(share).await;
        Share(taken.expect("the semaphore is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn shares_are_returned_and_one_may_be_all_there_is() {
        let budget = MemoryBudget::new(10);
        let first = budget.take(6).now_or_never().unwrap();
        assert!(budget.take(5).now_or_never().is_none());
        drop(first);
        let all = budget.take(1000).now_or_never().unwrap();
        assert!(budget.take(1).now_or_never().is_none());
        drop(all);
        assert!(budget.take(10).now_or_never().is_some());
    }
}
