//! How sessions end: watched, evicted, forgotten.

use std::sync::Arc;
use std::time::Duration;

use nacre_node::Scope;
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;

use crate::command::Op;
use crate::fences;
use crate::metrics;
use crate::shared::Shared;

/// How often the time is looked at; a session lives at most so much longer than its lease.
const TICK: Duration = Duration::from_millis(250);

/// Looks at the time as long as the scope lives.
pub(crate) fn start(shared: &Arc<Shared>, scope: &Scope) {
    let shared = Arc::clone(shared);
    let every = TICK.min(shared.lease / 4).max(Duration::from_millis(1));
    scope.spawn("session-tick", async move {
        loop {
            tick(&shared);
            let (locks, lock_waiters) = shared.locks.lock().counts();
            metrics::held(&metrics::Held {
                sessions: shared.sessions.lock().live_count(),
                handles: shared.opens.lock().open_count(),
                locks,
                lock_waiters,
                leases: shared.leases.lock().held_count(),
            });
            metrics::exports(shared.hsm.lag(shared.now()));
            tokio::time::sleep(every).await;
        }
    });
}

pub(super) fn tick(shared: &Arc<Shared>) {
    let now = shared.now();
    let ticked = shared.sessions.lock().tick(now);
    metrics::evicted(ticked.evicted.len());
    for session in ticked.evicted {
        tracing::warn!(session, lease = ?shared.lease, "client is silent, evicting it");
        evict_soon(shared, session, "no word from the client for longer than its lease");
    }
    evict_overdue(shared, now);
    shared.hsm.tick(now);
    if ticked.recovered {
        end_recovery(shared, ticked.lost);
    }
}

/// Evicts who was asked for a lease and has not given it back.
fn evict_overdue(shared: &Arc<Shared>, now: Duration) {
    let overdue = {
        let mut leases = shared.leases.lock();
        leases.prune(now);
        leases.overdue(now, shared.lease)
    };
    for session in overdue {
        if !shared.sessions.lock().ends(session) {
            // It is being ended.
            continue;
        }
        metrics::evicted(1);
        tracing::warn!(session, lease = ?shared.lease, "client keeps a recalled lease, evicting it");
        evict_soon(shared, session, "a recalled lease was not given back in time");
    }
}

/// The time for claims is over. Sessions that are lost may still have written something: what they
/// held goes to others when that can come no more.
fn end_recovery(shared: &Arc<Shared>, lost: Vec<u64>) {
    if lost.is_empty() {
        recovered(shared);
        return;
    }
    let own = Arc::clone(shared);
    shared.scope.spawn_to_end("end-recovery", async move {
        for session in &lost {
            let session = *session;
            tracing::info!(session, "client has not come back after the restart, its session ends");
            close_for_good(&own, session).await;
        }
        fences::fence(&own, &lost).await;
        for session in lost {
            end(&own, session, "the client has not come back in time").await;
        }
        recovered(&own);
    });
}

fn recovered(shared: &Arc<Shared>) {
    let orphans = shared.opens.lock().recovered();
    shared.reap(orphans);
    let grants = shared.locks.lock().recovered();
    shared.deliver(grants);
    shared.leases.lock().recovered();
    shared.returned.notify_waiters();
    tracing::info!("clients have claimed what they held");
}

fn evict_soon(shared: &Arc<Shared>, session: u64, reason: &'static str) {
    let own = Arc::clone(shared);
    shared.scope.spawn_to_end("evict", async move { evict(&own, session, reason).await });
}

/// Ends a session whose client did not ask for it: what it had under way may still arrive
/// somewhere, and must not once others are given what it held.
pub(super) async fn evict(shared: &Arc<Shared>, session: u64, reason: &str) {
    close_for_good(shared, session).await;
    fences::fence(shared, &[session]).await;
    end(shared, session, reason).await;
}

/// On the disk before any object server hears of it: a session that came to life again with a
/// restart would be refused there for ever.
async fn close_for_good(shared: &Arc<Shared>, session: u64) {
    let close = shared.command(Op::CloseSession { session });
    if let Err(error) = shared.engine.submit(close, true).await {
        tracing::debug!(session, %error, "close session");
    }
}

/// Ends a session for good. Its things are dropped once before, for others wait for them, and
/// once after: a request that was under way may have left something.
pub(super) async fn end(shared: &Arc<Shared>, session: u64, reason: &str) {
    forget(shared, session, reason);
    if let Err(error) = shared.submit(Op::CloseSession { session }).await {
        tracing::debug!(session, %error, "close session");
    }
    shared.sessions.lock().closed(session);
    forget(shared, session, reason);
}

/// Drops what a session has.
pub(super) fn forget(shared: &Arc<Shared>, session: u64, reason: &str) {
    let event = Event::Evicted(v1::Evicted { reason: reason.to_owned() });
    shared.send(session, event);
    shared.streams.lock().remove(&session);
    let orphans = shared.opens.lock().end_session(session);
    shared.reap(orphans);
    let grants = shared.locks.lock().end_session(session);
    shared.deliver(grants);
    shared.leases.lock().end_session(session);
    shared.hsm.end_session(session, shared.now());
    shared.sweeps.end_session(session);
    shared.returned.notify_waiters();
}
