use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FID: Fid = Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 };
const OTHER: Fid = Fid { seq: 0x2_0000_0401, oid: 2, ver: 0 };

fn lock(fid: Fid, session: u64, mode: LockMode, start: u64, end: u64) -> Lock {
    let owner = Owner { session, owner: 7 };
    Lock { fid, kind: LockKind::Posix, owner, mode, start, end, pid: 1 }
}

#[test]
fn two_owners_who_wait_for_each_other_are_refused() {
    use LockMode::Write;
    let mut table = LockTable::default();
    table.lock(lock(FID, 1, Write, 0, 9), None).unwrap();
    table.lock(lock(OTHER, 2, Write, 0, 9), None).unwrap();
    let waits = table.lock(lock(OTHER, 1, Write, 5, 5), Some(1)).unwrap();
    assert_eq!(waits, (Answer::Waiting, vec![]));
    let refused = table.lock(lock(FID, 2, Write, 0, 0), Some(1));
    assert_eq!(refused, Err(LockError::Deadlock(FID)));
    assert_eq!(table.end_session(2), [Grant { session: 1, cookie: 1 }]);
}

#[test]
fn a_resent_request_and_a_late_cancel_learn_what_became_of_the_first() {
    use LockMode::Write;
    let mut table = LockTable::default();
    table.lock(lock(FID, 1, Write, 0, 9), None).unwrap();
    for _ in 0..2 {
        let answer = table.lock(lock(FID, 2, Write, 0, 9), Some(5)).unwrap();
        assert_eq!(answer.0, Answer::Waiting);
    }
    assert_eq!(table.counts(), (1, 1));
    assert_eq!(table.unlock(lock(FID, 1, Write, 0, 9)), [Grant { session: 2, cookie: 5 }]);
    let again = table.lock(lock(FID, 2, Write, 0, 9), Some(5)).unwrap();
    assert_eq!(again.0, Answer::Granted);
    assert!(table.cancel(2, 5), "it is held");
    assert!(!table.cancel(2, 6));
}

#[test]
fn flock_and_posix_locks_do_not_see_each_other() {
    let mut table = LockTable::default();
    let posix = lock(FID, 1, LockMode::Write, 0, u64::MAX);
    let flock = Lock { kind: LockKind::Flock, ..lock(FID, 2, LockMode::Write, 0, u64::MAX) };
    assert_eq!(table.lock(posix, None).unwrap().0, Answer::Granted);
    assert_eq!(table.lock(flock, None).unwrap().0, Answer::Granted);
}

#[test]
fn converting_a_flock_that_must_wait_gives_up_the_old_one() {
    let flock =
        |session, mode| Lock { kind: LockKind::Flock, ..lock(FID, session, mode, 0, u64::MAX) };
    let mut table = LockTable::default();
    table.lock(flock(1, LockMode::Read), None).unwrap();
    table.lock(flock(2, LockMode::Read), None).unwrap();
    assert_eq!(table.lock(flock(1, LockMode::Write), Some(1)).unwrap().0, Answer::Waiting);
    let (answer, grants) = table.lock(flock(2, LockMode::Write), Some(2)).unwrap();
    assert_eq!((answer, grants), (Answer::Granted, vec![]), "the other one has let go");
    assert_eq!(table.unlock(flock(2, LockMode::Write)), [Grant { session: 1, cookie: 1 }]);
}

#[test]
fn nothing_new_is_granted_while_locks_are_claimed_again() {
    use LockMode::Write;
    let mut table = LockTable::recovering();
    assert!(table.reclaim(lock(FID, 1, Write, 0, 9)));
    assert!(!table.reclaim(lock(FID, 2, Write, 9, 9)), "claimed by two");
    assert_eq!(table.lock(lock(FID, 3, Write, 10, 10), None), Err(LockError::Recovering));
    assert_eq!(table.lock(lock(FID, 3, Write, 10, 10), Some(1)).unwrap().0, Answer::Waiting);
    assert_eq!(table.lock(lock(FID, 4, Write, 5, 5), Some(1)).unwrap().0, Answer::Waiting);
    assert_eq!(table.recovered(), [Grant { session: 3, cookie: 1 }]);
    assert_eq!(table.test(&lock(FID, 4, Write, 0, 100)).unwrap().unwrap().owner.session, 1);
}

#[test]
fn the_last_byte_of_the_address_space_can_be_locked_and_split() {
    use LockMode::{Read, Write};
    let mut table = LockTable::default();
    table.lock(lock(FID, 1, Write, 0, u64::MAX), None).unwrap();
    table.lock(lock(FID, 1, Read, u64::MAX, u64::MAX), None).unwrap();
    assert_eq!(table.counts(), (2, 0));
    assert_eq!(table.lock(lock(FID, 2, Read, u64::MAX, u64::MAX), None).unwrap().0, {
        Answer::Granted
    });
    table.unlock(lock(FID, 1, Write, 1, u64::MAX));
    assert_eq!(table.test(&lock(FID, 2, Write, 0, u64::MAX)).unwrap().unwrap().end, 0);
}

// ---- a model that knows single bytes only

const BYTES: u64 = 12;

#[derive(Debug, Clone)]
enum Step {
    Lock { who: Owner, mode: LockMode, start: u64, len: u64, wait: bool },
    Unlock { who: Owner, start: u64, len: u64 },
    Cancel { nth: usize },
    End { session: u64 },
}

