//! What there is: the server's table and requests, the network, clients, and one object.

use std::collections::BTreeSet;
use std::time::Duration;

use nacre_mds::leases::{Lease, LeaseTable, Mode, Recall};
use nacre_model::Fid;

pub(crate) const FID: Fid = Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 };
/// Time stands still: what it brings about are actions.
pub(crate) const NOW: Duration = Duration::ZERO;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) clients: u64,
    /// Of each client.
    pub(crate) operations: u8,
    /// Messages that are lost.
    pub(crate) losses: u8,
    pub(crate) evictions: u8,
    /// Recalls that are sent again without need.
    pub(crate) repeats: u8,
}

/// One thing that the protocol needs and that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The lease is noted after the state was read.
    GrantAfterRead,
    /// Others are granted leases while a change is under way.
    NoGuard,
    /// The guard of a change ends before it is applied.
    GuardEndsEarly,
    /// Reads do not wait for exclusive holders.
    ReadsDoNotWait,
    /// A change lets others keep what they know.
    ChangeLeavesShared,
    /// The client believes a reply that was overtaken by a recall.
    BelievesOvertaken,
    /// The client gives back before it has written what it kept.
    ReturnsBeforeFlush,
    /// The server drops a lease whatever number the client gives back.
    ReturnIgnoresNumber,
    /// Leases of an evicted session go to others before it is fenced.
    ReleasesBeforeFence,
    /// The fence is closed though a write is being carried out.
    FenceDoesNotWait,
    /// A client uses its leases though it has not heard from the server for long.
    UsesWhileSilent,
}

impl Mutant {
    pub(crate) const ALL: [Self; 11] = [
        Self::GrantAfterRead,
        Self::NoGuard,
        Self::GuardEndsEarly,
        Self::ReadsDoNotWait,
        Self::ChangeLeavesShared,
        Self::BelievesOvertaken,
        Self::ReturnsBeforeFlush,
        Self::ReturnIgnoresNumber,
        Self::ReleasesBeforeFence,
        Self::FenceDoesNotWait,
        Self::UsesWhileSilent,
    ];
}

pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) mutant: Option<Mutant>,
}

impl Protocol {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// What a client asks the server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Get,
    Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    Arrived,
    /// Nobody stands in the way any more.
    Free,
    /// The lease is noted.
    Granted,
    /// Only of a mutant: the state was read before.
    Read(u8),
}

/// A request at the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    pub(crate) session: u64,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) lease: Option<(Mode, u64)>,
}

/// In any order; what is sent twice at a time arrives once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Ask {
        session: u64,
        kind: Kind,
    },
    Reply {
        session: u64,
        kind: Kind,
        version: u8,
        lease: Option<(Mode, u64)>,
    },
    Recall {
        session: u64,
        keep: Option<Mode>,
        number: u64,
    },
    Return {
        session: u64,
        keep: Option<Mode>,
        number: u64,
    },
    /// To the OST.
    Write {
        session: u64,
        version: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Client {
    /// What it asked for, and what was done by then.
    pub(crate) asked: Option<(Kind, u8)>,
    pub(crate) lease: Option<(Mode, u64)>,
    /// The highest number that a recall has named.
    pub(crate) overtaken: u64,
    /// What it knows, under its lease.
    pub(crate) known: u8,
    /// Written under its lease and not at the OST yet; whether it is on its way.
    pub(crate) kept: Option<(u8, bool)>,
    /// A recall that is not answered: what it may keep, and the number.
    pub(crate) recalled: Option<(Option<Mode>, u64)>,
    /// It has not heard from the server for most of the lease time, and uses nothing.
    pub(crate) silent: bool,
    pub(crate) operations: u8,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Alive,
    /// Its requests are refused.
    Evicted,
    Released,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) table: LeaseTable,
    pub(crate) requests: BTreeSet<Request>,
    pub(crate) network: BTreeSet<Message>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ends: Vec<End>,
    /// The inode: what the last change at the server made it.
    pub(crate) inode: u8,
    /// The object: what was written last.
    pub(crate) object: u8,
    pub(crate) fenced: BTreeSet<u64>,
    /// Writes that the OST is carrying out.
    pub(crate) writing: BTreeSet<(u64, u8)>,
    /// The last version that anybody made, and the last that its maker was told to be made.
    pub(crate) last: u8,
    pub(crate) done: u8,
    pub(crate) losses: u8,
    pub(crate) evictions: u8,
    pub(crate) repeats: u8,
    // What was seen.
    pub(crate) late_write: bool,
    pub(crate) stale_answer: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    // Clients.
    Ask(u64, Kind),
    WriteUnderLease(u64),
    Flush(u64),
    GiveBack(u64),
    FallSilent(u64),
    // The network.
    Deliver(Message),
    Lose(Message),
    // The server.
    Step(Request),
    RecallAgain(u64),
    Evict(u64),
    Fence(u64),
    Release(u64),
    // The OST.
    Land(u64, u8),
}

impl State {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let mut table = LeaseTable::new(0, false);
        (0..bounds.clients).for_each(|session| table.open_session(session));
        let count = usize::try_from(bounds.clients).unwrap();
        Self {
            table,
            requests: BTreeSet::new(),
            network: BTreeSet::new(),
            clients: vec![Client { operations: bounds.operations, ..Client::default() }; count],
            ends: vec![End::Alive; count],
            inode: 0,
            object: 0,
            fenced: BTreeSet::new(),
            writing: BTreeSet::new(),
            last: 0,
            done: 0,
            losses: bounds.losses,
            evictions: bounds.evictions,
            repeats: bounds.repeats,
            late_write: false,
            stale_answer: false,
        }
    }

    pub(crate) fn client(&mut self, session: u64) -> &mut Client {
        self.clients.get_mut(usize::try_from(session).unwrap()).unwrap()
    }

    pub(crate) fn end(&self, session: u64) -> End {
        *self.ends.get(usize::try_from(session).unwrap()).unwrap()
    }

    pub(crate) fn end_mut(&mut self, session: u64) -> &mut End {
        self.ends.get_mut(usize::try_from(session).unwrap()).unwrap()
    }

    /// What anybody who asks finds.
    pub(crate) fn truth(&self) -> u8 {
        self.inode.max(self.object)
    }

    /// What each client acts upon now.
    fn used(&self) -> impl Iterator<Item = (&Client, Mode)> {
        let acts = |client: &Client| client.lease.map(|(mode, _)| mode).filter(|_| !client.silent);
        self.clients.iter().filter_map(move |client| Some((client, acts(client)?)))
    }

    pub(crate) fn alone(&self) -> bool {
        let modes: Vec<Mode> = self.used().map(|(_, mode)| mode).collect();
        modes.len() <= 1 || !modes.contains(&Mode::Exclusive)
    }

    pub(crate) fn fresh(&self) -> bool {
        self.used().all(|(client, _)| client.known >= self.done)
    }

    pub(crate) fn send_recalls(&mut self, recalls: Vec<Recall>) {
        for Recall { session, keep, number, .. } in recalls {
            self.network.insert(Message::Recall { session, keep, number });
        }
    }
}

pub(crate) fn pair(lease: Option<Lease>) -> Option<(Mode, u64)> {
    lease.map(|lease| (lease.mode, lease.number))
}
