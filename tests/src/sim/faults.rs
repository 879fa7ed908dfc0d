//! Which faults were in force when: the only excuses that the oracle takes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::OstIndex;
use parking_lot::Mutex;

/// OSTs of one OSS.
pub(super) const OSTS_PER_OSS: u16 = 2;
/// A broken connection is noticed by its pings within 3 s, and made again within 2 s more.
const GRACE: Duration = Duration::from_secs(5);
/// The lease is 10 s; what was heard last may be older than the fault by one beat, and a
/// connection that has lost a message is silent until its pings notice.
const EVICTION_AFTER: Duration = Duration::from_secs(5);
/// A map is not older than the longest fault of the way to the MGS, and what it takes to mend it.
const MAP_OLD: Duration = Duration::from_secs(15);
/// A metadata record is on the disk 100 ms after it was answered; twice that is generous.
const RECORD_SYNCED: Duration = Duration::from_millis(200);

/// A simulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// The management server.
    Mgs,
    /// The metadata server.
    Mds,
    /// An object server.
    Oss(u16),
    /// A client.
    Client(u16),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mgs => f.write_str("mgs"),
            Self::Mds => f.write_str("mds"),
            Self::Oss(n) => write!(f, "oss{n}"),
            Self::Client(n) => write!(f, "client{n}"),
        }
    }
}

/// What was done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process is dead; with `power`, the machine has lost what was not synced.
    Down {
        /// Whose.
        host: Host,
        /// Whether the power went.
        power: bool,
    },
    /// Two hosts do not hear each other well, or not at all.
    Link(Host, Host),
}

impl Fault {
    fn touches(self, a: Host, b: Host) -> bool {
        match self {
            Self::Down { host, .. } => host == a || host == b,
            Self::Link(x, y) => (x == a && y == b) || (x == b && y == a),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Span {
    fault: Fault,
    from: Duration,
    until: Option<Duration>,
}

/// All faults of a run. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Faults {
    /// A fault begins; the number ends it.
    pub(super) fn begin(&self, fault: Fault, at: Duration) -> usize {
        let mut spans = self.spans.lock();
        spans.push(Span { fault, from: at, until: None });
        spans.len() - 1
    }

    /// It is healed.
    pub(super) fn end(&self, number: usize, at: Duration) {
        if let Some(span) = self.spans.lock().get_mut(number) {
            span.until = Some(at);
        }
    }

    /// Whether such a fault was in force, or its after-effects, between two times.
    fn any(&self, from: Duration, to: Duration, is: impl Fn(Fault) -> bool) -> bool {
        self.spans.lock().iter().any(|span| {
            let over = span.until.is_some_and(|until| until + GRACE < from);
            is(span.fault) && span.from <= to && !over
        })
    }

    /// Whether anything at all was wrong between a client and those who serve it.
    pub(super) fn disturbed(&self, client: u16, from: Duration, to: Duration) -> bool {
        self.any(from, to, |fault| match fault {
            Fault::Link(Host::Client(a), _) | Fault::Link(_, Host::Client(a)) => a == client,
            Fault::Down { .. } | Fault::Link(_, _) => true,
        })
    }

    /// Whether nothing was wrong anywhere.
    pub(super) fn calm(&self, from: Duration, to: Duration) -> bool {
        !self.any(from, to, |_| true)
    }

    /// Whether an OST (`None`: any of them) may have given EIO to a client, or to the MDS in its
    /// name.
    pub(super) fn excuse_ost(
        &self,
        client: u16,
        ost: Option<OstIndex>,
        from: Duration,
        to: Duration,
    ) -> bool {
        let (client, wanted) = (Host::Client(client), ost.map(|ost| ost.0 / OSTS_PER_OSS));
        self.any(from, to, |fault| match fault {
            Fault::Down { host: Host::Oss(oss), .. } => wanted.is_none_or(|wanted| wanted == oss),
            Fault::Link(a, Host::Oss(oss)) | Fault::Link(Host::Oss(oss), a) => {
                wanted.is_none_or(|wanted| wanted == oss) && (a == client || a == Host::Mds)
            }
            Fault::Down { .. } | Fault::Link(_, _) => false,
        })
    }

    /// Whether a client may not know the epoch of an OST that was restarted: it comes from the MGS.
    pub(super) fn excuse_map(&self, client: u16, from: Duration, to: Duration) -> bool {
        let client = Host::Client(client);
        let silent = self.any(from, to, |fault| match fault {
            Fault::Down { host, .. } => host == Host::Mgs,
            Fault::Link(a, b) => {
                let oss = |host| matches!(host, Host::Oss(_));
                let ends = |host| host == client || host == Host::Mds || oss(host);
                (a == Host::Mgs && ends(b)) || (b == Host::Mgs && ends(a))
            }
        });
        let before = from.saturating_sub(MAP_OLD);
        silent
            && self.any(before, to, |fault| matches!(fault, Fault::Down { host: Host::Oss(_), .. }))
    }

    /// Whether a client may have been evicted: it and the MDS did not hear each other for long.
    pub(super) fn excuse_eviction(&self, client: u16, from: Duration, to: Duration) -> bool {
        let client = Host::Client(client);
        let spans = self.spans.lock();
        let mut apart = spans
            .iter()
            .filter(|span| span.fault.touches(client, Host::Mds))
            .map(|span| (span.from, span.until.map_or(to, |until| until + GRACE)))
            .collect::<Vec<_>>();
        apart.sort_unstable();
        let mut merged: Vec<(Duration, Duration)> = Vec::new();
        for (begin, end) in apart {
            match merged.last_mut() {
                Some(last) if begin <= last.1 => last.1 = last.1.max(end),
                Some(_) | None => merged.push((begin, end)),
            }
        }
        let long = |(begin, end): &(Duration, Duration)| *end >= *begin + EVICTION_AFTER + GRACE;
        // What was lost may be told by the first call after a long rest.
        merged.iter().any(|span| long(span) && span.0 <= to && span.1 + EVICTION_AFTER >= from)
    }

    /// The first power loss of the MDS after a time.
    pub(super) fn mds_power_loss_after(&self, after: Duration) -> Option<Duration> {
        self.power_loss_after(after, |host| host == Host::Mds)
    }

    /// Whether what was answered at `acked` by the MDS may be lost, unless it was synced.
    pub(super) fn mds_may_forget(&self, begun: Duration, acked: Duration) -> bool {
        let loss = self.mds_power_loss_after(begun);
        loss.is_some_and(|loss| acked + RECORD_SYNCED > loss)
    }

    /// Whether an object server has lost power after a time.
    pub(super) fn oss_power_loss_after(&self, after: Duration) -> bool {
        self.power_loss_after(after, |host| matches!(host, Host::Oss(_))).is_some()
    }

    fn power_loss_after(&self, after: Duration, is: impl Fn(Host) -> bool) -> Option<Duration> {
        let spans = self.spans.lock();
        let losses = spans.iter().filter_map(|span| match span.fault {
            Fault::Down { host, power: true } if is(host) => Some(span.from),
            Fault::Down { .. } | Fault::Link(_, _) => None,
        });
        losses.filter(|at| *at >= after).min()
    }
}

/// The part of a history that a power loss at `loss` may have taken: answered after this.
pub(super) fn synced_before(loss: Duration) -> Duration {
    loss.saturating_sub(RECORD_SYNCED)
}