fn owner() -> impl Strategy<Value = Owner> {
    (1..4_u64, 0..2_u64).prop_map(|(session, owner)| Owner { session, owner })
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![Just(LockMode::Read), Just(LockMode::Write)];
    prop_oneof![
        6 => (owner(), mode, 0..BYTES, 1..5_u64, any::<bool>()).prop_map(
            |(who, mode, start, len, wait)| Step::Lock { who, mode, start, len, wait }
        ),
        3 => (owner(), 0..BYTES, 1..6_u64)
            .prop_map(|(who, start, len)| Step::Unlock { who, start, len }),
        1 => (0..8_usize).prop_map(|nth| Step::Cancel { nth }),
        1 => (1..4_u64).prop_map(|session| Step::End { session }),
    ]
}

#[derive(Default)]
struct Model {
    bytes: BTreeMap<(u64, Owner), LockMode>,
    waiting: Vec<(Lock, u64)>,
}

impl Model {
    fn blockers(&self, lock: &Lock) -> BTreeSet<Owner> {
        let clash = |mode: LockMode| lock.mode == LockMode::Write || mode == LockMode::Write;
        self.bytes
            .iter()
            .filter(|((at, who), mode)| {
                (lock.start..=lock.end).contains(at) && *who != lock.owner && clash(**mode)
            })
            .map(|((_, who), _)| *who)
            .collect()
    }

    fn deadlocks(&self, lock: &Lock) -> bool {
        let mut reached = self.blockers(lock);
        loop {
            let more: BTreeSet<Owner> = self
                .waiting
                .iter()
                .filter(|(waiter, _)| reached.contains(&waiter.owner))
                .flat_map(|(waiter, _)| self.blockers(waiter))
                .collect();
            if more.is_subset(&reached) {
                return reached.contains(&lock.owner);
            }
            reached.extend(more);
        }
    }

    fn hold(&mut self, lock: &Lock) {
        for at in lock.start..=lock.end {
            self.bytes.insert((at, lock.owner), lock.mode);
        }
    }

    fn promote(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        while let Some(at) =
            self.waiting.iter().position(|(lock, _)| self.blockers(lock).is_empty())
        {
            let (lock, cookie) = self.waiting.remove(at);
            self.hold(&lock);
            grants.push(Grant { session: lock.owner.session, cookie });
        }
        grants
    }
}

fn sorted(mut grants: Vec<Grant>) -> Vec<(u64, u64)> {
    grants.sort_by_key(|grant| (grant.session, grant.cookie));
    grants.into_iter().map(|grant| (grant.session, grant.cookie)).collect()
}

fn same_locks(table: &LockTable, model: &Model) {
    for at in 0..BYTES + 8 {
        for session in 1..4 {
            for who in 0..2 {
                let who = Owner { session, owner: who };
                // Asked as a stranger, one byte at a time, everybody who holds it is found.
                let key = (FID, LockKind::Posix);
                let stranger = Owner { session: 99, owner: 0 };
                let probe = Lock { owner: stranger, ..lock(FID, 99, LockMode::Write, at, at) };
                let held = table.files.get(&key).and_then(|file| {
                    file.blockers(&probe).find(|held| held.owner == who).map(|held| held.mode)
                });
                assert_eq!(held, model.bytes.get(&(at, who)).copied(), "byte {at} of {who:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn ranges_behave_as_single_bytes_would(steps in prop::collection::vec(step(), 1..60)) {
        let (mut table, mut model, mut cookies) = (LockTable::default(), Model::default(), 0);
        for step in steps {
            match step {
                Step::Lock { who, mode, start, len, wait } => {
                    let end = start + len - 1;
                    let want = Lock { owner: who, ..lock(FID, who.session, mode, start, end) };
                    cookies += 1;
                    let got = table.lock(want, wait.then_some(cookies));
                    if model.blockers(&want).is_empty() {
                        model.hold(&want);
                        let grants = model.promote();
                        let (answer, others) = got.unwrap();
                        prop_assert_eq!(answer, Answer::Granted);
                        prop_assert_eq!(sorted(others), sorted(grants));
                    } else if !wait {
                        prop_assert_eq!(got, Err(LockError::Busy(FID)));
                    } else if model.deadlocks(&want) {
                        prop_assert_eq!(got, Err(LockError::Deadlock(FID)));
                    } else {
                        prop_assert_eq!(got.unwrap().0, Answer::Waiting);
                        model.waiting.push((want, cookies));
                    }
                }
                Step::Unlock { who, start, len } => {
                    let end = start + len - 1;
                    let gone = Lock { owner: who, ..lock(FID, who.session, LockMode::Read, start, end) };
                    model.bytes.retain(|(at, o), _| *o != who || !(start..=end).contains(at));
                    prop_assert_eq!(sorted(table.unlock(gone)), sorted(model.promote()));
                }
                Step::Cancel { nth } if nth < model.waiting.len() => {
                    let (gone, cookie) = model.waiting.remove(nth);
                    prop_assert!(!table.cancel(gone.owner.session, cookie));
                }
                Step::Cancel { .. } => {}
                Step::End { session } => {
                    model.bytes.retain(|(_, who), _| who.session != session);
                    model.waiting.retain(|(lock, _)| lock.owner.session != session);
                    prop_assert_eq!(sorted(table.end_session(session)), sorted(model.promote()));
                }
            }
            same_locks(&table, &model);
            let ranges: usize = table.files.values().map(|f| (0..4).map(|s| f.held_count(s)).sum::<usize>()).sum();
            prop_assert_eq!(table.counts(), (ranges, model.waiting.len()));
        }
        for session in 1..4 {
            table.end_session(session);
        }
        prop_assert!(table.files.is_empty() && table.sessions.is_empty() && table.waits.is_empty());
    }
}
