//! Files that are leaving their inodes, one client at a time.
//!
//! A promotion is begun, the bytes are copied to objects, and it is committed; a write to the inode
//! in between makes the commit fail. So that clients who write to one file do not keep each other
//! from ever getting it out, whoever comes second waits a little. That is a courtesy, not a lock:
//! a client that does not come back is overtaken.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_model::Fid;
use nacre_proto::v1::change_request::Op;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long others wait for a client between its two requests.
const HOLD_MAX: Duration = Duration::from_secs(2);

/// Who is taking which file out.
#[derive(Debug, Default)]
pub(crate) struct Promotions {
    under_way: Mutex<BTreeMap<Fid, UnderWay>>,
    ended: Notify,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    session: u64,
    until: Instant,
}

impl Promotions {
    /// Waits until the change does not get in the way of another client's promotion. One that
    /// begins a promotion has its turn from then on.
    pub(crate) async fn turn(&self, session: u64, op: &Op) {
        let (fid, begins) = if let Op::Promote(op) = op {
            (op.fid.filter(|_| !op.commit), true)
        } else if let Op::WriteInline(op) = op {
            (op.fid, false)
        } else if let Op::Setattr(op) = op {
            (op.fid.filter(|_| op.size.is_some()), false)
        } else {
            return;
        };
        let Some(fid) = fid.map(Fid::from) else { return };
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on nothing is missed.
            ended.as_mut().enable();
            let Some(until) = self.in_the_way(session, fid, begins) else { return };
            let _late = tokio::time::timeout_at(until, ended).await;
        }
    }

    fn in_the_way(&self, session: u64, fid: Fid, begins: bool) -> Option<Instant> {
        let now = Instant::now();
        let mut under_way = self.under_way.lock();
        under_way.retain(|_, other| other.until > now);
        if let Some(other) = under_way.get(&fid).filter(|other| other.session != session) {
            return Some(other.until);
        }
        if begins {
            under_way.insert(fid, UnderWay { session, until: now + HOLD_MAX });
        }
        None
    }

    /// A change was carried out, or refused.
    pub(crate) fn done(&self, session: u64, op: &Op, succeeded: bool) {
        let Op::Promote(op) = op else { return };
        let Some(fid) = op.fid.map(Fid::from) else { return };
        if op.commit || !succeeded {
            let mut under_way = self.under_way.lock();
            if under_way.get(&fid).is_some_and(|own| own.session == session) {
                under_way.remove(&fid);
            }
            drop(under_way);
            self.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use nacre_proto::v1;

    use super::*;

    const FILE: Fid = Fid { seq: 0x2_0000_0400, oid: 1, ver: 0 };

    fn promote(commit: bool) -> Op {
        Op::Promote(v1::PromoteOp { fid: Some(FILE.into()), commit, ..Default::default() })
    }

    fn write() -> Op {
        Op::WriteInline(v1::WriteInlineOp { fid: Some(FILE.into()), ..Default::default() })
    }

    async fn waits(promotions: &Promotions, session: u64, op: &Op) -> bool {
        let begun = Instant::now();
        promotions.turn(session, op).await;
        begun.elapsed() >= HOLD_MAX
    }

    #[tokio::test(start_paused = true)]
    async fn others_wait_for_the_commit_but_not_for_ever() {
        let promotions = Promotions::default();
        assert!(!waits(&promotions, 1, &promote(false)).await);
        assert!(!waits(&promotions, 1, &write()).await, "its own writes are its own affair");
        assert!(waits(&promotions, 2, &write()).await, "the first never came back");
        assert!(!waits(&promotions, 2, &promote(false)).await);
        let (second, third) = (promote(true), promote(false));
        let commit = async { promotions.done(2, &second, true) };
        let (third_waited, ()) = tokio::join!(waits(&promotions, 3, &third), commit);
        assert!(!third_waited);
        assert!(waits(&promotions, 1, &promote(false)).await, "now it is the third's");
        promotions.done(1, &promote(false), false);
        assert!(!waits(&promotions, 2, &write()).await, "what was refused is over");
    }
}
