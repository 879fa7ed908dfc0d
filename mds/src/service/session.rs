//! Sessions on the wire: opening, the stream of heartbeats and grants, closing.

use std::sync::Arc;

use nacre_model::Fid;
use nacre_proto::convert::BadMessage;
use nacre_proto::status::to_status;
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::change::SLOTS;
use super::{evict, lease, lock};
use crate::command::Op;
use crate::error::MdsError;
use crate::leases::LEASES_PER_SESSION_MAX;
use crate::namespace::read;
use crate::opens::HANDLES_PER_SESSION_MAX;
use crate::recalls;
use crate::session::SessionError;
use crate::shared::{DOWN_QUEUE_MAX, Down, Shared};

/// Why the session before ends.
const AGAIN: &str = "the client has opened a new session";

/// Opens a session, or opens it again and takes back what the client held.
pub(super) async fn open(
    shared: Arc<Shared>,
    request: v1::OpenSessionRequest,
) -> Result<v1::OpenSessionResponse, MdsError> {
    if request.fsname != shared.fsname {
        let here = shared.fsname.clone();
        return Err(MdsError::OtherFileSystem { wanted: request.fsname, here });
    }
    let leases = request.leases_held.len();
    let claims = request.handles.len().max(request.locks.len()).max(leases);
    if claims > HANDLES_PER_SESSION_MAX || leases > LEASES_PER_SESSION_MAX {
        return Err(BadMessage::Range { field: "handles", value: claims as u64 }.into());
    }
    let uuid = request.client_uuid.clone();
    let before = match read::session_of(shared.view(), &uuid)? {
        Some(id) => read::session(shared.view(), id)?.map(|session| (id, session.incarnation)),
        None => None,
    };
    let returns = before.is_some_and(|(_, incarnation)| incarnation == request.incarnation);
    if (claims > 0 || request.inherits) && !returns {
        return Err(SessionError::Evicted(uuid).into());
    }
    if let Some((old, incarnation)) = before
        && request.incarnation > incarnation
    {
        shared.sessions.lock().ends(old);
        evict::evict(&shared, old, AGAIN).await;
    }
    let op = Op::OpenSession {
        client_uuid: uuid,
        incarnation: request.incarnation,
        hostname: request.hostname,
        leases: request.leases,
    };
    let session = shared.submit(op).await?.session;
    if !returns {
        // Its number must not be given to another client after a loss of power.
        shared.engine.sync().await?;
    }
    if let Some((old, _)) = before.filter(|(old, _)| *old != session) {
        shared.sessions.lock().closed(old);
        evict::forget(&shared, old, AGAIN);
    }
    if request.leases {
        shared.leases.lock().open_session(session);
    }
    // Claimed before it counts as back: the last to come back ends the time for claims.
    claim(&shared, session, request.handles, request.locks)?;
    lease::claim(&shared, session, request.leases_held)?;
    shared.sessions.lock().opened(session, shared.now())?;
    tracing::info!(session, returns, "session open");
    // The last to come back ends the waiting of all.
    evict::tick(&shared);
    let estate = if request.inherits { inherit(&shared, session) } else { Estate::default() };
    Ok(v1::OpenSessionResponse {
        handles: estate.handles,
        locks: estate.locks,
        leases_held: estate.leases,
        session,
        mds_boot_id: shared.boot_id,
        lease_ms: u32::try_from(shared.lease.as_millis()).unwrap_or(u32::MAX),
        root: Some(Fid::ROOT.into()),
        slots: SLOTS,
        inline_max: shared.inline_max,
    })
}

/// What a session holds, for the process that goes on with it.
#[derive(Default)]
struct Estate {
    handles: Vec<u64>,
    locks: Vec<v1::HeldLock>,
    leases: Vec<v1::HeldLease>,
}

/// Whoever waited for a lock is gone with the process before, or will ask again.
fn inherit(shared: &Shared, session: u64) -> Estate {
    let locks = {
        let mut table = shared.locks.lock();
        table.stop_waiting(session);
        table.held(session).iter().map(lock::to_wire).collect()
    };
    let handles = shared.opens.lock().handles(session);
    let leases = shared.leases.lock().of_session(session);
    let leases = leases.into_iter().map(|(fid, held)| v1::HeldLease {
        fid: Some(fid.into()),
        mode: v1::Lease::from(held).mode,
        number: held.number,
    });
    Estate { handles, locks, leases: leases.collect() }
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

/// Gives a client fids for what it makes in batches.
pub(super) async fn grant_sequence(shared: Arc<Shared>, session: u64) -> Result<u64, MdsError> {
    shared.heard(session)?;
    Ok(shared.submit(Op::GrantSequence { session }).await?.sequence)
}

/// Says goodbye.
pub(super) async fn close(shared: Arc<Shared>, session: u64) -> Result<(), MdsError> {
    shared.heard(session)?;
    shared.sessions.lock().ends(session);
    evict::end(&shared, session, "the client has closed it").await;
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
                // What went down the stream before may not have arrived.
                recalls::recall_again(&own, message.session);
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
