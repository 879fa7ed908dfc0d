//! Sessions on the wire: opening, the stream of heartbeats and grants, closing, eviction.

use std::sync::Arc;
use std::time::Duration;

use nacre_model::Fid;
use nacre_node::Scope;
use nacre_proto::convert::BadMessage;
use nacre_proto::status::to_status;
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::change::SLOTS;
use super::lock;
use crate::command::Op;
use crate::error::MdsError;
use crate::metrics;
use crate::namespace::read;
use crate::opens::HANDLES_PER_SESSION_MAX;
use crate::session::SessionError;
use crate::shared::{DOWN_QUEUE_MAX, Down, Shared};

/// How often the time is looked at; a session lives at most so much longer than its lease.
const TICK: Duration = Duration::from_millis(250);

/// Opens a session, or opens it again and takes back what the client held.
pub(super) async fn open(
    shared: Arc<Shared>,
    request: v1::OpenSessionRequest,
) -> Result<v1::OpenSessionResponse, MdsError> {
    if request.fsname != shared.fsname {
        let here = shared.fsname.clone();
        return Err(MdsError::OtherFileSystem { wanted: request.fsname, here });
    }
    let claims = request.handles.len().max(request.locks.len());
    if claims > HANDLES_PER_SESSION_MAX {
        return Err(BadMessage::Range { field: "handles", value: claims as u64 }.into());
    }
    let uuid = request.client_uuid.clone();
    let before = match read::session_of(shared.view(), &uuid)? {
        Some(id) => read::session(shared.view(), id)?.map(|session| (id, session.incarnation)),
        None => None,
    };
    let returns = before.is_some_and(|(_, incarnation)| incarnation == request.incarnation);
    if claims > 0 && !returns {
        return Err(SessionError::Evicted(uuid).into());
    }
    let op = Op::OpenSession {
        client_uuid: uuid,
        incarnation: request.incarnation,
        hostname: request.hostname,
    };
    let session = shared.submit(op).await?.session;
    if let Some((old, _)) = before.filter(|(old, _)| *old != session) {
        shared.sessions.lock().closed(old);
        forget(&shared, old, "the client has opened a new session");
    }
    shared.sessions.lock().opened(session, shared.now())?;
    claim(&shared, session, request.handles, request.locks)?;
    tracing::info!(session, returns, "session open");
    // The last to come back ends the waiting of all.
    tick(&shared);
    Ok(v1::OpenSessionResponse {
        session,
        mds_boot_id: shared.boot_id,
        lease_ms: u32::try_from(shared.lease.as_millis()).unwrap_or(u32::MAX),
        root: Some(Fid::ROOT.into()),
        slots: SLOTS,
        inline_max: shared.inline_max,
    })
}

/// Takes back handles and locks. What is gone stays gone: the client learns it when it uses it.
fn claim(
    shared: &Arc<Shared>,
    session: u64,
    handles: Vec<v1::OpenHandle>,
    locks: Vec<v1::HeldLock>,
) -> Result<(), MdsError> {
    for handle in handles {
        let fid = super::check::fid("fid", handle.fid)?;
        // Registered before the look, as in open.
        let opened = shared.opens.lock().register(session, handle.handle, fid, handle.write);
        if let Err(error) = opened {
            tracing::warn!(session, %fid, %error, "handle is not taken back");
        } else if read::getattr(shared.view(), fid).is_err() {
            let orphan = shared.opens.lock().close(session, handle.handle);
            shared.reap(orphan);
        }
    }
    for held in locks {
        let (wanted, unlock) = lock::from_wire(session, Some(held))?;
        if !unlock && !shared.locks.lock().reclaim(wanted) {
            tracing::warn!(session, fid = %wanted.fid, "lock was claimed by two clients");
        }
    }
    Ok(())
}

/// Says goodbye.
pub(super) async fn close(shared: Arc<Shared>, session: u64) -> Result<(), MdsError> {
    shared.heard(session)?;
    shared.sessions.lock().closed(session);
    end(&shared, session, "the client has closed it").await;
    tracing::info!(session, "session closed");
    Ok(())
}

/// Serves a session's stream: heartbeats come up, grants go down.
pub(super) fn stream(
    shared: &Arc<Shared>,
    mut up: Streaming<v1::SessionUp>,
) -> ReceiverStream<Down> {
    let (tx, rx) = mpsc::channel(DOWN_QUEUE_MAX);
    let own = Arc::clone(shared);
    shared.scope.spawn("session-stream", async move {
        let mut session = None;
        while let Ok(Some(message)) = up.message().await {
            if let Err(error) = own.heard(message.session) {
                // Whoever reads it is gone, or takes the hint.
                drop(tx.try_send(Err(to_status(&error))));
                break;
            }
            if session != Some(message.session) {
                session = Some(message.session);
                own.streams.lock().insert(message.session, tx.clone());
            }
            // Cut off because it was full, or because the client has made another: the client
            // must notice, for grants do not come here any more.
            if !is_current(&own, message.session, &tx) || own.scope.is_stopped() {
                break;
            }
            let beat = Event::Beat(v1::Beat { beat: message.beat });
            if tx.try_send(Ok(own.down(beat))).is_err() {
                break;
            }
        }
        if let Some(session) = session
            && is_current(&own, session, &tx)
        {
            own.streams.lock().remove(&session);
        }
    });
    ReceiverStream::new(rx)
}

fn is_current(shared: &Shared, session: u64, stream: &mpsc::Sender<Down>) -> bool {
    shared.streams.lock().get(&session).is_some_and(|current| current.same_channel(stream))
}

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
            });
            tokio::time::sleep(every).await;
        }
    });
}

fn tick(shared: &Arc<Shared>) {
    let ticked = shared.sessions.lock().tick(shared.now());
    metrics::evicted(ticked.evicted.len());
    for session in ticked.evicted {
        tracing::warn!(session, lease = ?shared.lease, "client is silent, evicting it");
        end_soon(shared, session, "no word from the client for longer than its lease");
    }
    for session in ticked.lost {
        tracing::info!(session, "client has not come back after the restart, its session ends");
        end_soon(shared, session, "the client has not come back in time");
    }
    if ticked.recovered {
        let orphans = shared.opens.lock().recovered();
        shared.reap(orphans);
        let grants = shared.locks.lock().recovered();
        shared.deliver(grants);
        tracing::info!("clients have claimed what they held");
    }
}

fn end_soon(shared: &Arc<Shared>, session: u64, reason: &'static str) {
    let own = Arc::clone(shared);
    shared.scope.spawn_to_end("end-session", async move { end(&own, session, reason).await });
}

/// Ends a session for good. Its things are dropped once before, for others wait for them, and
/// once after: a request that was under way may have left something.
async fn end(shared: &Arc<Shared>, session: u64, reason: &str) {
    forget(shared, session, reason);
    if let Err(error) = shared.submit(Op::CloseSession { session }).await {
        tracing::debug!(session, %error, "close session");
    }
    shared.sessions.lock().closed(session);
    forget(shared, session, reason);
}

fn forget(shared: &Arc<Shared>, session: u64, reason: &str) {
    let event = Event::Evicted(v1::Evicted { reason: reason.to_owned() });
    shared.send(session, event);
    shared.streams.lock().remove(&session);
    let orphans = shared.opens.lock().end_session(session);
    shared.reap(orphans);
    let grants = shared.locks.lock().end_session(session);
    shared.deliver(grants);
}
