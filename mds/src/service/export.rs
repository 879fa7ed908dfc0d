//! Exports, from the coordinator's side: what a copytool is told when it takes one in hand.

use std::sync::Arc;

use nacre_model::{Fid, FileKind};
use nacre_proto::v1;
use nacre_proto::v1::HsmAction;
use nacre_proto::v1::hsm_record_op::Op as Wire;

use super::hsm::{heard, submit, undisturbed};
use crate::error::MdsError;
use crate::namespace::{NsError, export, read};
use crate::shared::Shared;

/// Times an export waits for another file to leave an object, before its bytes are restored.
const WAY_ATTEMPTS: u32 = 2;

/// What is to be done to make buckets what the inode is.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    session: u64,
    cookie: u64,
    fid: Fid,
) -> Result<v1::HsmBeginResponse, MdsError> {
    let mut after = 0;
    let mut plan = export::plan(shared.view(), fid)?;
    while plan.descend {
        let op = v1::HsmDescendRecord { fid: Some(fid.into()), cookie: after };
        after = submit(shared, Wire::Descend(op)).await?.cookie;
        heard(shared, session, cookie, |_| {})?;
        plan = export::plan(shared.view(), fid)?;
    }
    if plan.unnamable > 0 {
        tracing::warn!(%fid, names = plan.unnamable, "no object can have such a name");
    }
    if let Some(owner) = plan.blocked.first() {
        return Err(make_way(shared, cookie, *owner).await);
    }
    let mut response = v1::HsmBeginResponse::default();
    if !plan.gone {
        let attr = read::getattr(shared.view(), fid)?;
        if attr.kind == FileKind::Regular {
            let version = read::hsm(shared.view(), fid)?.data_version;
            // Attributes can be told whoever holds it; bytes cannot.
            if plan.puts.iter().any(|put| put.source.is_none()) && !attr.released {
                undisturbed(shared, session, fid, version)?;
            }
            heard(shared, session, cookie, |started| started.data_version = Some(version))?;
            response.data_version = version;
        }
        response.attr = Some(attr.into());
    }
    let put = plan.puts.iter().map(|put| (put.bucket.clone(), put.key.clone()));
    let deleted = plan.deletes.iter().map(|object| (object.bucket.clone(), object.key.clone()));
    lock_keys(shared, cookie, put.chain(deleted).collect())?;
    if export::plan(shared.view(), fid)? != plan {
        // Somebody has come between the look and the lock.
        return Err(NsError::HsmBusy(fid).into());
    }
    response.export = Some(v1::HsmExport {
        gone: plan.gone,
        target: read::readlink(shared.view(), fid).unwrap_or_default(),
        state: plan.state,
        puts: plan.puts,
        deletes: plan.deletes,
    });
    Ok(response)
}

/// An object cannot be put, for the only bytes of another file are there. Its own export takes them
/// elsewhere; if that does not happen, for it waits for this one, they are brought home.
async fn make_way(shared: &Shared, cookie: u64, owner: Fid) -> MdsError {
    let attempts = match read::action(shared.view(), cookie) {
        Ok(row) => row.map_or(0, |row| row.attempts),
        Err(error) => return error.into(),
    };
    if attempts >= WAY_ATTEMPTS {
        let (fid, action) = (Some(owner.into()), HsmAction::Restore.into());
        let record = v1::HsmQueueRecord { fid, action, archive_id: 0 };
        match submit(shared, Wire::Queue(record)).await {
            Ok(outcome) if outcome.cookie != 0 => {
                let now = shared.now();
                shared.hsm.queued(outcome.cookie, HsmAction::Restore, owner, now);
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
    NsError::HsmBusy(owner).into()
}

/// Keeps other actions off these objects; EBUSY while one is at them.
pub(super) fn lock_keys(
    shared: &Shared,
    cookie: u64,
    keys: Vec<(String, String)>,
) -> Result<(), MdsError> {
    let fid = shared.hsm.started(cookie).map_or(Fid::ROOT, |started| started.fid);
    if shared.hsm.lock_keys(cookie, keys) { Ok(()) } else { Err(NsError::HsmBusy(fid).into()) }
}
