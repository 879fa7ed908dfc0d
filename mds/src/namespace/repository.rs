//! Data repositories: which folders are linked to which buckets.

use nacre_proto::v1;

use super::ctx::Ctx;
use super::{NsError, export, read, rows};
use crate::record::{Record, key as keys};
use crate::store::View;

/// Most repositories of a file system. Source: FSx.
pub const REPOSITORIES_MAX: usize = 8;
/// Objects that one command forgets.
const FORGET_MAX: usize = 256;

/// Links a folder to a prefix of a bucket. Returns its number.
pub(super) fn link(ctx: &mut Ctx<'_, '_>, wanted: &v1::Repository) -> Result<u32, NsError> {
    check(wanted)?;
    let linked = read::repositories(ctx.txn)?;
    if linked.len() >= REPOSITORIES_MAX {
        return Err(NsError::Repository("a file system has at most 8 data repositories"));
    }
    for other in &linked {
        let nested = |inner, outer| below(inner, outer).is_some();
        let paths = nested(&wanted.path, &other.path) || nested(&other.path, &wanted.path);
        let prefixes =
            wanted.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&wanted.prefix);
        if paths {
            return Err(NsError::Repository("a data repository is linked there already"));
        }
        if prefixes && wanted.bucket == other.bucket {
            return Err(NsError::Repository("that part of the bucket is linked already"));
        }
    }
    // Never one that was used before: objects are known by it.
    let id = ctx.superblock.last_repository.checked_add(1);
    let id = id.ok_or(NsError::UsedUp("repository number"))?;
    ctx.superblock.last_repository = id;
    let repository = v1::Repository { id, imported: false, ..wanted.clone() };
    ctx.txn.put(keys::repository(id), repository.encode());
    summarize(ctx)?;
    Ok(id)
}

/// Unlinks it. Files keep what they know of their copies.
pub(super) fn unlink(ctx: &mut Ctx<'_, '_>, id: u32) -> Result<(), NsError> {
    if ctx.get(&keys::repository(id))?.is_none() {
        return Err(NsError::Repository("no such data repository"));
    }
    ctx.txn.remove(keys::repository(id));
    summarize(ctx)
}

/// Keeps in the superblock what every command asks.
fn summarize(ctx: &mut Ctx<'_, '_>) -> Result<(), NsError> {
    let linked = read::repositories(ctx.txn)?;
    ctx.superblock.linked = !linked.is_empty();
    ctx.superblock.exporting = linked.iter().any(export::exports);
    ctx.txn.put(keys::superblock(), ctx.superblock.encode());
    Ok(())
}

/// One by its number.
pub(super) fn find(view: &dyn View, id: u32) -> Result<v1::Repository, NsError> {
    let row = rows::row(view, &keys::repository(id))?;
    row.ok_or(NsError::Repository("no such data repository"))
}

/// Changes its policies.
pub(super) fn update(
    ctx: &mut Ctx<'_, '_>,
    op: &v1::UpdateRepositoryRequest,
) -> Result<(), NsError> {
    let mut repository = find(ctx.txn, op.id)?;
    repository.import = op.import.or(repository.import);
    repository.export = op.export.or(repository.export);
    if op.batch_import {
        (repository.batch_import, repository.imported) = (true, false);
    }
    ctx.txn.put(keys::repository(op.id), repository.encode());
    summarize(ctx)
}

/// Everything that was there has been imported once.
pub(super) fn imported(ctx: &mut Ctx<'_, '_>, id: u32) -> Result<(), NsError> {
    let mut repository = find(ctx.txn, id)?;
    repository.imported = true;
    ctx.txn.put(keys::repository(id), repository.encode());
    Ok(())
}

/// Forgets objects of a repository that is linked no more. Returns how many; 0: that was all.
pub(super) fn forget_known(ctx: &mut Ctx<'_, '_>, id: u32) -> Result<u64, NsError> {
    let (from, to) = (keys::known(id, ""), keys::known_end(id));
    let found = rows::keys_between(ctx.txn, &from, &to, FORGET_MAX)?;
    let count = found.len() as u64;
    for key in found {
        ctx.txn.remove(key);
    }
    Ok(count)
}

/// What of `path` is below `folder`: nothing if they are the same, `None` if it is elsewhere. Both
/// begin at the root, with a slash or without.
pub(super) fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let (path, folder) = (path.trim_start_matches('/'), folder.trim_matches('/'));
    let rest = path.strip_prefix(folder)?;
    if folder.is_empty() || rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The repository that a path from the root is in, and the path below its folder.
pub(super) fn holding<'r, 'p>(
    linked: &'r [v1::Repository],
    path: &'p str,
) -> Option<(&'r v1::Repository, &'p str)> {
    linked.iter().find_map(|repository| {
        let rest = below(path, &repository.path)?;
        // What stands in the folder's own place has no key.
        (!rest.is_empty()).then_some((repository, rest))
    })
}

/// Whether a policy wants anything at all.
pub fn wants(policy: Option<v1::RepositoryPolicy>) -> bool {
    policy.is_some_and(|policy| policy.new || policy.changed || policy.deleted)
}

fn check(wanted: &v1::Repository) -> Result<(), NsError> {
    let v1::Repository { path, bucket, prefix, .. } = wanted;
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let path_ok =
        path == "/" || path.strip_prefix('/').is_some_and(|path| path.split('/').all(plain));
    if !path_ok || path.contains('\0') {
        return Err(NsError::Invalid("the folder of a data repository is an absolute path"));
    }
    if bucket.is_empty() || bucket.contains('/') {
        return Err(NsError::Invalid("not the name of a bucket"));
    }
    if !prefix.is_empty() && (!prefix.ends_with('/') || prefix.starts_with('/')) {
        return Err(NsError::Invalid("a prefix ends, and does not begin, with a slash"));
    }
    Ok(())
}
