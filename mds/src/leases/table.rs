//! Who holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nacre_model::Fid;

use super::contention::Contention;
use super::{Lease, Mode, Need, Others, Recall, Touch, Wait};

/// Most leases of one session: beyond, its replies bring none. Clients give back long before.
pub const LEASES_PER_SESSION_MAX: usize = 1 << 18;

const FID_MIN: Fid = Fid { seq: 0, oid: 0, ver: 0 };
const FID_MAX: Fid = Fid { seq: u64::MAX, oid: u32::MAX, ver: u32::MAX };

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Session {
    /// The last that was given.
    number: u64,
    fids: BTreeSet<Fid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Holder {
    session: u64,
    lease: Lease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    keep: Option<Mode>,
    since: Duration,
}

/// All leases of one MDT. Volatile: clients claim theirs after a restart.
///
/// Invariant: an inode with an exclusive holder has no other holder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseTable {
    /// Numbers of new sessions start behind this.
    base: u64,
    /// Sessions that want leases.
    sessions: BTreeMap<u64, Session>,
    /// By inode; few each, so in a vector.
    holders: BTreeMap<Fid, Vec<Holder>>,
    /// Requests under way that nobody else may be granted anything beside: inode, session, count.
    guards: BTreeMap<Fid, Vec<(u64, usize)>>,
    /// Recalls without an answer.
    asked: BTreeMap<(u64, Fid), Asked>,
    contention: Contention,
    held_count: usize,
    /// Clients have not all said what they hold.
    recovering: bool,
}

impl LeaseTable {
    /// A table that grants nothing until [`LeaseTable::recovered`], if clients of the last life
    /// may hold leases. `base` must be above every number that the last life gave.
    pub fn new(base: u64, recovering: bool) -> Self {
        Self {
            base,
            sessions: BTreeMap::new(),
            holders: BTreeMap::new(),
            guards: BTreeMap::new(),
            asked: BTreeMap::new(),
            contention: Contention::default(),
            held_count: 0,
            recovering,
        }
    }

    /// A client that wants leases has opened its session, or opened it again.
    pub fn open_session(&mut self, session: u64) {
        let number = self.base;
        self.sessions.entry(session).or_insert(Session { number, fids: BTreeSet::new() });
    }

    /// Whether the session is given leases.
    pub fn serves(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Takes back what the client held before the restart. `false`: somebody else has it, or all
    /// have spoken; a lease that the table knows anyway is fine at any time.
    pub fn claim(&mut self, session: u64, fid: Fid, mode: Mode) -> bool {
        if self.held(session, fid) >= Some(mode) {
            return true;
        }
        let free = !self.holders_of(fid).iter().any(|holder| {
            holder.session != session
                && (mode == Mode::Exclusive || holder.lease.mode == Mode::Exclusive)
        });
        let taken = self.recovering && free && self.has_room(session, fid);
        if taken {
            // Below every number that a client can give back.
            self.put(session, fid, Lease { mode, number: 0 });
        }
        taken
    }

    /// All clients have said what they hold, and those that have not are fenced.
    pub fn recovered(&mut self) {
        self.recovering = false;
    }

    /// A session has ended, and with it what it held. Its requests under way still count.
    pub fn end_session(&mut self, session: u64) {
        let ended = self.sessions.remove(&session);
        for fid in ended.into_iter().flat_map(|ended| ended.fids) {
            self.remove(session, fid);
        }
    }

    /// A request begins that is about this inode: nobody else is granted anything on it.
    pub fn begin(&mut self, session: u64, fid: Fid) {
        let guards = self.guards.entry(fid).or_default();
        match guards.iter_mut().find(|(owner, _)| *owner == session) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => guards.push((session, 1)),
        }
    }

    /// That request has ended.
    pub fn end(&mut self, session: u64, fid: Fid) {
        let Some(guards) = self.guards.get_mut(&fid) else { return };
        if let Some((_, count)) = guards.iter_mut().find(|(owner, _)| *owner == session) {
            *count = count.saturating_sub(1);
        }
        guards.retain(|(_, count)| *count > 0);
        if guards.is_empty() {
            self.guards.remove(&fid);
        }
    }

