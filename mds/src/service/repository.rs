//! Data repositories: linking them, and what copytools find when they list buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nacre_model::{Fid, FileKind, Timestamp};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;
use nacre_proto::v1::ImportResult;
use nacre_proto::v1::hsm_record_op::Op as Wire;

use super::hsm::submit;
use crate::command::Op;
use crate::error::MdsError;
use crate::leases::Touch;
use crate::metrics;
use crate::namespace::repository::wants as wants_any;
use crate::namespace::{NsError, read};
use crate::recalls;
use crate::shared::Shared;
use crate::store::View;

/// Most objects of a page, and of what was found out about some.
const PAGE_MAX: usize = 1000;
const IMPORT_MAX: usize = 500;
/// Objects that we know of, for each that was listed, that are looked at.
const KNOWN_MAX: usize = 4 * PAGE_MAX;

pub(super) async fn link(
    shared: Arc<Shared>,
    request: v1::LinkRepositoryRequest,
) -> Result<v1::LinkRepositoryResponse, MdsError> {
    root_only(request.uid)?;
    let repository = required("repository", request.repository)?;
    let id = submit(&shared, Wire::Link(repository)).await?.cookie;
    shared.hsm.changed.notify_waiters();
    Ok(v1::LinkRepositoryResponse { id: u32::try_from(id).unwrap_or_default() })
}

pub(super) async fn update(
    shared: Arc<Shared>,
    request: v1::UpdateRepositoryRequest,
) -> Result<v1::UpdateRepositoryResponse, MdsError> {
    root_only(request.uid)?;
    let id = request.id;
    submit(&shared, Wire::Update(request)).await?;
    shared.sweeps.hurry(id);
    shared.hsm.changed.notify_waiters();
    Ok(v1::UpdateRepositoryResponse {})
}

pub(super) async fn unlink(
    shared: Arc<Shared>,
    request: v1::UnlinkRepositoryRequest,
) -> Result<v1::UnlinkRepositoryResponse, MdsError> {
    root_only(request.uid)?;
    let record = v1::HsmUnlinkRecord { id: request.id };
    submit(&shared, Wire::Unlink(record)).await?;
    // Its number is never given again: what a crash leaves of this is in nobody's way.
    while submit(&shared, Wire::ForgetKnown(record)).await?.cookie != 0 {}
    Ok(v1::UnlinkRepositoryResponse {})
}

fn root_only(uid: u32) -> Result<(), NsError> {
    let why = "only root may link and unlink data repositories";
    if uid == 0 { Ok(()) } else { Err(NsError::Hsm { fid: Fid::ROOT, why }) }
}

