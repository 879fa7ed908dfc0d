//! Data repositories: which folders are linked to which buckets.

use nacre_proto::v1;

use super::NsError;
use super::ctx::Ctx;
use super::read;
use crate::record::{Record, key as keys};

/// Most repositories of a file system. Source: FSx.
pub const REPOSITORIES_MAX: usize = 8;

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
    let used = |id: &u32| linked.iter().any(|other| other.id == *id);
    let id = (1..=u32::MAX).find(|id| !used(id)).ok_or(NsError::UsedUp("repository number"))?;
    ctx.txn.put(keys::repository(id), v1::Repository { id, ..wanted.clone() }.encode());
    Ok(id)
}

/// Unlinks it. Files keep what they know of their copies.
pub(super) fn unlink(ctx: &mut Ctx<'_, '_>, id: u32) -> Result<(), NsError> {
    if ctx.get(&keys::repository(id))?.is_none() {
        return Err(NsError::Repository("no such data repository"));
    }
    ctx.txn.remove(keys::repository(id));
    Ok(())
}

/// What of `path` is below `folder`: nothing if they are the same, `None` if it is elsewhere. Both
/// begin at the root, with a slash or without.
pub(super) fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let (path, folder) = (path.trim_start_matches('/'), folder.trim_matches('/'));
    let rest = path.strip_prefix(folder)?;
    if folder.is_empty() || rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
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
