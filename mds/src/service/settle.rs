//! What follows a change: handles, orphans and leases are brought in line with what became of it.

use std::sync::Arc;

use nacre_model::Fid;

use super::admit::Marks;
use crate::command::Outcome;
use crate::error::MdsError;
use crate::shared::Shared;

/// `create`: the handle of a create that also opens, and whether it may write.
pub(super) fn settle(
    shared: &Arc<Shared>,
    session: u64,
    create: Option<(u64, bool)>,
    marks: &Marks,
    outcome: Option<&Outcome>,
) -> Result<(), MdsError> {
    let mut reap = Vec::new();
    if !marks.leaving.is_empty() {
        let mut opens = shared.opens.lock();
        marks.leaving.iter().for_each(|fid| opens.left(*fid));
        drop(opens);
        shared.left.notify_waiters();
    }
    for fid in outcome.into_iter().flat_map(|outcome| &outcome.unlinked) {
        if marks.held.contains(fid) {
            reap.extend(shared.opens.lock().orphaned(*fid));
        } else {
            shared.leases.lock().gone(*fid);
        }
    }
    let attr = outcome.and_then(|outcome| outcome.response.attr.as_ref());
    let shown = attr.and_then(|attr| Some((Fid::from(attr.fid?), attr.nlink == 0)));
    not_made(shared, session, marks, shown.map(|(fid, _)| fid), outcome);
    let mut result = Ok(());
    if let Some((handle, write)) = create {
        let mut opens = shared.opens.lock();
        if marks.opened.is_some() && shown.map(|(fid, _)| fid) != marks.opened {
            reap.extend(opens.close(session, handle));
        }
        if let Some((fid, nameless)) = shown {
            result = opens.register(session, handle, fid, write).map(drop);
            if nameless {
                reap.extend(opens.orphaned(fid));
            }
        }
        drop(opens);
        // The session may have ended in the meantime, and its handles with it.
        if !shared.sessions.lock().is_live(session) {
            reap.extend(shared.opens.lock().end_session(session));
        }
    }
    shared.reap(reap);
    Ok(result?)
}

/// Takes leases back that were noted for inodes which were not made after all.
fn not_made(
    shared: &Shared,
    session: u64,
    marks: &Marks,
    shown: Option<Fid>,
    outcome: Option<&Outcome>,
) {
    // The next inode may get that fid.
    let single = marks.made.map(|(fid, _)| fid).filter(|fid| Some(*fid) != shown);
    let failed = |index: u32| {
        outcome.is_none_or(|outcome| outcome.response.failures.iter().any(|f| f.index == index))
    };
    let of_batch = marks.made_in_batch.iter().filter(|(index, _)| failed(*index));
    let fids: Vec<Fid> = single.into_iter().chain(of_batch.map(|(_, fid)| *fid)).collect();
    if !fids.is_empty() {
        let mut leases = shared.leases.lock();
        for fid in fids {
            leases.give_back(session, fid, None, u64::MAX);
        }
    }
}
