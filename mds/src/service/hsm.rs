//! The HSM coordinator's calls: what people and applications ask for, and what copytools do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::{Errno, Fid};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;
use nacre_proto::v1::HsmAction;
use nacre_proto::v1::hsm_record_op::Op as Wire;
use nacre_proto::v1::hsm_request_request::Op as Asked;
use tokio::time::Instant;

use super::{admit, check, export, repository};
use crate::command::{Op, Outcome};
use crate::coordinator::{Failure, Room, Started};
use crate::cuts;
use crate::engine::EngineError;
use crate::error::{MdsError, Refusal};
use crate::leases::Touch;
use crate::namespace::{self, NsError, read};
use crate::recalls;
use crate::record::HsmFlags;
use crate::shared::Shared;

/// A copytool that nothing is to be done by is answered after this.
const TAKE_WAIT: Duration = Duration::from_secs(1);
/// Most actions in one answer, of a kind.
const TAKE_MAX: u32 = 64;
/// Longest wait for an action in one call; whoever waits asks again.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Most actions in one listing.
const LIST_MAX: usize = 1000;
/// Whoever waits for a time looks again after this at the earliest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// What who is not root may change of the flags of his own file. Source: Lustre.
const USER_FLAGS: HsmFlags = HsmFlags::NORELEASE.union(HsmFlags::NOARCHIVE).union(HsmFlags::DIRTY);

/// Fills the coordinator's memory from the durable queue.
pub(crate) fn recover(shared: &Shared) -> Result<(), NsError> {
    let mut after = 0;
    loop {
        let page = read::actions(shared.view(), after, LIST_MAX)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        for (cookie, action) in page {
            let fid = action.fid.map(Fid::from).unwrap_or_default();
            shared.hsm.queued(cookie, action.action(), fid, shared.now());
        }
    }
}

pub(super) async fn state(
    shared: Arc<Shared>,
    request: v1::HsmStateRequest,
) -> Result<v1::HsmStateResponse, MdsError> {
    let fid = check::fid("fid", request.fid)?;
    recalls::need(&shared, request.session, &[Touch::read(fid)]).await.map(drop)?;
    let file = read::hsm(shared.view(), fid)?;
    let action = match file.row.cookie {
        0 => None,
        cookie => read::action(shared.view(), cookie)?.map(|row| shown(&shared, cookie, row)),
    };
    Ok(v1::HsmStateResponse {
        flags: file.flags.bits(),
        archive_id: file.row.archive_id,
        data_version: file.data_version,
        copy: file.row.copy,
        action,
    })
}

fn shown(shared: &Shared, cookie: u64, row: v1::HsmActionRecord) -> v1::HsmActionState {
    let started = shared.hsm.started(cookie);
    v1::HsmActionState {
        cookie,
        fid: row.fid,
        action: row.action,
        started: started.is_some(),
        bytes_done: started.map_or(0, |started| started.bytes_done),
        attempts: row.attempts,
        error: row.error,
    }
}

pub(super) fn list(
    shared: &Shared,
    request: v1::HsmListRequest,
) -> Result<v1::HsmListResponse, MdsError> {
    let rows = read::actions(shared.view(), request.after, LIST_MAX)?;
    let actions = rows.into_iter().map(|(cookie, row)| shown(shared, cookie, row)).collect();
    let names = read::sessions(shared.view())?;
    let hostname = |session: u64| {
        let found = names.iter().find(|(id, _)| *id == session);
        found.map(|(_, session)| session.hostname.clone()).unwrap_or_default()
    };
    let agents = shared.hsm.by_session().into_iter();
    let agents = agents
        .map(|(session, started)| v1::HsmAgent { session, hostname: hostname(session), started })
        .collect();
    Ok(v1::HsmListResponse { actions, agents })
}

/// What somebody asks for.
pub(super) async fn request(
    shared: Arc<Shared>,
    request: v1::HsmRequestRequest,
) -> Result<v1::HsmRequestResponse, MdsError> {
    shared.heard(request.session)?;
    let fid = check::fid("fid", request.fid)?;
    let asked = required("op", request.op)?;
    let owner = read::getattr(shared.view(), fid)?.uid;
    permitted(fid, &asked, request.uid, owner)?;
    let mut pending = false;
    match asked {
        Asked::Queue(op) => pending = queue(&shared, fid, &op).await?,
        Asked::Release(_) => release(&shared, fid).await?,
        Asked::Flags(op) => {
            let _guard = recalls::need(&shared, 0, &[Touch::change(fid)]).await?;
            let v1::HsmFlagsOp { set, clear, archive_id } = op;
            let fid = Some(fid.into());
            let op = v1::HsmSetFlagsRecord { fid, set, clear, archive_id };
            submit(&shared, Wire::Flags(op)).await?;
        }
        Asked::Cancel(_) => cancel(&shared, fid).await?,
    }
    Ok(v1::HsmRequestResponse { pending })
}

