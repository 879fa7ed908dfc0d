//! The HSM coordinator's memory: what waits in the durable queue, and which copytool is at what.
//!
//! The queue itself is rows of the store; an action leaves it when it has ended. Everything here
//! can be lost: after a restart all actions wait again, and a copytool that goes on with one
//! takes it over by saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nacre_model::{Errno, Fid};
use nacre_proto::v1::HsmAction;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A copytool that says nothing about an action for so long is at it no more.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Before an action that failed is tried again: twice as long each time.
const BACKOFF: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// An inode is exported when it has not changed for so long, but not later than this.
const CALM: Duration = Duration::from_millis(300);
const CALM_MAX: Duration = Duration::from_secs(5);
/// Most failures that are remembered for who asks late.
const FAILED_MAX: usize = 4096;

/// Who is told of changes, and what waits.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    /// Something waits, or has ended.
    pub(crate) changed: Notify,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    waiting: BTreeMap<u64, Waiting>,
    /// Those of them that restore.
    restores: BTreeSet<u64>,
    started: BTreeMap<u64, Started>,
    /// By cookie, oldest first.
    failed: BTreeMap<u64, Failure>,
}

#[derive(Debug, Clone)]
struct Waiting {
    action: HsmAction,
    fid: Fid,
    not_before: Duration,
    /// When it was queued.
    since: Duration,
}

/// An action that a copytool has.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    /// Whose.
    pub(crate) session: u64,
    /// What.
    pub(crate) action: HsmAction,
    /// Of which file.
    pub(crate) fid: Fid,
    /// When it was queued.
    since: Duration,
    /// Last heard of.
    heard: Duration,
    /// As it said.
    pub(crate) bytes_done: u64,
    /// Archive: what the file was when the copytool began to read it.
    pub(crate) data_version: Option<u64>,
    /// Objects that nobody else may write or delete meanwhile, as bucket and key.
    keys: Vec<(String, String)>,
}

impl Started {
    fn new(session: u64, waiting: &Waiting, now: Duration) -> Self {
        Self {
            session,
            action: waiting.action,
            fid: waiting.fid,
            since: waiting.since,
            heard: now,
            bytes_done: 0,
            data_version: None,
            keys: Vec::new(),
        }
    }

    fn waits(&self, not_before: Duration) -> Waiting {
        Waiting { action: self.action, fid: self.fid, not_before, since: self.since }
    }
}

/// Why an action failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For who waits.
    pub(crate) errno: Errno,
    /// For people.
    pub(crate) message: String,
}

/// What a copytool may be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Restores.
    pub(crate) restores: usize,
    /// Anything else.
    pub(crate) others: usize,
}

impl Coordinator {
    /// An action waits in the queue.
    pub(crate) fn queued(&self, cookie: u64, action: HsmAction, fid: Fid, now: Duration) {
        let mut table = self.table.lock();
        if !table.started.contains_key(&cookie) && !table.waiting.contains_key(&cookie) {
            let waiting = Waiting { action, fid, not_before: Duration::ZERO, since: now };
            table.wait(cookie, waiting);
        }
        drop(table);
        self.changed.notify_waiters();
    }

    /// Inodes have changed whose exports wait: they wait until there is calm, but not for ever.
    pub(crate) fn exports(&self, exports: &[(u64, Fid)], now: Duration) {
        let mut table = self.table.lock();
        let mut new = false;
        for (cookie, fid) in exports {
            if table.started.contains_key(cookie) {
                continue;
            }
            let waiting = table.waiting.entry(*cookie).or_insert_with(|| {
                new = true;
                let (action, fid) = (HsmAction::Export, *fid);
                Waiting { action, fid, not_before: now, since: now }
            });
            let latest = waiting.since.saturating_add(CALM_MAX);
            let calm = now.saturating_add(CALM).min(latest);
            waiting.not_before = waiting.not_before.max(calm);
        }
        drop(table);
        if new {
            self.changed.notify_waiters();
        }
    }

    /// When the next action that waits for its time may be given out.
    pub(crate) fn next_due(&self, now: Duration) -> Option<Duration> {
        let table = self.table.lock();
        let times = table.waiting.values().map(|waiting| waiting.not_before);
        times.filter(|time| *time > now).min()
    }

    /// Keeps everybody else off these objects until the action has ended; false if somebody is at
    /// one of them.
    pub(crate) fn lock_keys(&self, cookie: u64, keys: Vec<(String, String)>) -> bool {
        let mut table = self.table.lock();
        let meets = |(other, started): (&u64, &Started)| {
            *other != cookie && started.keys.iter().any(|key| keys.contains(key))
        };
        if table.started.iter().any(meets) {
            return false;
        }
        if let Some(started) = table.started.get_mut(&cookie) {
            started.keys = keys;
        }
        true
    }

