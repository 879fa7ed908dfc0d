//! Which copytool lists which repository, and what came of it. All of it can be lost: a sweep that
//! is begun anew finds what it has seen before as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_proto::v1;
use parking_lot::Mutex;

/// A copytool that says nothing about a sweep for so long is at it no more. A listing may take minutes within its patience.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Before a copytool that has not begun one is told again.
const OFFER_AGAIN: Duration = Duration::from_secs(1);
/// Before a sweep that broke off goes on.
const PAUSE: Duration = Duration::from_secs(10);

/// The sweeps of all repositories.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    by_repository: BTreeMap<u32, Sweep>,
}

/// The sweep of a repository that is under way, or the next.
#[derive(Debug, Clone, Default)]
struct Sweep {
    number: u64,
    /// Who is at it, and when he was last heard of.
    taken: Option<(u64, Duration)>,
    /// The policy wants one.
    wanted: bool,
    /// He has said something about it.
    begun: bool,
    due: Duration,
    /// The last key that was dealt with.
    after: String,
    /// Something that it found is to be looked at again.
    missed: bool,
    counts: Counts,
    ended: Option<Duration>,
}

/// What came of a repository's sweeps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sweeps: u64,
    pub(crate) imported: u64,
    pub(crate) removed: u64,
    pub(crate) conflicts: u64,
    pub(crate) refused: u64,
}

impl Sweep {
    fn is_free(&self, now: Duration) -> bool {
        let silent = |(_, heard)| now.saturating_sub(heard) > SILENCE_MAX;
        self.taken.is_none_or(silent) && self.due <= now
    }

    /// The answer that offered it may not have arrived.
    fn may_be_lost(&self, session: u64, now: Duration) -> bool {
        self.taken.is_some_and(|(taker, heard)| {
            taker == session && !self.begun && now.saturating_sub(heard) >= OFFER_AGAIN
        })
    }
}

impl Sweeps {
    /// Gives a copytool the sweep of a repository that is due, of those that are wanted. What is known
    /// of repositories that are not linked any more is forgotten.
    pub(crate) fn take(
        &self,
        session: u64,
        linked: &[v1::Repository],
        wants: impl Fn(&v1::Repository) -> bool,
        now: Duration,
    ) -> Option<v1::SweepWork> {
        let mut table = self.table.lock();
        let Table { last, by_repository } = &mut *table;
        by_repository.retain(|id, _| linked.iter().any(|other| other.id == *id));
        for repository in linked {
            let sweep = by_repository.entry(repository.id).or_default();
            sweep.wanted = wants(repository);
            let free = sweep.is_free(now);
            if sweep.wanted && (free || sweep.may_be_lost(session, now)) {
                if free {
                    *last = last.saturating_add(1);
                    (sweep.number, sweep.begun) = (*last, false);
                }
                sweep.taken = Some((session, now));
                return Some(v1::SweepWork {
                    repository: Some(repository.clone()),
                    sweep: sweep.number,
                    after: sweep.after.clone(),
                });
            }
        }
        None
    }