    /// Whether a request may go on. If not: who must be asked to give back first.
    pub fn need(&mut self, session: u64, touches: &[Touch], now: Duration) -> Result<(), Wait> {
        let mut wait = Wait::default();
        let mut free = true;
        for touch in touches {
            if self.recovering && !self.covers(session, touch) {
                free = false;
                continue;
            }
            let keep = (touch.need != Need::Change).then_some(Mode::Shared);
            let in_the_way: Vec<u64> = self
                .holders_of(touch.fid)
                .iter()
                .filter(|holder| holder.session != session && Some(holder.lease.mode) > keep)
                .map(|holder| holder.session)
                .collect();
            free &= in_the_way.is_empty();
            let before = wait.recalls.len();
            for holder in in_the_way {
                wait.recalls.extend(self.ask(holder, touch.fid, keep, now));
            }
            if wait.recalls.len() > before {
                self.contention.note(touch.fid, now);
            }
        }
        if free { Ok(()) } else { Err(wait) }
    }

    /// Grants what can be granted of what is wanted; what is held is told again, under a new
    /// number. To be called before the state is read that the lease is about.
    pub fn grant(
        &mut self,
        session: u64,
        fid: Fid,
        want: Mode,
        others: Others,
        now: Duration,
    ) -> Option<Lease> {
        let held = self.held(session, fid);
        let guarded = self.guards.get(&fid).into_iter().flatten().any(|(own, _)| *own != session);
        if self.recovering
            || guarded
            || self.asked.contains_key(&(session, fid))
            || !self.has_room(session, fid)
            || (held.is_none() && self.contention.bars(fid, now))
        {
            return None;
        }
        let mut rivals = self.holders_of(fid).iter().filter(|holder| holder.session != session);
        let mode = if held == Some(Mode::Exclusive) {
            Mode::Exclusive
        } else if others.write || rivals.clone().any(|rival| rival.lease.mode == Mode::Exclusive) {
            return None;
        } else if want == Mode::Exclusive && !others.hold && rivals.next().is_none() {
            Mode::Exclusive
        } else {
            Mode::Shared
        };
        let owner = self.sessions.get_mut(&session)?;
        owner.number = owner.number.saturating_add(1);
        let lease = Lease { mode, number: owner.number };
        self.put(session, fid, lease);
        Some(lease)
    }

    /// A batch is about to make an inode that its client has begun to use: it has it alone, whatever
    /// the limits. Nobody else can know it yet.
    pub fn made(&mut self, session: u64, fid: Fid) {
        if !self.holders_of(fid).is_empty() {
            return;
        }
        if let Some(owner) = self.sessions.get_mut(&session) {
            owner.number = owner.number.saturating_add(1);
            let number = owner.number;
            self.put(session, fid, Lease { mode: Mode::Exclusive, number });
        }
    }

    /// A client gives back, down to `keep`, leases up to that number. Any number of times.
    pub fn give_back(&mut self, session: u64, fid: Fid, keep: Option<Mode>, number: u64) {
        let holder = self.holders_of(fid).iter().find(|holder| holder.session == session);
        let Some(lease) = holder.map(|holder| holder.lease) else { return };
        if lease.number > number {
            return;
        }
        match keep {
            None => {
                self.remove(session, fid);
                if let Some(owner) = self.sessions.get_mut(&session) {
                    owner.fids.remove(&fid);
                }
            }
            Some(keep) => {
                let mode = lease.mode.min(keep);
                self.put(session, fid, Lease { mode, ..lease });
                if self.asked.get(&(session, fid)).is_some_and(|asked| Some(mode) <= asked.keep) {
                    self.asked.remove(&(session, fid));
                }
            }
        }
    }

    /// The inode was freed: nothing can be said of it any more.
    pub fn gone(&mut self, fid: Fid) {
        for holder in self.holders_of(fid).to_vec() {
            self.give_back(holder.session, fid, None, u64::MAX);
        }
    }