pub(super) fn list(shared: &Shared) -> Result<v1::ListRepositoriesResponse, MdsError> {
    let repositories = read::repositories(shared.view())?;
    let (waiting, oldest) = shared.hsm.lag(shared.now());
    let state = |repository: &v1::Repository| {
        let (counts, ended) = shared.sweeps.counts(repository.id, shared.now());
        v1::RepositoryState {
            exports_waiting: waiting,
            oldest_export_ms: millis(oldest),
            sweeps: counts.sweeps,
            last_sweep_ms: ended.map(millis).unwrap_or_default(),
            imported: counts.imported,
            removed: counts.removed,
            conflicts: counts.conflicts,
            refused: counts.refused,
        }
    };
    let states = repositories.iter().map(state).collect();
    Ok(v1::ListRepositoriesResponse { repositories, states })
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether everything in the bucket is wanted, whatever the policy says.
fn wants_all(repository: &v1::Repository) -> bool {
    repository.batch_import && !repository.imported
}

/// The sweep that a copytool shall make next.
pub(super) fn take_sweep(shared: &Shared, session: u64) -> Result<Option<v1::SweepWork>, NsError> {
    let linked = read::repositories(shared.view())?;
    let wants = |repository: &v1::Repository| wants_all(repository) || wants_any(repository.import);
    Ok(shared.sweeps.take(session, &linked, wants, shared.now()))
}

/// The repository that a copytool is at; ECANCELED if it should not be.
fn heard(shared: &Shared, session: u64, sweep: u64) -> Result<v1::Repository, MdsError> {
    shared.heard(session)?;
    let stopped = NsError::NoAction(sweep);
    let id = shared.sweeps.heard(session, sweep, shared.now()).ok_or(stopped)?;
    let linked = read::repositories(shared.view())?;
    let found = linked.into_iter().find(|repository| repository.id == id);
    Ok(found.ok_or(NsError::NoAction(sweep))?)
}

/// Nanoseconds since the epoch.
fn stamp(time: Timestamp) -> u64 {
    let secs = u64::try_from(time.secs).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(time.nanos.into())
}

fn time_of(stamp: u64) -> v1::Timestamp {
    let nanos = u32::try_from(stamp % 1_000_000_000).unwrap_or(0);
    v1::Timestamp { secs: i64::try_from(stamp / 1_000_000_000).unwrap_or(i64::MAX), nanos }
}

/// Compares a page of the listing with what is known.
pub(super) fn page(
    shared: &Shared,
    request: &v1::SweepPageRequest,
) -> Result<v1::SweepPageResponse, MdsError> {
    let repository = heard(shared, request.session, request.sweep)?;
    if request.listed.len() > PAGE_MAX {
        let value = request.listed.len() as u64;
        return Err(BadMessage::Range { field: "listed", value }.into());
    }
    // Whatever comes before was dealt with when the page after it is asked about.
    shared.sweeps.reached(repository.id, &request.after);
    let view = shared.view();
    let range = (request.after.as_str(), request.last.as_str());
    let known = read::known_objects(view, repository.id, range, KNOWN_MAX)?;
    let mut known: BTreeMap<String, v1::KnownRecord> = known.into_iter().collect();
    let policy = repository.import.unwrap_or_default();
    let all = wants_all(&repository);
    let mut response = v1::SweepPageResponse {
        time: stamp(shared.clock.now()),
        ..v1::SweepPageResponse::default()
    };
    for (index, listed) in (0_u32..).zip(&request.listed) {
        let wanted = match known.remove(&listed.key) {
            None => policy.new || all,
            Some(known) if all && !is_live(view, &known) => true,
            Some(known) => {
                let same = known.etag == listed.etag && known.size == listed.size;
                !same && (policy.changed || all)
            }
        };
        if wanted {
            response.wanted.push(index);
        }
    }
    if policy.deleted {
        response.missing = known.into_keys().take(PAGE_MAX).collect();
    }
    Ok(response)
}

fn is_live(view: &dyn View, known: &v1::KnownRecord) -> bool {
    let attr = known.fid.and_then(|fid| read::getattr(view, fid.into()).ok());
    attr.is_some_and(|attr| attr.nlink > 0)
}

/// Makes of objects what they should be here.
pub(super) async fn import(
    shared: Arc<Shared>,
    request: v1::ImportRequest,
) -> Result<v1::ImportResponse, MdsError> {
    let repository = heard(&shared, request.session, request.sweep)?;
    let objects = request.objects;
    if objects.len() > IMPORT_MAX {
        return Err(BadMessage::Range { field: "objects", value: objects.len() as u64 }.into());
    }
    let fids = may_change(shared.view(), &repository, &objects)?;
    let touches: Vec<Touch> = fids.iter().copied().map(Touch::change).collect();
    let guard = recalls::need(&shared, 0, &touches).await?;
    let (own, id, all) = (Arc::clone(&shared), repository.id, wants_all(&repository));
    let keys: Vec<(String, bool)> =
        objects.iter().map(|object| (object.key.clone(), object.gone)).collect();
    let done = shared.engine.submit_with(false, move |_| {
        // On the applier: who opens one comes wholly before or wholly after.
        let opens = own.opens.lock();
        let waited = fids.iter().filter(|fid| !opens.others_hold(0, **fid));
        let op = Wire::Import(v1::HsmImportRecord {
            repository: id,
            all,
            time: Some(time_of(request.time)),
            objects,
            waited: waited.map(|fid| (*fid).into()).collect(),
        });
        Ok(own.command(Op::Hsm { op }))
    });
    let outcome = done.await?;
    drop(guard);
    shared.note(&outcome);
    for fid in &outcome.unlinked {
        shared.leases.lock().gone(*fid);
    }
    count(&shared, id, &keys, &outcome.imports);
    if outcome.imports.contains(&ImportResult::Later) {
        shared.sweeps.missed(id);
    }
    Ok(v1::ImportResponse { results: outcome.imports.into_iter().map(Into::into).collect() })
}

fn count(shared: &Shared, id: u32, keys: &[(String, bool)], results: &[ImportResult]) {
    shared.sweeps.count(id, |counts| {
        for ((key, gone), result) in keys.iter().zip(results) {
            metrics::imported(word(*result, *gone));
            match result {
                ImportResult::Done if *gone => counts.removed += 1,
                ImportResult::Done => counts.imported += 1,
                ImportResult::Overwritten => {
                    tracing::warn!(key, repository = id, "changed on both sides: the object wins");
                    counts.imported += 1;
                    counts.conflicts += 1;
                }
                ImportResult::Conflict => {
                    tracing::warn!(key, repository = id, "changed on both sides: the file stays");
                    counts.conflicts += 1;
                }
                // Of the third whoever lists the bucket tells.
                ImportResult::Unchanged
                | ImportResult::Later
                | ImportResult::TypeMismatch
                | ImportResult::Unspecified => {}
            }
        }
    });
}

fn word(result: ImportResult, gone: bool) -> &'static str {
    match result {
        ImportResult::Done if gone => "removed",
        ImportResult::Done => "imported",
        ImportResult::Conflict => "conflict",
        ImportResult::TypeMismatch => "type_mismatch",
        ImportResult::Overwritten => "overwritten",
        ImportResult::Later => "later",
        ImportResult::Unchanged | ImportResult::Unspecified => "unchanged",
    }
}