    /// When the next is due, if one is that nobody has.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let table = self.table.lock();
        let free =
            table.by_repository.values().filter(|sweep| sweep.wanted && sweep.taken.is_none());
        free.map(|sweep| sweep.due).min()
    }

    /// A copytool says something about its sweep. Returns the repository.
    pub(crate) fn heard(&self, session: u64, number: u64, now: Duration) -> Option<u32> {
        let mut table = self.table.lock();
        let of = |(_, sweep): &(&u32, &mut Sweep)| {
            sweep.number == number && sweep.taken.is_some_and(|(taker, _)| taker == session)
        };
        let (id, sweep) = table.by_repository.iter_mut().find(of)?;
        (sweep.taken, sweep.begun) = (Some((session, now)), true);
        Some(*id)
    }

    /// Everything up to this key was dealt with.
    pub(crate) fn reached(&self, repository: u32, key: &str) {
        if let Some(sweep) = self.table.lock().by_repository.get_mut(&repository) {
            key.clone_into(&mut sweep.after);
        }
    }

    /// Something could not be imported now.
    pub(crate) fn missed(&self, repository: u32) {
        if let Some(sweep) = self.table.lock().by_repository.get_mut(&repository) {
            sweep.missed = true;
        }
    }

    /// Counts.
    pub(crate) fn count(&self, repository: u32, change: impl FnOnce(&mut Counts)) {
        let mut table = self.table.lock();
        change(&mut table.by_repository.entry(repository).or_default().counts);
    }

    /// A sweep came to its end; the next is due after `interval`. One that broke off goes on where
    /// it was. Returns whether everything that it found was dealt with.
    pub(crate) fn ended(
        &self,
        repository: u32,
        whole: bool,
        interval: Duration,
        now: Duration,
    ) -> bool {
        let mut table = self.table.lock();
        let Some(sweep) = table.by_repository.get_mut(&repository) else { return false };
        sweep.taken = None;
        let complete = whole && !sweep.missed;
        if whole {
            sweep.after.clear();
            sweep.missed = false;
            sweep.ended = Some(now);
            sweep.counts.sweeps = sweep.counts.sweeps.saturating_add(1);
        }
        sweep.due = now.saturating_add(if complete { interval } else { PAUSE.min(interval) });
        complete
    }

    /// The next sweep is due at once.
    pub(crate) fn hurry(&self, repository: u32) {
        if let Some(sweep) = self.table.lock().by_repository.get_mut(&repository) {
            sweep.due = Duration::ZERO;
            sweep.after.clear();
        }
    }

    /// A copytool's session has ended.
    pub(crate) fn end_session(&self, session: u64) {
        for sweep in self.table.lock().by_repository.values_mut() {
            sweep.taken = sweep.taken.filter(|(taker, _)| *taker != session);
        }
    }

    /// What came of a repository's sweeps, and how long ago the last ended.
    pub(crate) fn counts(&self, repository: u32, now: Duration) -> (Counts, Option<Duration>) {
        let table = self.table.lock();
        let Some(sweep) = table.by_repository.get(&repository) else { return Default::default() };
        (sweep.counts, sweep.ended.map(|ended| now.saturating_sub(ended)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn one_copytool_at_a_time_sweeps_a_repository_and_another_goes_on_where_it_died() {
        let sweeps = Sweeps::default();
        let wanted = [v1::Repository { id: 1, ..v1::Repository::default() }];
        let offered = sweeps.take(7, &wanted, |_| true, at(0)).unwrap();
        assert!(sweeps.take(8, &wanted, |_| true, at(0)).is_none());
        assert!(sweeps.take(7, &wanted, |_| true, at(0)).is_none());
        let first = sweeps.take(7, &wanted, |_| true, at(1)).expect("offered until it is begun");
        assert_eq!(first.sweep, offered.sweep, "it may have begun");
        assert_eq!(sweeps.heard(7, first.sweep, at(50)), Some(1));
        assert!(sweeps.take(7, &wanted, |_| true, at(50)).is_none());
        sweeps.reached(1, "m");
        assert!(sweeps.take(8, &wanted, |_| true, at(350)).is_none());
        let second = sweeps.take(8, &wanted, |_| true, at(351)).unwrap();
        assert_eq!(second.after, "m");
        assert_eq!(sweeps.heard(7, first.sweep, at(351)), None, "it is another's now");
        sweeps.end_session(8);
        let third = sweeps.take(9, &wanted, |_| true, at(352)).unwrap();
        assert!(sweeps.ended(1, true, at(60), at(353)));
        assert_eq!(sweeps.heard(9, third.sweep, at(353)), None);
        assert!(sweeps.take(9, &wanted, |_| true, at(412)).is_none());
        assert_eq!(sweeps.take(9, &wanted, |_| true, at(413)).unwrap().after, "");
    }

    #[test]
    fn a_sweep_that_left_something_is_not_the_last() {
        let sweeps = Sweeps::default();
        let wanted = [v1::Repository { id: 1, ..v1::Repository::default() }];
        sweeps.take(7, &wanted, |_| true, at(0)).unwrap();
        sweeps.missed(1);
        assert!(!sweeps.ended(1, true, at(60), at(1)));
        sweeps.take(7, &wanted, |_| true, at(11)).expect("sooner than otherwise");
        assert!(sweeps.ended(1, true, at(60), at(12)));
    }
}
