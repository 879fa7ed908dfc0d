//! Flocks that are being dropped because their file was closed.
//!
//! The kernel does not wait for RELEASE, so a process may have closed a file, or be gone, while the
//! server still holds its flock. Whoever then asks for one without waiting would be refused for no
//! reason that it could see: so a request for a flock waits for the closes that were read before it.

use std::collections::HashMap;
use std::sync::Arc;

use nacre_model::Fid;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Closes under way, by file. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(super) struct FlockCloses(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closing: Mutex<HashMap<Fid, usize>>,
    closed: Notify,
}

impl FlockCloses {
    /// A flock of `fid` is being dropped for as long as the guard lives.
    pub(super) fn begin(&self, fid: Fid) -> FlockClose {
        let mut closing = self.0.closing.lock();
        let count = closing.entry(fid).or_default();
        *count = count.saturating_add(1);
        FlockClose { fid, closes: self.clone() }
    }

    /// Waits until none is being dropped.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub(super) async fn settled(&self, fid: Fid) {
        loop {
            let closed = self.0.closed.notified();
            if !self.0.closing.lock().contains_key(&fid) {
                return;
            }
            closed.await;
        }
    }
}

/// One close under way.
#[derive(Debug)]
pub(super) struct FlockClose {
    fid: Fid,
    closes: FlockCloses,
}

impl Drop for FlockClose {
    fn drop(&mut self) {
        let mut closing = self.closes.0.closing.lock();
        if let Some(count) = closing.get_mut(&self.fid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                closing.remove(&self.fid);
                self.closes.0.closed.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_waits_for_all_closes_of_its_file_and_no_other() {
        let closes = FlockCloses::default();
        let other = Fid { oid: 2, ..Fid::ROOT };
        let (first, second) = (closes.begin(Fid::ROOT), closes.begin(Fid::ROOT));
        closes.settled(other).await;
        let waiting = tokio::spawn({
            let closes = closes.clone();
            async move { closes.settled(Fid::ROOT).await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
