//! Inodes that go from hand to hand too fast.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_model::Fid;

/// More recalls than this within [`WINDOW`], and the inode gives no leases for a while.
pub(super) const RECALLS_MAX: u32 = 4;
/// In which recalls are counted, and how long the pause is then.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Seen {
    since: Duration,
    count: u32,
    barred_until: Duration,
}

/// Recalls of the last moments, by inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Contention {
    seen: BTreeMap<Fid, Seen>,
}

impl Contention {
    /// A request had the inode recalled, from however many.
    pub(super) fn note(&mut self, fid: Fid, now: Duration) {
        let seen = self.seen.entry(fid).or_default();
        if seen.count == 0 || now.saturating_sub(seen.since) > WINDOW {
            (seen.since, seen.count) = (now, 0);
        }
        seen.count = seen.count.saturating_add(1);
        if seen.count > RECALLS_MAX {
            seen.barred_until = now.saturating_add(WINDOW);
        }
    }

    /// Whether the inode gives no leases now.
    pub(super) fn bars(&self, fid: Fid, now: Duration) -> bool {
        self.seen.get(&fid).is_some_and(|seen| now < seen.barred_until)
    }

    /// Forgets what is over.
    pub(super) fn prune(&mut self, now: Duration) {
        self.seen
            .retain(|_, seen| now < seen.barred_until || now.saturating_sub(seen.since) <= WINDOW);
    }
}
