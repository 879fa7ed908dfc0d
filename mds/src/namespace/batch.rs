//! Many changes in one command: each as if it came by itself, one that fails takes no other with
//! it (docs/adr/0014).

use nacre_model::Fid;
use nacre_proto::convert::required;
use nacre_proto::status::to_wire;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;

use super::apply::change;
use super::ctx::{Caller, Ctx, fid};
use super::{NsError, rows};
use crate::command::Outcome;
use crate::record::{Session, key as keys};
use crate::store::Txn;

/// Characters of a failure's message that are kept: the reply row holds up to 512 of them.
const MESSAGE_CHARS_MAX: usize = 80;

/// Applies the changes in order. The error is one that nothing can be applied after.
pub(super) fn batch(
    txn: &mut Txn<'_>,
    session: u64,
    changes: &[v1::ChangeRequest],
    caller: Caller<'_>,
) -> Result<Outcome, NsError> {
    let row = rows::row::<Session>(txn, &keys::session(session))?;
    let granted = row.map(|row| row.sequences).unwrap_or_default();
    let mut outcome = Outcome::default();
    for (index, request) in (0_u32..).zip(changes) {
        let before = txn.savepoint();
        match one(txn, request, &granted, caller) {
            Ok(done) => {
                outcome.work.extend(done.work);
                outcome.unlinked.extend(done.unlinked);
                outcome.exports.extend(done.exports);
            }
            Err(error @ (NsError::Store(_) | NsError::Damaged(_))) => return Err(error),
            Err(error) => {
                txn.rollback_to(before);
                let mut error = to_wire(&error);
                error.message = error.message.chars().take(MESSAGE_CHARS_MAX).collect();
                outcome.response.failures.push(v1::BatchFailure { index, error: Some(error) });
            }
        }
    }
    Ok(outcome)
}

fn one(
    txn: &mut Txn<'_>,
    request: &v1::ChangeRequest,
    granted: &[u64],
    caller: Caller<'_>,
) -> Result<Outcome, NsError> {
    // Taken out by a server whose disk was nearly full.
    let op = request.op.as_ref().ok_or(NsError::NoRoom)?;
    let new_fid = request.new_fid.map(Fid::from);
    let caller = Caller { uid: request.uid, gid: request.gid, new_fid, in_batch: true, ..caller };
    let before = txn.savepoint();
    let mut ctx = Ctx::new(txn, required("time", request.time)?.try_into()?, caller)?;
    if let Wire::Create(_) = op {
        let fid = fid("new_fid", request.new_fid)?;
        let own =
            granted.contains(&fid.seq) && (1..Fid::OIDS_PER_SEQ).contains(&fid.oid) && fid.ver == 0;
        if !own {
            return Err(NsError::FidNotGranted(fid));
        }
    }
    change(&mut ctx, op)?;
    ctx.finish()?;
    let (work, unlinked) = (std::mem::take(&mut ctx.work), std::mem::take(&mut ctx.unlinked));
    let exports = std::mem::take(&mut ctx.exports);
    txn.check_changes_since(before)?;
    Ok(Outcome { work, unlinked, exports, ..Outcome::default() })
}
