//! File locks, kept by the MDS for the whole cluster.

use nacre_model::Fid;
use nacre_proto::convert::BadMessage;
use nacre_proto::v1;

use crate::mdc::wire_lock;
use crate::types::{LockHold, LockKind, LockMode, LockOwner};
use crate::{Client, Result};

impl Client {
    /// Takes a lock. With `wait`, the future resolves when it is granted; dropping the future
    /// takes the request back. Without, EAGAIN on conflict. EDEADLK as POSIX has it.
    pub async fn lock(&self, fid: Fid, lock: LockHold, wait: bool) -> Result<()> {
        self.inner.mdc.lock(wire_lock(fid, lock), wait).await?;
        self.inner.mdc.held.lock().locked(fid, lock);
        Ok(())
    }

    /// Gives back a range of locks (`start..=end`).
    pub async fn unlock(
        &self,
        fid: Fid,
        kind: LockKind,
        owner: LockOwner,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let range = LockHold { kind, mode: LockMode::Read, owner, start, end };
        let wire = v1::HeldLock { mode: v1::LockMode::Unlock as i32, ..wire_lock(fid, range) };
        self.inner.mdc.lock(wire, false).await?;
        self.inner.mdc.held.lock().unlocked(fid, kind, owner, start, end);
        Ok(())
    }

    /// The first lock that stands in the way, if any (`F_GETLK`).
    pub async fn test_lock(&self, fid: Fid, lock: LockHold) -> Result<Option<LockHold>> {
        let wire = wire_lock(fid, lock);
        let call = self.inner.mdc.call("test lock", |mut mds, session| async move {
            let request = v1::TestLockRequest { session: session.id, lock: Some(wire) };
            mds.test_lock(request).await
        });
        let Some(conflict) = call.await?.conflict else { return Ok(None) };
        let (_, held) = from_wire(&v1::HeldLock { kind: wire.kind, ..conflict })?;
        Ok(Some(held))
    }
}

/// A lock that somebody holds.
pub(crate) fn from_wire(wire: &v1::HeldLock) -> Result<(Fid, LockHold)> {
    let kind = match wire.kind() {
        v1::LockKind::Posix => LockKind::Posix,
        v1::LockKind::Flock => LockKind::Flock,
        v1::LockKind::Unspecified => {
            return Err(BadMessage::UnknownEnum { field: "kind", value: wire.kind }.into());
        }
    };
    let mode = match wire.mode() {
        v1::LockMode::Read => LockMode::Read,
        v1::LockMode::Write => LockMode::Write,
        v1::LockMode::Unlock | v1::LockMode::Unspecified => {
            return Err(BadMessage::UnknownEnum { field: "mode", value: wire.mode }.into());
        }
    };
    let owner = LockOwner { owner: wire.owner, pid: wire.pid };
    let fid = nacre_proto::convert::required("fid", wire.fid)?.into();
    Ok((fid, LockHold { kind, mode, owner, start: wire.start, end: wire.end }))
}
