//! Locks on byte ranges of one object, for threads that may block.

use parking_lot::{Condvar, Mutex};

/// What the holder of a range may do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read; others may read too.
    Shared,
    /// Read and change; nobody else may do either.
    Exclusive,
}

/// Grants ranges in the order of arrival: a request waits for every earlier one that it
/// conflicts with, held or waiting, so that nobody starves.
///
/// Held across disk I/O of this object, on the threads of the disk pool only; a holder never
/// waits for another range of any object, so there is no cycle.
#[derive(Debug, Default)]
pub(crate) struct RangeLock {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// By ticket, ascending.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ticket: u64,
    start: u64,
    end: u64,
    mode: Mode,
}

impl Entry {
    fn conflicts(&self, other: &Self) -> bool {
        let together = self.mode == Mode::Shared && other.mode == Mode::Shared;
        !together && self.start < other.end && other.start < self.end
    }
}

impl RangeLock {
    /// Waits for `start..end`; the ticket is for [`RangeLock::release`].
    pub(crate) fn acquire(&self, start: u64, end: u64, mode: Mode) -> u64 {
        let mut queue = self.queue.lock();
        let ticket = queue.next;
        queue.next += 1;
        let entry = Entry { ticket, start, end, mode };
        queue.entries.push(entry);
        let blocked = |queue: &Queue| {
            let earlier = queue.entries.iter().take_while(|other| other.ticket < ticket);
            earlier.into_iter().any(|other| other.conflicts(&entry))
        };
        while blocked(&queue) {
            self.changed.wait(&mut queue);
        }
        ticket
    }

    pub(crate) fn release(&self, ticket: u64) {
        let mut queue = self.queue.lock();
        queue.entries.retain(|entry| entry.ticket != ticket);
        if !queue.entries.is_empty() {
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn disjoint_and_shared_ranges_are_held_together() {
        let lock = RangeLock::default();
        let a = lock.acquire(0, 10, Mode::Exclusive);
        let b = lock.acquire(10, 20, Mode::Exclusive);
        let c = lock.acquire(20, 30, Mode::Shared);
        let d = lock.acquire(25, 40, Mode::Shared);
        for ticket in [a, b, c, d] {
            lock.release(ticket);
        }
    }

    #[test]
    fn overlapping_writers_exclude_each_other() {
        let (lock, inside) = (RangeLock::default(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for i in 0..4u64 {
                let (lock, inside) = (&lock, &inside);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let ticket = lock.acquire(i, i + 8, Mode::Exclusive);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.release(ticket);
                    }
                });
            }
        });
    }
}