    /// What the session was asked for and has not given back, to be asked for again: its stream
    /// is a new one.
    pub fn pending(&self, session: u64) -> Vec<Recall> {
        let number = self.sessions.get(&session).map_or(0, |owner| owner.number);
        self.asked
            .range((session, FID_MIN)..=(session, FID_MAX))
            .map(|((session, fid), asked)| Recall {
                session: *session,
                fid: *fid,
                keep: asked.keep,
                number,
            })
            .collect()
    }

    /// Sessions that have not given back for longer than `limit`.
    pub fn overdue(&self, now: Duration, limit: Duration) -> BTreeSet<u64> {
        let late = |asked: &Asked| now.saturating_sub(asked.since) > limit;
        self.asked
            .iter()
            .filter(|(_, asked)| late(asked))
            .map(|((session, _), _)| *session)
            .collect()
    }

    /// Forgets what is of no use any more.
    pub fn prune(&mut self, now: Duration) {
        self.contention.prune(now);
    }

    /// Everything that the session holds.
    pub fn of_session(&self, session: u64) -> Vec<(Fid, Lease)> {
        let fids = self.sessions.get(&session).into_iter().flat_map(|owner| &owner.fids);
        let lease = |fid: &Fid| {
            let holder = self.holders_of(*fid).iter().find(|holder| holder.session == session);
            holder.map(|holder| (*fid, holder.lease))
        };
        fids.filter_map(lease).collect()
    }

    /// What the session holds of the inode.
    pub fn held(&self, session: u64, fid: Fid) -> Option<Mode> {
        let holder = self.holders_of(fid).iter().find(|holder| holder.session == session);
        holder.map(|holder| holder.lease.mode)
    }

    /// Whether a session other than this one has the inode exclusively.
    pub fn others_exclusive(&self, session: u64, fid: Fid) -> bool {
        self.holders_of(fid)
            .iter()
            .any(|holder| holder.session != session && holder.lease.mode == Mode::Exclusive)
    }

    /// Whether clients may still claim what they held.
    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// Leases of all sessions.
    pub fn held_count(&self) -> usize {
        self.held_count
    }

    fn holders_of(&self, fid: Fid) -> &[Holder] {
        self.holders.get(&fid).map_or(&[], Vec::as_slice)
    }

    /// While not all clients have spoken, nobody gets past what they may hold.
    fn covers(&self, session: u64, touch: &Touch) -> bool {
        let enough = if touch.need == Need::Change { Mode::Exclusive } else { Mode::Shared };
        self.held(session, touch.fid) >= Some(enough)
    }

    fn has_room(&self, session: u64, fid: Fid) -> bool {
        self.sessions.get(&session).is_some_and(|owner| {
            owner.fids.len() < LEASES_PER_SESSION_MAX || owner.fids.contains(&fid)
        })
    }

    /// Notes that a holder is asked; the recall, unless it was asked for as much before.
    fn ask(&mut self, session: u64, fid: Fid, keep: Option<Mode>, now: Duration) -> Option<Recall> {
        let asked = self.asked.get(&(session, fid));
        if asked.is_some_and(|asked| asked.keep <= keep) {
            return None;
        }
        self.asked.insert((session, fid), Asked { keep, since: now });
        let number = self.sessions.get(&session).map_or(0, |owner| owner.number);
        Some(Recall { session, fid, keep, number })
    }

    fn put(&mut self, session: u64, fid: Fid, lease: Lease) {
        let holders = self.holders.entry(fid).or_insert_with(|| Vec::with_capacity(1));
        if let Some(holder) = holders.iter_mut().find(|holder| holder.session == session) {
            holder.lease = lease;
            return;
        }
        holders.push(Holder { session, lease });
        self.held_count = self.held_count.saturating_add(1);
        if let Some(owner) = self.sessions.get_mut(&session) {
            owner.fids.insert(fid);
        }
    }

    /// Takes a holder off an inode; not the inode off its session.
    fn remove(&mut self, session: u64, fid: Fid) {
        self.asked.remove(&(session, fid));
        let Some(holders) = self.holders.get_mut(&fid) else { return };
        let before = holders.len();
        holders.retain(|holder| holder.session != session);
        let removed = before.saturating_sub(holders.len());
        if holders.is_empty() {
            self.holders.remove(&fid);
        }
        self.held_count = self.held_count.saturating_sub(removed);
    }
}
