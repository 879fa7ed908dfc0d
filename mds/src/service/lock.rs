//! Locks on the wire.

use std::sync::Arc;

use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use crate::error::MdsError;
use crate::locks::{Answer, Lock, LockKind, LockMode, Owner};
use crate::shared::Shared;

/// A lock of the wire; `true` when it says unlock.
pub(super) fn from_wire(
    session: u64,
    wire: Option<v1::HeldLock>,
) -> Result<(Lock, bool), BadMessage> {
    let wire = required("lock", wire)?;
    let kind = match wire.kind() {
        v1::LockKind::Posix => LockKind::Posix,
        v1::LockKind::Flock => LockKind::Flock,
        v1::LockKind::Unspecified => {
            return Err(BadMessage::UnknownEnum { field: "kind", value: wire.kind });
        }
    };
    let (mode, unlock) = match wire.mode() {
        v1::LockMode::Read => (LockMode::Read, false),
        v1::LockMode::Write => (LockMode::Write, false),
        v1::LockMode::Unlock => (LockMode::Read, true),
        v1::LockMode::Unspecified => {
            return Err(BadMessage::UnknownEnum { field: "mode", value: wire.mode });
        }
    };
    let (start, end) = match kind {
        LockKind::Posix => (wire.start, wire.end),
        LockKind::Flock => (0, u64::MAX),
    };
    if end < start {
        return Err(BadMessage::Range { field: "end", value: end });
    }
    let fid = super::check::fid("fid", wire.fid)?;
    let owner = Owner { session, owner: wire.owner };
    Ok((Lock { fid, kind, owner, mode, start, end, pid: wire.pid }, unlock))
}

pub(super) fn to_wire(lock: &Lock) -> v1::HeldLock {
    let kind = match lock.kind {
        LockKind::Posix => v1::LockKind::Posix,
        LockKind::Flock => v1::LockKind::Flock,
    };
    let mode = match lock.mode {
        LockMode::Read => v1::LockMode::Read,
        LockMode::Write => v1::LockMode::Write,
    };
    v1::HeldLock {
        fid: Some(lock.fid.into()),
        kind: kind as i32,
        mode: mode as i32,
        owner: lock.owner.owner,
        start: lock.start,
        end: lock.end,
        pid: lock.pid,
    }
}

/// Locks or unlocks.
pub(super) fn lock(
    shared: &Arc<Shared>,
    request: v1::LockRequest,
) -> Result<v1::LockResponse, MdsError> {
    let session = request.session;
    shared.heard(session)?;
    let (lock, unlock) = from_wire(session, request.lock)?;
    if unlock {
        let grants = shared.locks.lock().unlock(lock);
        shared.deliver(grants);
        return Ok(v1::LockResponse { granted: true });
    }
    let wait = request.wait.then_some(request.cookie);
    let asked = shared.locks.lock().lock(lock, wait);
    // The session may have ended since it was looked at.
    if !shared.sessions.lock().is_live(session) {
        let grants = shared.locks.lock().end_session(session);
        shared.deliver(grants);
    }
    let (answer, grants) = asked?;
    shared.deliver(grants);
    Ok(v1::LockResponse { granted: answer == Answer::Granted })
}

/// Stops waiting.
pub(super) fn cancel(
    shared: &Arc<Shared>,
    request: v1::CancelLockRequest,
) -> Result<v1::CancelLockResponse, MdsError> {
    shared.heard(request.session)?;
    let was_granted = shared.locks.lock().cancel(request.session, request.cookie);
    Ok(v1::CancelLockResponse { was_granted })
}

/// Who is in the way.
pub(super) fn test(
    shared: &Arc<Shared>,
    request: v1::TestLockRequest,
) -> Result<v1::TestLockResponse, MdsError> {
    shared.heard(request.session)?;
    let (lock, _) = from_wire(request.session, request.lock)?;
    let found = shared.locks.lock().test(&lock)?;
    Ok(v1::TestLockResponse { conflict: found.as_ref().map(to_wire) })
}