    /// How many exports wait, and how long the oldest of them.
    pub(crate) fn lag(&self, now: Duration) -> (u64, Duration) {
        let table = self.table.lock();
        let waiting = table.waiting.values().map(|waiting| (waiting.action, waiting.since));
        let started = table.started.values().map(|started| (started.action, started.since));
        let exports = waiting.chain(started).filter(|(action, _)| *action == HsmAction::Export);
        exports.fold((0, Duration::ZERO), |(count, oldest), (_, since)| {
            (count + 1, oldest.max(now.saturating_sub(since)))
        })
    }

    /// Gives a copytool what there is for it, oldest first.
    pub(crate) fn take(
        &self,
        session: u64,
        working: &BTreeSet<u64>,
        room: Room,
        now: Duration,
        may_export: impl Fn(Fid) -> bool,
    ) -> Vec<(u64, HsmAction, Fid)> {
        let mut table = self.table.lock();
        table.requeue(now, |cookie, started| {
            started.session == session && !working.contains(&cookie)
        });
        let taken = table.ready(room, now, may_export);
        for (cookie, ..) in &taken {
            if let Some(waiting) = table.no_more(*cookie) {
                table.started.insert(*cookie, Started::new(session, &waiting, now));
            }
        }
        taken
    }

    /// A copytool says what it is at. One that was given an action before a restart of the server
    /// has it still; `None`: it is somebody else's.
    pub(crate) fn heard(
        &self,
        session: u64,
        cookie: u64,
        now: Duration,
        change: impl FnOnce(&mut Started),
    ) -> Option<Started> {
        let mut table = self.table.lock();
        if let Some(waiting) = table.no_more(cookie) {
            table.started.insert(cookie, Started::new(session, &waiting, now));
        }
        let started = table.started.get_mut(&cookie).filter(|s| s.session == session)?;
        started.heard = now;
        change(started);
        Some(started.clone())
    }

    /// An action has left the queue.
    pub(crate) fn ended(&self, cookie: u64, failure: Option<Failure>) {
        let mut table = self.table.lock();
        table.no_more(cookie);
        table.started.remove(&cookie);
        if let Some(failure) = failure {
            table.failed.insert(cookie, failure);
            if table.failed.len() > FAILED_MAX {
                table.failed.pop_first();
            }
        }
        drop(table);
        self.changed.notify_waiters();
    }

    /// An action failed and shall be tried again.
    pub(crate) fn again(&self, cookie: u64, attempts: u32, now: Duration) {
        let mut table = self.table.lock();
        if let Some(started) = table.started.remove(&cookie) {
            let pause = BACKOFF.saturating_mul(1 << attempts.min(16)).min(BACKOFF_MAX);
            table.wait(cookie, started.waits(now.saturating_add(pause)));
        }
    }

    /// An action is not done yet, and whoever is free goes on with it.
    pub(crate) fn at_once(&self, cookie: u64, now: Duration) {
        self.give_back(now, |other, _| other == cookie);
    }

    /// Why an action failed, if it did.
    pub(crate) fn failure(&self, cookie: u64) -> Option<Failure> {
        self.table.lock().failed.get(&cookie).cloned()
    }

    /// Who is at an action.
    pub(crate) fn started(&self, cookie: u64) -> Option<Started> {
        self.table.lock().started.get(&cookie).cloned()
    }

