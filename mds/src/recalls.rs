//! What requests do about leases: wait for what others hold, recall it, and are granted some.
//!
//! Requests wait here for holders; holders never wait for requests: what a holder does before it
//! gives back (writes, `settle`, `promote` on the inode that it has) meets nobody's lease but its
//! own, and guards stop grants only, not requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use nacre_model::Fid;
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;
use tokio::time::Instant;

use crate::engine::EngineError;
use crate::error::MdsError;
use crate::leases::{Lease, Mode, Need, Others, Recall, Touch};
use crate::metrics;
use crate::shared::Shared;

/// Most leases in one message.
pub(crate) const LEASES_PER_CALL_MAX: usize = 4096;

/// A request under way: what it changes is granted to nobody else.
#[must_use = "dropping it lets others be granted what the request changes"]
pub(crate) struct Guard {
    shared: Arc<Shared>,
    session: u64,
    fids: Vec<Fid>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.fids.is_empty() {
            return;
        }
        let mut leases = self.shared.leases.lock();
        for fid in &self.fids {
            leases.end(self.session, *fid);
        }
    }
}

/// Waits until nobody else holds what is needed. Who does is recalled, and evicted if it does not
/// answer.
///
/// # Cancel safety
/// Safe: the guard goes; what was recalled stays recalled.
pub(crate) async fn need(
    shared: &Arc<Shared>,
    session: u64,
    touches: &[Touch],
) -> Result<Guard, MdsError> {
    let mut guard = Guard { shared: Arc::clone(shared), session, fids: Vec::new() };
    {
        let mut leases = shared.leases.lock();
        for touch in touches.iter().filter(|touch| touch.need != Need::Read) {
            leases.begin(session, touch.fid);
            guard.fids.push(touch.fid);
        }
    }
    if is_free(shared, session, touches) {
        return Ok(guard);
    }
    let begun = Instant::now();
    loop {
        let returned = shared.returned.notified();
        tokio::pin!(returned);
        // From here on nothing is missed.
        returned.as_mut().enable();
        if is_free(shared, session, touches) {
            metrics::recall_wait(begun.elapsed());
            return Ok(guard);
        }
        tokio::select! {
            () = returned => {}
            () = shared.scope.stopped() => return Err(EngineError::Stopped.into()),
        }
    }
}

/// Whether nobody stands in the way; recalls who does.
fn is_free(shared: &Shared, session: u64, touches: &[Touch]) -> bool {
    let wait = match shared.leases.lock().need(session, touches, shared.now()) {
        Ok(()) => return true,
        Err(wait) => wait,
    };
    metrics::recalls(wait.recalls.len());
    send(shared, wait.recalls);
    false
}

/// Sends recalls, one message for each session.
fn send(shared: &Shared, recalls: Vec<Recall>) {
    let mut by_session: BTreeMap<u64, Vec<v1::RecallItem>> = BTreeMap::new();
    for recall in recalls {
        by_session.entry(recall.session).or_default().push(v1::RecallItem {
            fid: Some(recall.fid.into()),
            keep: to_wire(recall.keep).into(),
            number: recall.number,
        });
    }
    for (session, items) in by_session {
        shared.send(session, Event::Recall(v1::Recall { items }));
    }
}

/// Recalls again what a session has not given back: its stream is a new one.
pub(crate) fn recall_again(shared: &Shared, session: u64) {
    let pending = shared.leases.lock().pending(session);
    for chunk in pending.chunks(LEASES_PER_CALL_MAX) {
        send(shared, chunk.to_vec());
    }
}

fn to_wire(mode: Option<Mode>) -> v1::LeaseMode {
    match mode {
        None => v1::LeaseMode::Unspecified,
        Some(Mode::Shared) => v1::LeaseMode::Shared,
        Some(Mode::Exclusive) => v1::LeaseMode::Exclusive,
    }
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        Self { mode: to_wire(Some(lease.mode)).into(), number: lease.number }
    }
}

/// Grants a lease if it can be had. Whoever has the file open for writing wants it exclusively.
pub(crate) fn grant(shared: &Shared, session: u64, fid: Fid, want: Mode) -> Option<Lease> {
    let now = shared.now();
    let mut leases = shared.leases.lock();
    if !leases.serves(session) {
        return None;
    }
    let opens = shared.opens.lock();
    let others =
        Others { write: opens.others_write(session, fid), hold: opens.others_hold(session, fid) };
    let want = if opens.writes(session, fid) { Mode::Exclusive } else { want };
    // Whoever opens it from here on has its handle in the table before it looks at leases.
    drop(opens);
    leases.grant(session, fid, want, others, now)
}

/// What an entry of a listing may show.
pub(crate) enum Listed {
    /// Nothing: another client has the truth, for it holds the inode or may be writing.
    Hidden,
    /// Attributes, and a lease if there is one.
    Shown(Option<Lease>),
}

/// Grants many, for reading; the answer has one place for each.
pub(crate) fn grant_listed(shared: &Shared, session: u64, fids: &[Fid]) -> Vec<Listed> {
    let now = shared.now();
    let mut leases = shared.leases.lock();
    let served = leases.serves(session);
    let opens = shared.opens.lock();
    let mut granted = Vec::with_capacity(fids.len());
    for fid in fids {
        let write = opens.others_write(session, *fid);
        let hidden = leases.others_exclusive(session, *fid) || (served && write);
        let others = Others { write, hold: opens.others_hold(session, *fid) };
        granted.push(if hidden {
            Listed::Hidden
        } else if served {
            Listed::Shown(leases.grant(session, *fid, Mode::Shared, others, now))
        } else {
            Listed::Shown(None)
        });
    }
    granted
}