/// Inodes that an import may change: folders that names are made in, and what has the names.
fn may_change(
    view: &dyn View,
    repository: &v1::Repository,
    objects: &[v1::ImportedObject],
) -> Result<BTreeSet<Fid>, MdsError> {
    let mut found = BTreeSet::new();
    let folder = read::resolve(view, &repository.path)?;
    let Some(folder) = folder.filter(|attr| attr.kind == FileKind::Directory) else {
        return Ok(found);
    };
    // Neighbours have most of their way in common.
    let mut known: BTreeMap<&str, Fid> = BTreeMap::new();
    for object in objects {
        let (mut at, mut end) = (folder.fid, 0);
        let mut parts = object.path.split('/').peekable();
        while let Some(part) = parts.next() {
            end += part.len() + usize::from(end > 0);
            let last = parts.peek().is_none();
            let way = object.path.get(..end).unwrap_or_default();
            let next = match known.get(way) {
                Some(fid) => Some(*fid),
                None => child(view, at, part)?,
            };
            if last || next.is_none() {
                found.insert(at);
            }
            let Some(next) = next else { break };
            if last {
                found.insert(next);
            } else {
                known.insert(way, next);
            }
            at = next;
        }
    }
    Ok(found)
}

/// What a name leads to; nothing if there is no such name, or nothing can be looked for there.
fn child(view: &dyn View, parent: Fid, name: &str) -> Result<Option<Fid>, MdsError> {
    match read::lookup_fid(view, parent, name.as_bytes()) {
        Ok(found) => Ok(found),
        Err(error @ (NsError::Store(_) | NsError::Damaged(_))) => Err(error.into()),
        // It is no name: said when it is imported.
        Err(_) => Ok(None),
    }
}

pub(super) async fn sweep_end(
    shared: Arc<Shared>,
    request: v1::SweepEndRequest,
) -> Result<v1::SweepEndResponse, MdsError> {
    let repository = heard(&shared, request.session, request.sweep)?;
    let whole = request.error.is_empty();
    if whole {
        shared.sweeps.count(repository.id, |counts| {
            counts.refused = request.refused;
        });
    } else {
        tracing::warn!(repository = repository.id, error = request.error, "a sweep broke off");
    }
    let interval = shared.sweep_interval;
    let complete = shared.sweeps.ended(repository.id, whole, interval, shared.now());
    if complete && wants_all(&repository) {
        submit(&shared, Wire::Imported(v1::HsmUnlinkRecord { id: repository.id })).await?;
        tracing::info!(repository = repository.id, "everything in the bucket is imported");
    }
    Ok(v1::SweepEndResponse {})
}