    /// How many actions each session has.
    pub(crate) fn by_session(&self) -> BTreeMap<u64, u32> {
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for started in self.table.lock().started.values() {
            let count = counts.entry(started.session).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// A copytool's session has ended.
    pub(crate) fn end_session(&self, session: u64, now: Duration) {
        self.give_back(now, |_, started| started.session == session);
    }

    /// Takes actions from copytools that are silent about them.
    pub(crate) fn tick(&self, now: Duration) {
        self.give_back(now, |_, started| now.saturating_sub(started.heard) > SILENCE_MAX);
    }

    fn give_back(&self, now: Duration, lost: impl Fn(u64, &Started) -> bool) {
        if self.table.lock().requeue(now, lost) {
            self.changed.notify_waiters();
        }
    }
}

impl Table {
    fn wait(&mut self, cookie: u64, waiting: Waiting) {
        if waiting.action == HsmAction::Restore {
            self.restores.insert(cookie);
        }
        self.waiting.insert(cookie, waiting);
    }

    fn no_more(&mut self, cookie: u64) -> Option<Waiting> {
        self.restores.remove(&cookie);
        self.waiting.remove(&cookie)
    }

    /// The oldest that may be given out, restores apart.
    fn ready(
        &self,
        room: Room,
        now: Duration,
        may_export: impl Fn(Fid) -> bool,
    ) -> Vec<(u64, HsmAction, Fid)> {
        let shown = |cookie: &u64, waiting: &Waiting| (*cookie, waiting.action, waiting.fid);
        let is_due = |waiting: &Waiting| waiting.not_before <= now;
        let restores = self.restores.iter().filter_map(|cookie| {
            let waiting = self.waiting.get(cookie)?;
            is_due(waiting).then(|| shown(cookie, waiting))
        });
        let others = self.waiting.iter().filter_map(|(cookie, waiting)| {
            let may = match waiting.action {
                HsmAction::Restore => false,
                HsmAction::Export => may_export(waiting.fid),
                HsmAction::Archive | HsmAction::Remove | HsmAction::Unspecified => true,
            };
            (is_due(waiting) && may).then(|| shown(cookie, waiting))
        });
        restores.take(room.restores).chain(others.take(room.others)).collect()
    }

    fn requeue(&mut self, now: Duration, lost: impl Fn(u64, &Started) -> bool) -> bool {
        let lost = |(cookie, started): (&u64, &Started)| lost(*cookie, started).then_some(*cookie);
        let cookies: Vec<u64> = self.started.iter().filter_map(lost).collect();
        for cookie in &cookies {
            if let Some(started) = self.started.remove(cookie) {
                self.wait(*cookie, started.waits(now));
            }
        }
        !cookies.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { restores: 1, others: 1 };

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn taken(coordinator: &Coordinator, session: u64, now: Duration) -> Vec<u64> {
        let given = coordinator.take(session, &BTreeSet::new(), ROOM, now, |_| true);
        given.into_iter().map(|(cookie, ..)| cookie).collect()
    }

    #[test]
    fn restores_have_a_lane_of_their_own() {
        let coordinator = Coordinator::default();
        for (cookie, action) in
            [(1, HsmAction::Archive), (2, HsmAction::Archive), (3, HsmAction::Restore)]
        {
            coordinator.queued(cookie, action, Fid::ROOT, at(0));
        }
        assert_eq!(taken(&coordinator, 7, at(0)), [3, 1]);
        assert_eq!(taken(&coordinator, 8, at(0)), [2]);
    }

    #[test]
    fn what_a_copytool_was_given_and_did_not_receive_is_given_out_anew() {
        let coordinator = Coordinator::default();
        coordinator.queued(1, HsmAction::Archive, Fid::ROOT, at(0));
        assert_eq!(taken(&coordinator, 7, at(0)), [1]);
        assert!(taken(&coordinator, 8, at(0)).is_empty());
        assert_eq!(taken(&coordinator, 7, at(1)), [1]);
        let working = BTreeSet::from([1]);
        assert!(coordinator.take(7, &working, ROOM, at(1), |_| true).is_empty());
    }

    #[test]
    fn silence_and_the_end_of_a_session_give_back() {
        let coordinator = Coordinator::default();
        coordinator.queued(1, HsmAction::Archive, Fid::ROOT, at(0));
        assert_eq!(taken(&coordinator, 7, at(0)), [1]);
        coordinator.heard(7, 1, at(50), |_| {}).unwrap();
        coordinator.tick(at(100));
        assert!(taken(&coordinator, 8, at(100)).is_empty());
        coordinator.tick(at(111));
        assert_eq!(taken(&coordinator, 8, at(111)), [1]);
        assert!(coordinator.heard(7, 1, at(111), |_| {}).is_none(), "it is another's now");
        coordinator.end_session(8, at(112));
        assert_eq!(taken(&coordinator, 9, at(112)), [1]);
    }

    #[test]
    fn a_failed_action_waits_longer_each_time() {
        let coordinator = Coordinator::default();
        coordinator.queued(1, HsmAction::Archive, Fid::ROOT, at(0));
        assert_eq!(taken(&coordinator, 7, at(0)), [1]);
        coordinator.again(1, 2, at(0));
        assert!(taken(&coordinator, 7, at(1)).is_empty());
        assert_eq!(taken(&coordinator, 7, at(2)), [1]);
    }

    #[test]
    fn an_export_waits_for_calm_but_not_for_ever() {
        let coordinator = Coordinator::default();
        let change = [(1, Fid::ROOT)];
        coordinator.exports(&change, at(0));
        assert!(taken(&coordinator, 7, at(0)).is_empty());
        for time in 1..100 {
            coordinator.exports(&change, CALM * time / 2);
        }
        assert!(taken(&coordinator, 7, CALM_MAX.saturating_sub(CALM)).is_empty());
        assert_eq!(coordinator.next_due(at(0)), Some(CALM_MAX));
        assert_eq!(taken(&coordinator, 7, CALM_MAX), [1]);
        assert_eq!(coordinator.lag(at(9)), (1, at(9)));
    }

    #[test]
    fn two_actions_do_not_write_one_object() {
        let coordinator = Coordinator::default();
        coordinator.queued(1, HsmAction::Archive, Fid::ROOT, at(0));
        coordinator.queued(2, HsmAction::Archive, Fid::ROOT, at(0));
        assert_eq!(taken(&coordinator, 7, at(0)), [1]);
        assert_eq!(taken(&coordinator, 8, at(0)), [2]);
        let key = || vec![("bucket".to_owned(), "key".to_owned())];
        assert!(coordinator.lock_keys(1, key()));
        assert!(!coordinator.lock_keys(2, key()));
        coordinator.ended(1, None);
        assert!(coordinator.lock_keys(2, key()));
    }
}