/// Reading what is one's own to read is everybody's; the rest is the owner's, or root's.
fn permitted(fid: Fid, asked: &Asked, uid: u32, owner: u32) -> Result<(), NsError> {
    let why = match asked {
        Asked::Queue(op) if op.action() == HsmAction::Restore => return Ok(()),
        Asked::Queue(_) | Asked::Cancel(_) => "only root may ask for this",
        Asked::Release(_) if uid == owner => return Ok(()),
        Asked::Release(_) => "only its owner may release it",
        Asked::Flags(op) => {
            let changed = HsmFlags::from_bits_retain(op.set | op.clear);
            if uid == owner && USER_FLAGS.contains(changed) && op.archive_id == 0 {
                return Ok(());
            }
            "only root may change these flags"
        }
    };
    if uid == 0 { Ok(()) } else { Err(NsError::Hsm { fid, why }) }
}

pub(super) async fn submit(shared: &Shared, op: Wire) -> Result<Outcome, MdsError> {
    Ok(shared.submit(Op::Hsm { op }).await?)
}

/// Queues an action and waits for it, if asked to. Returns whether it is under way still.
async fn queue(shared: &Arc<Shared>, fid: Fid, op: &v1::HsmQueueOp) -> Result<bool, MdsError> {
    let mut archive_id = op.archive_id;
    if op.action() == HsmAction::Archive {
        let (repository, _) = location(shared, fid)?;
        if archive_id != 0 && archive_id != repository.id {
            return Err(NsError::Hsm { fid, why: "it is in the folder of another archive" }.into());
        }
        archive_id = repository.id;
    }
    let (wire, action) = (Some(fid.into()), op.action);
    let record = v1::HsmQueueRecord { fid: wire, action, archive_id };
    let cookie = submit(shared, Wire::Queue(record)).await?.cookie;
    if cookie == 0 {
        return Ok(false);
    }
    shared.hsm.queued(cookie, op.action(), fid, shared.now());
    let until = Instant::now() + Duration::from_millis(op.wait_ms.into()).min(WAIT_MAX);
    let ended = || Ok(read::action(shared.view(), cookie)?.is_none().then_some(()));
    if wait(shared, until, ended).await?.is_none() {
        return Ok(true);
    }
    match shared.hsm.failure(cookie) {
        None => Ok(false),
        Some(Failure { errno, message }) => Err(MdsError::Hsm { fid, errno, message }),
    }
}

/// Waits until `attempt` has something, trying whenever the coordinator's memory has changed;
/// `None` if it has nothing by then.
async fn wait<T>(
    shared: &Shared,
    until: Instant,
    mut attempt: impl FnMut() -> Result<Option<T>, MdsError>,
) -> Result<Option<T>, MdsError> {
    loop {
        let changed = shared.hsm.changed.notified();
        tokio::pin!(changed);
        // From here on nothing is missed.
        changed.as_mut().enable();
        if let Some(found) = attempt()? {
            return Ok(Some(found));
        }
        let now = shared.now();
        let due = shared.hsm.next_due(now).into_iter().chain(shared.sweeps.next_due());
        let soon = due.min().map(|due| Instant::now() + due.saturating_sub(now).max(PAUSE_MIN));
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(until) => return Ok(None),
            () = tokio::time::sleep_until(soon.unwrap_or(until)), if soon.is_some() => {}
            () = shared.scope.stopped() => return Err(EngineError::Stopped.into()),
        }
    }
}

/// Gives up the bytes here, if nobody uses them.
async fn release(shared: &Arc<Shared>, fid: Fid) -> Result<(), MdsError> {
    let _guard = recalls::need(shared, 0, &[Touch::change(fid)]).await?;
    cuts::settle(shared, fid).await?;
    let own = Arc::clone(shared);
    let done = shared.engine.submit_with(false, move |_| {
        // On the applier: who opens it comes wholly before or wholly after.
        if own.opens.lock().is_held(fid) {
            return Err(Refusal::InUse(fid));
        }
        let op = Wire::Release(v1::HsmFileRecord { fid: Some(fid.into()) });
        Ok(own.command(Op::Hsm { op }))
    });
    shared.note(&done.await?);
    Ok(())
}

