//! The locks of one file in one of the two namespaces.

use std::collections::{BTreeMap, VecDeque};

use super::{Lock, LockMode, Owner};

/// A request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) lock: Lock,
    pub(super) cookie: u64,
}

/// By owner, then by first byte; an owner's locks never overlap, and equal neighbours are one.
#[derive(Debug, Default)]
pub(super) struct FileLocks {
    held: BTreeMap<Owner, BTreeMap<u64, Lock>>,
    queue: VecDeque<Waiter>,
}

fn clash(a: &Lock, b: &Lock) -> bool {
    let overlap = a.start <= b.end && b.start <= a.end;
    overlap && a.owner != b.owner && (a.mode == LockMode::Write || b.mode == LockMode::Write)
}

impl FileLocks {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty()
    }

    /// Locks of others that keep `lock` from being granted.
    pub(super) fn blockers(&self, lock: &Lock) -> impl Iterator<Item = &Lock> {
        self.held
            .iter()
            .filter(|(owner, _)| **owner != lock.owner)
            .flat_map(|(_, locks)| locks.range(..=lock.end).map(|(_, held)| held))
            .filter(|held| clash(lock, held))
    }

    pub(super) fn conflicts(&self, lock: &Lock) -> bool {
        self.blockers(lock).next().is_some()
    }

    pub(super) fn held_count(&self, session: u64) -> usize {
        let all = Owner { session, owner: 0 }..=Owner { session, owner: u64::MAX };
        self.held.range(all).map(|(_, locks)| locks.len()).sum()
    }

    /// What the session holds.
    pub(super) fn held(&self, session: u64) -> impl Iterator<Item = &Lock> {
        let all = Owner { session, owner: 0 }..=Owner { session, owner: u64::MAX };
        self.held.range(all).flat_map(|(_, locks)| locks.values())
    }

    /// Whether the session holds, or waits for, anything.
    pub(super) fn has(&self, session: u64) -> bool {
        self.held_count(session) > 0
            || self.queue.iter().any(|waiter| waiter.lock.owner.session == session)
    }

    /// Whether the owner has a write lock somewhere in the range.
    pub(super) fn overlaps_own_write(&self, lock: &Lock) -> bool {
        let own = self.held.get(&lock.owner);
        own.into_iter()
            .flat_map(|locks| locks.range(..=lock.end))
            .any(|(_, held)| held.end >= lock.start && held.mode == LockMode::Write)
    }

    /// Replaces what the owner has in the range by `lock`, merged with equal neighbours.
    pub(super) fn insert(&mut self, mut lock: Lock) {
        self.cut(lock.owner, lock.start, lock.end);
        let own = self.held.entry(lock.owner).or_default();
        let left = own.range(..lock.start).next_back().map(|(_, held)| *held);
        if let Some(left) = left
            && left.mode == lock.mode
            && left.end.checked_add(1) == Some(lock.start)
        {
            own.remove(&left.start);
            lock.start = left.start;
        }
        if let Some(next) = lock.end.checked_add(1)
            && let Some(right) = own.get(&next).copied()
            && right.mode == lock.mode
        {
            own.remove(&next);
            lock.end = right.end;
        }
        own.insert(lock.start, lock);
    }

    /// Takes a range out of what the owner has; whether there was anything.
    pub(super) fn cut(&mut self, owner: Owner, start: u64, end: u64) -> bool {
        let Some(own) = self.held.get_mut(&owner) else { return false };
        let hit: Vec<Lock> = own
            .range(..=end)
            .rev()
            .map(|(_, held)| *held)
            .take_while(|held| held.end >= start)
            .collect();
        for held in &hit {
            own.remove(&held.start);
            if held.start < start {
                // `start > held.start >= 0`, so there is a byte before it.
                own.insert(held.start, Lock { end: start.saturating_sub(1), ..*held });
            }
            if held.end > end {
                let start = end.saturating_add(1);
                own.insert(start, Lock { start, ..*held });
            }
        }
        if own.is_empty() {
            self.held.remove(&owner);
        }
        !hit.is_empty()
    }

    pub(super) fn enqueue(&mut self, waiter: Waiter) {
        self.queue.push_back(waiter);
    }

    pub(super) fn waiting(&self, session: u64, cookie: u64) -> Option<&Waiter> {
        self.queue.iter().find(|w| w.cookie == cookie && w.lock.owner.session == session)
    }

    pub(super) fn dequeue(&mut self, session: u64, cookie: u64) -> Option<Waiter> {
        let same = |w: &Waiter| w.cookie == cookie && w.lock.owner.session == session;
        let at = self.queue.iter().position(same)?;
        self.queue.remove(at)
    }

    /// Takes the oldest waiter whose lock is free now.
    pub(super) fn next_grantable(&mut self) -> Option<Waiter> {
        let at = self.queue.iter().position(|waiter| !self.conflicts(&waiter.lock))?;
        self.queue.remove(at)
    }

    /// Takes out everything of a session; returns its waiters.
    pub(super) fn remove_session(&mut self, session: u64) -> Vec<Waiter> {
        self.held.retain(|owner, _| owner.session != session);
        let (gone, stay): (Vec<_>, _) =
            self.queue.drain(..).partition(|w| w.lock.owner.session == session);
        self.queue = stay.into();
        gone
    }
}
