//! Random requests, answers and ends; then nobody holds beside an exclusive holder, and nobody is
//! granted anything beside a change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SESSIONS: u64 = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin {
        session: u64,
        fid: u32,
        need: Need,
    },
    /// The request that begun longest ago looks whether it may go on, and if so, ends.
    GoOn,
    Grant {
        session: u64,
        fid: u32,
        want: Mode,
        write: bool,
        hold: bool,
    },
    /// Of the oldest recall, or by itself with the number of the last grant but `late`.
    GiveBack {
        session: u64,
        fid: u32,
        keep: Option<Mode>,
        late: u64,
    },
    Answer {
        session: u64,
    },
    EndSession {
        session: u64,
    },
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)]
}

fn step() -> impl Strategy<Value = Step> {
    let need = prop_oneof![Just(Need::Read), Just(Need::Open), Just(Need::Change)];
    let (session, fid) = (1..=SESSIONS, 0_u32..2);
    let one_in_eight = || prop::bool::weighted(0.125);
    prop_oneof![
        4 => (session.clone(), fid.clone(), need)
            .prop_map(|(session, fid, need)| Step::Begin { session, fid, need }),
        6 => Just(Step::GoOn),
        8 => (session.clone(), fid.clone(), mode(), one_in_eight(), one_in_eight()).prop_map(
            |(session, fid, want, write, hold)| Step::Grant { session, fid, want, write, hold }
        ),
        2 => (session.clone(), fid, prop::option::of(mode()), 0_u64..3)
            .prop_map(|(session, fid, keep, late)| Step::GiveBack { session, fid, keep, late }),
        6 => session.clone().prop_map(|session| Step::Answer { session }),
        1 => session.prop_map(|session| Step::EndSession { session }),
    ]
}

/// The table, and what was told of it.
struct World {
    table: LeaseTable,
    now: u64,
    /// Requests under way; the flag says that nothing stood in its way any more.
    requests: Vec<(u64, Touch, bool)>,
    /// By session: the last number granted, and recalls without answer.
    numbers: BTreeMap<u64, u64>,
    recalls: BTreeMap<u64, Vec<Recall>>,
}

fn fid(oid: u32) -> Fid {
    Fid { oid, ..FID }
}

impl World {
    fn step(&mut self, step: Step) {
        self.now += 40;
        match step {
            Step::Begin { session, fid: oid, need } => {
                if need != Need::Read {
                    self.table.begin(session, fid(oid));
                }
                self.requests.push((session, Touch { fid: fid(oid), need }, false));
            }
            Step::GoOn => self.go_on(),
            Step::Grant { session, fid: oid, want, write, hold } => {
                self.grant(session, fid(oid), want, Others { write, hold: hold || write });
            }
            Step::GiveBack { session, fid: oid, keep, late } => {
                let number = self.numbers.get(&session).copied().unwrap_or(0);
                self.table.give_back(session, fid(oid), keep, number.saturating_sub(late));
            }
            Step::Answer { session } => {
                let recalls = self.recalls.entry(session).or_default();
                if !recalls.is_empty() {
                    let recall = recalls.remove(0);
                    self.table.give_back(session, recall.fid, recall.keep, recall.number);
                    // Given back by itself before, it may have been granted again since.
                    let later = self.numbers.get(&session).is_some_and(|n| *n > recall.number);
                    let held = self.table.held(session, recall.fid);
                    assert!(held <= recall.keep || later, "an answer leaves what it may keep");
                }
            }
            Step::EndSession { session } => {
                self.table.end_session(session);
                self.recalls.remove(&session);
                self.table.open_session(session);
                // A new session begins at the base; this one stands for a later one.
                self.numbers.remove(&session);
            }
        }
    }

    fn go_on(&mut self) {
        let Some((session, touch, ready)) = self.requests.first().copied() else { return };
        if ready {
            self.requests.remove(0);
            if touch.need != Need::Read {
                self.table.end(session, touch.fid);
            }
            return;
        }
        match self.table.need(session, &[touch], at(self.now)) {
            // A read is answered at once; others stay for a while.
            Ok(()) if touch.need == Need::Read => drop(self.requests.remove(0)),
            Ok(()) => self.requests[0].2 = true,
            Err(wait) => {
                for recall in wait.recalls {
                    assert_ne!(recall.session, session);
                    let last = self.numbers.get(&recall.session).copied();
                    assert!(last.is_none_or(|last| recall.number >= last));
                    self.recalls.entry(recall.session).or_default().push(recall);
                }
                // Everybody who stands in the way was asked, and is asked again on a new stream.
                for other in (1..=SESSIONS).filter(|other| *other != session) {
                    let allowed = (touch.need != Need::Change).then_some(Mode::Shared);
                    let asked = |recall: &Recall| recall.fid == touch.fid && recall.keep <= allowed;
                    if self.table.held(other, touch.fid) > allowed {
                        assert!(self.table.pending(other).iter().any(asked));
                    }
                }
            }
        }
    }

    fn grant(&mut self, session: u64, fid: Fid, want: Mode, others: Others) {
        let before = self.table.held(session, fid);
        let Some(lease) = self.table.grant(session, fid, want, others, at(self.now)) else {
            return;
        };
        let last = self.numbers.insert(session, lease.number);
        assert!(last.is_none_or(|last| lease.number > last), "numbers ascend");
        assert!(before <= Some(lease.mode));
        assert!(before == Some(Mode::Exclusive) || !others.write);
        let beside = |(other, touch, _): &(u64, Touch, bool)| {
            *other != session && touch.fid == fid && touch.need != Need::Read
        };
        assert!(!self.requests.iter().any(beside), "granted beside a change");
    }

    fn check(&self) {
        for fid in [fid(0), fid(1)] {
            let held: Vec<_> =
                (1..=SESSIONS).filter_map(|session| self.table.held(session, fid)).collect();
            assert!(held.len() <= 1 || !held.contains(&Mode::Exclusive), "{fid}: {held:?}");
        }
        for (session, touch, ready) in &self.requests {
            let others = (1..=SESSIONS).filter(|other| other != session);
            let most = others.filter_map(|other| self.table.held(other, touch.fid)).max();
            let allowed = (touch.need != Need::Change).then_some(Mode::Shared);
            assert!(!ready || most <= allowed, "granted though a request was let through");
        }
        let count: usize = [fid(0), fid(1)]
            .iter()
            .map(|fid| (1..=SESSIONS).filter(|s| self.table.held(*s, *fid).is_some()).count())
            .sum();
        assert_eq!(self.table.held_count(), count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn leases_never_conflict(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World {
            table: table(),
            now: 0,
            requests: Vec::new(),
            numbers: BTreeMap::new(),
            recalls: BTreeMap::new(),
        };
        for step in steps {
            world.step(step);
            world.check();
        }
    }
}