async fn cancel(shared: &Shared, fid: Fid) -> Result<(), MdsError> {
    let cookie = read::hsm(shared.view(), fid)?.row.cookie;
    submit(shared, Wire::Cancel(v1::HsmFileRecord { fid: Some(fid.into()) })).await?;
    if cookie != 0 {
        let message = "the action was canceled".to_owned();
        shared.hsm.ended(cookie, Some(Failure { errno: Errno::ECANCELED, message }));
    }
    Ok(())
}

/// The repository of a file, and the key of its object there.
fn location(shared: &Shared, fid: Fid) -> Result<(v1::Repository, String), NsError> {
    for path in read::fid2path(shared.view(), fid)? {
        let Ok(path) = String::from_utf8(path) else { continue };
        if let Some((repository, below)) = read::repository_of(shared.view(), &path)? {
            let key = format!("{}{below}", repository.prefix);
            return Ok((repository, key));
        }
    }
    Err(NsError::Hsm { fid, why: "it is outside of every linked data repository" })
}

// ---- copytools

pub(super) async fn take(
    shared: Arc<Shared>,
    request: v1::HsmTakeRequest,
) -> Result<v1::HsmTakeResponse, MdsError> {
    let v1::HsmTakeRequest { session, restores, others, working } = request;
    shared.heard(session)?;
    for (field, value) in [("restores", restores), ("others", others)] {
        if value > TAKE_MAX {
            return Err(BadMessage::Range { field, value: value.into() }.into());
        }
    }
    let working: BTreeSet<u64> = working.into_iter().collect();
    let room = Room { restores: restores as usize, others: others as usize };
    let taken = wait(&shared, Instant::now() + TAKE_WAIT, || {
        let may_export = |fid| !shared.opens.lock().others_write(session, fid);
        let taken = shared.hsm.take(session, &working, room, shared.now(), may_export);
        let sweep = repository::take_sweep(&shared, session)?;
        Ok((!taken.is_empty() || sweep.is_some()).then_some((taken, sweep)))
    });
    let (taken, sweep) = taken.await?.unwrap_or_default();
    let work = taken.into_iter().map(|(cookie, action, fid)| v1::HsmWork {
        cookie,
        action: action.into(),
        fid: Some(fid.into()),
    });
    Ok(v1::HsmTakeResponse { work: work.collect(), sweep })
}

/// Tells a copytool everything about an action, and for a restore reserves the objects.
pub(super) async fn begin(
    shared: Arc<Shared>,
    request: v1::HsmBeginRequest,
) -> Result<v1::HsmBeginResponse, MdsError> {
    let v1::HsmBeginRequest { session, cookie } = request;
    shared.heard(session)?;
    let started = heard(&shared, session, cookie, |_| {})?;
    let fid = started.fid;
    if started.action == HsmAction::Export {
        return export::begin(&shared, session, cookie, fid).await;
    }
    let file = read::hsm(shared.view(), fid)?;
    let mut response = v1::HsmBeginResponse {
        attr: Some(file.attr.clone().into()),
        data_version: file.data_version,
        copy: file.row.copy.clone(),
        ..v1::HsmBeginResponse::default()
    };
    match started.action {
        HsmAction::Archive => {
            undisturbed(&shared, session, fid, file.data_version)?;
            heard(&shared, session, cookie, |s| s.data_version = Some(file.data_version))?;
            let (repository, key) = location(&shared, fid)?;
            if let Some(owner) =
                namespace::export::needed_by(shared.view(), fid, &repository, &key)?
            {
                return Err(NsError::HsmBusy(owner).into());
            }
            export::lock_keys(&shared, cookie, vec![(repository.bucket.clone(), key.clone())])?;
            (response.bucket, response.key) = (repository.bucket, key);
            response.prefix = repository.prefix;
        }
        HsmAction::Restore | HsmAction::Remove => {
            let copy = file.row.copy.ok_or(NsError::Hsm { fid, why: "it has no copy" })?;
            (response.bucket, response.key) = (copy.bucket, copy.key);
        }
        HsmAction::Export | HsmAction::Unspecified => {}
    }
    if started.action == HsmAction::Restore {
        let reserved = reserve(&shared, cookie, fid, file.attr.size).await?;
        (response.attr, response.layout) = (reserved.attr, reserved.layout);
    }
    Ok(response)
}

