//! Leases that clients give back, and claim.

use std::sync::Arc;

use nacre_proto::convert::BadMessage;
use nacre_proto::v1;

use super::check;
use crate::error::MdsError;
use crate::leases::Mode;
use crate::namespace::read;
use crate::opens::HANDLES_PER_SESSION_MAX;
use crate::recalls::LEASES_PER_CALL_MAX;
use crate::shared::Shared;

fn from_wire(field: &'static str, value: i32) -> Result<Option<Mode>, BadMessage> {
    match v1::LeaseMode::try_from(value) {
        Ok(v1::LeaseMode::Unspecified) => Ok(None),
        Ok(v1::LeaseMode::Shared) => Ok(Some(Mode::Shared)),
        Ok(v1::LeaseMode::Exclusive) => Ok(Some(Mode::Exclusive)),
        Err(_) => Err(BadMessage::UnknownEnum { field, value }),
    }
}

/// Takes leases back. Handles first: a file that somebody has open must be known as such before
/// anybody else may touch it.
pub(super) fn give_back(
    shared: &Arc<Shared>,
    request: v1::ReturnLeasesRequest,
) -> Result<(), MdsError> {
    let v1::ReturnLeasesRequest { session, leases, handles } = request;
    shared.heard(session)?;
    if leases.len() > LEASES_PER_CALL_MAX {
        return Err(BadMessage::Range { field: "leases", value: leases.len() as u64 }.into());
    }
    if handles.len() > HANDLES_PER_SESSION_MAX {
        return Err(BadMessage::Range { field: "handles", value: handles.len() as u64 }.into());
    }
    let mut returned = Vec::with_capacity(leases.len());
    for lease in leases {
        let keep = from_wire("keep", lease.keep)?;
        returned.push((check::fid("fid", lease.fid)?, keep, lease.number));
    }
    for handle in handles {
        let fid = check::fid("fid", handle.fid)?;
        shared.opens.lock().register(session, handle.handle, fid, handle.write)?;
    }
    // The session may have ended in the meantime, and its handles with it.
    if !shared.sessions.lock().is_live(session) {
        let orphans = shared.opens.lock().end_session(session);
        shared.reap(orphans);
    }
    let mut table = shared.leases.lock();
    for (fid, keep, number) in returned {
        table.give_back(session, fid, keep, number);
    }
    drop(table);
    shared.returned.notify_waiters();
    Ok(())
}

/// Takes back what a client held before the restart.
pub(super) fn claim(
    shared: &Shared,
    session: u64,
    held: Vec<v1::HeldLease>,
) -> Result<(), MdsError> {
    let mut claims = Vec::with_capacity(held.len());
    for lease in held {
        let fid = check::fid("fid", lease.fid)?;
        let mode = from_wire("mode", lease.mode)?;
        let unspecified = BadMessage::UnknownEnum { field: "mode", value: lease.mode };
        // Of an inode that is gone there is nothing to know.
        let mode = mode.ok_or(unspecified)?;
        if read::getattr(shared.view(), fid).is_ok() {
            claims.push((fid, mode));
        }
    }
    let mut table = shared.leases.lock();
    for (fid, mode) in claims {
        if !table.claim(session, fid, mode) {
            return Err(MdsError::LeaseLost(fid));
        }
    }
    Ok(())
}
