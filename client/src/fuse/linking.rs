//! Listings that the kernel has not taken up yet.
//!
//! Of a name that comes by READDIRPLUS the kernel asks "how late is it?" only when it takes the
//! answer up, not when it asks. So a name that was listed before a revocation, and is taken up
//! after [`inval_names`](super::Notifier::inval_names), would be believed. To know when a listing
//! was taken up, its last entry carries a node id that is no inode and attributes that make no
//! sense. The kernel takes the entries up in order, cannot take up this one, and says so: it sends
//! FORGET for that node id. (The application sees the name all the same.)

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Node ids that stand for listings: of a sequence that has no inodes.
const FIRST: u64 = 1 << 23;
const END: u64 = 1 << 24;

/// Listings under way to processes, each with a number that serves as node id.
#[derive(Debug, Default)]
pub(super) struct Linking {
    state: Mutex<State>,
    less: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In which order they began, and whether somebody gave up waiting for them.
    open: HashMap<u64, Listing>,
    begun: u64,
}

#[derive(Debug, Clone, Copy)]
struct Listing {
    order: u64,
    overtaken: bool,
}

/// What became of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linked {
    /// Taken up.
    InTime,
    /// Taken up after somebody gave up waiting: names must be invalidated once more.
    Late,
}

/// Whether a node id stands for a listing.
pub(super) const fn is_listing(node: u64) -> bool {
    node >= FIRST && node < END
}

impl Linking {
    /// A number for a listing that is about to be sent.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        loop {
            let number = FIRST.saturating_add(state.next % (END - FIRST));
            state.next = state.next.wrapping_add(1);
            if !state.open.contains_key(&number) {
                state.begun = state.begun.saturating_add(1);
                let order = state.begun;
                state.open.insert(number, Listing { order, overtaken: false });
                return number;
            }
        }
    }

    /// The kernel took it up, or never got it.
    pub(super) fn end(&self, number: u64) -> Linked {
        let ended = self.state.lock().open.remove(&number);
        self.less.notify_all();
        match ended {
            Some(Listing { overtaken: true, .. }) => Linked::Late,
            _ => Linked::InTime,
        }
    }

    /// Waits until all that have begun are taken up, but not beyond `deadline`. Whether they are.
    pub(super) fn settle(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        let begun = state.begun;
        while state.open.values().any(|listing| listing.order <= begun) {
            if self.less.wait_until(&mut state, deadline).timed_out() {
                for listing in state.open.values_mut() {
                    listing.overtaken |= listing.order <= begun;
                }
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_that_begin_later_are_not_waited_for_and_late_ones_are_told() {
        let linking = Linking::default();
        let (first, second) = (linking.begin(), linking.begin());
        assert!(is_listing(first) && is_listing(second) && first != second);
        assert_eq!(linking.end(first), Linked::InTime);
        assert!(!linking.settle(Instant::now()), "the second is not taken up");
        let third = linking.begin();
        assert_eq!(linking.end(second), Linked::Late);
        assert_eq!(linking.end(third), Linked::InTime);
        assert!(linking.settle(Instant::now()));
    }
}