async fn reserve(
    shared: &Arc<Shared>,
    cookie: u64,
    fid: Fid,
    size: u64,
) -> Result<v1::ChangeResponse, MdsError> {
    let own = Arc::clone(shared);
    let done = shared.engine.submit_with(false, move |view| {
        let mut placement = Vec::new();
        if size > u64::from(own.inline_max) {
            for (component, osts) in admit::place_range(&own, view, fid, (0, size), &[])? {
                let osts = osts.into_iter().map(|ost| ost.0.into()).collect();
                placement.push(v1::PlacementRecord { component: component.into(), osts });
            }
        }
        let op = Wire::BeginRestore(v1::HsmBeginRestoreRecord { cookie, placement });
        Ok(own.command(Op::Hsm { op }))
    });
    let outcome = done.await?;
    shared.note(&outcome);
    Ok(outcome.response)
}

/// What a copytool is at; ECANCELED if it should not be.
pub(super) fn heard(
    shared: &Shared,
    session: u64,
    cookie: u64,
    change: impl FnOnce(&mut Started),
) -> Result<Started, MdsError> {
    let started = shared.hsm.heard(session, cookie, shared.now(), change);
    Ok(started.ok_or(NsError::NoAction(cookie))?)
}

/// Whether the file is what it was: nobody else can have written to it while the copytool has
/// had its lease and the version is the same.
pub(super) fn undisturbed(
    shared: &Shared,
    session: u64,
    fid: Fid,
    data_version: u64,
) -> Result<(), MdsError> {
    let held = shared.leases.lock().held(session, fid).is_some();
    let written = shared.opens.lock().others_write(session, fid);
    let now = read::hsm(shared.view(), fid)?.data_version;
    if held && !written && now == data_version { Ok(()) } else { Err(NsError::HsmBusy(fid).into()) }
}

pub(super) fn progress(
    shared: &Shared,
    request: &v1::HsmProgressRequest,
) -> Result<v1::HsmProgressResponse, MdsError> {
    let v1::HsmProgressRequest { session, cookie, bytes_done, fence } = *request;
    shared.heard(session)?;
    let started = heard(shared, session, cookie, |started| started.bytes_done = bytes_done)?;
    if fence {
        let version = started.data_version.ok_or(NsError::NoAction(cookie))?;
        undisturbed(shared, session, started.fid, version)?;
    }
    Ok(v1::HsmProgressResponse {})
}

pub(super) async fn end(
    shared: Arc<Shared>,
    mut request: v1::HsmEndRequest,
) -> Result<v1::HsmEndResponse, MdsError> {
    let v1::HsmEndRequest { session, cookie, .. } = request;
    shared.heard(session)?;
    let started = heard(&shared, session, cookie, |_| {})?;
    if let (Some(copy), Some(version)) = (&mut request.copy, started.data_version) {
        copy.data_version = version;
    }
    if let Some(version) = started.data_version {
        request.put.iter_mut().for_each(|object| object.data_version = version);
    }
    let failure = request.failure.clone();
    let again = submit(&shared, Wire::End(request)).await?.cookie != 0;
    if again && failure.is_none() {
        // An export of which a part is done.
        shared.hsm.at_once(cookie, shared.now());
        return Ok(v1::HsmEndResponse {});
    }
    if let Some(failure) = failure {
        let v1::HsmFailure { code, message, errno, .. } = failure;
        if again && errno == Errno::EBUSY.0 {
            tracing::debug!(cookie, fid = %started.fid, action = ?started.action, "in use");
        } else {
            tracing::warn!(cookie, fid = %started.fid, action = ?started.action, code, message,
                again, "hsm action failed");
        }
        if again {
            let attempts = read::action(shared.view(), cookie)?.map_or(0, |row| row.attempts);
            shared.hsm.again(cookie, attempts, shared.now());
            return Ok(v1::HsmEndResponse {});
        }
        let errno = if errno > 0 { Errno(errno) } else { Errno::EIO };
        let message = format!("{code}: {message}");
        shared.hsm.ended(cookie, Some(Failure { errno, message }));
        return Ok(v1::HsmEndResponse {});
    }
    shared.hsm.ended(cookie, None);
    if started.action == HsmAction::Restore {
        tell_restored(&shared, started.fid);
    }
    Ok(v1::HsmEndResponse {})
}

/// Clients that know the file as released hear that it is not, but nobody waits for it: who reads
/// it asks in any case.
fn tell_restored(shared: &Arc<Shared>, fid: Fid) {
    let own = Arc::clone(shared);
    shared.scope.spawn_to_end("restored", async move {
        if let Err(error) = recalls::need(&own, 0, &[Touch::change(fid)]).await.map(drop) {
            tracing::debug!(%fid, %error, "recall of a restored file");
        }
    });
}
