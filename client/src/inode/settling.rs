//! What writing has changed, and the MDS must be told.

use nacre_model::Timestamp;

use super::{Inode, State};

/// Changes through written data that the MDS does not know yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// The file is at least this long.
    pub(crate) size: Option<u64>,
    /// When it was last written.
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) kill_suidgid: bool,
}

impl Unsettled {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was taken out and not told after all.
    pub(crate) fn put_back(&mut self, earlier: Self) {
        self.size = self.size.max(earlier.size);
        self.mtime = self.mtime.max(earlier.mtime);
        self.kill_suidgid |= earlier.kill_suidgid;
    }
}

/// A request on its way that tells the MDS what writing has changed. What it tells is untold again
/// when this is dropped before it is [told](Settling::told).
#[derive(Debug)]
pub(crate) struct Settling<'a> {
    inode: &'a Inode,
    pub(crate) unsettled: Unsettled,
}

impl Settling<'_> {
    /// The MDS knows it.
    pub(crate) fn told(mut self) {
        self.unsettled = Unsettled::default();
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let mut state = self.inode.state.lock();
        state.end_settle();
        state.unsettled.put_back(self.unsettled);
        drop(state);
        self.inode.landed.notify_waiters();
    }
}

impl Inode {
    /// What [`State::begin_settle`] has taken out is on its way.
    pub(crate) fn settling(&self, unsettled: Unsettled) -> Settling<'_> {
        Settling { inode: self, unsettled }
    }

    /// Waits until no request is on its way that tells the MDS what writing has changed.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait_settled(&self) {
        self.wait_until(|state| state.settlers == 0).await;
    }
}

impl State {
    /// Takes out what the MDS shall be told, for [`Inode::settling`].
    pub(crate) fn begin_settle(&mut self) -> Unsettled {
        let unsettled = std::mem::take(&mut self.unsettled);
        self.settling.put_back(unsettled);
        self.settlers = self.settlers.saturating_add(1);
        unsettled
    }

    fn end_settle(&mut self) {
        self.settlers = self.settlers.saturating_sub(1);
        if self.settlers == 0 {
            self.settling = Unsettled::default();
        }
    }
}
