//! Plain reads of the committed state.

use std::sync::Arc;

use nacre_proto::v1;

use super::check::fid;
use crate::cuts;
use crate::error::MdsError;
use crate::namespace::read;
use crate::shared::Shared;

/// Most bytes of one page of a listing.
const LISTING_BYTES_MAX: u32 = 1 << 20;
/// What an inode is reckoned to take of the disk, its names, log and index included, in bytes.
const INODE_DISK_BYTES: u64 = 4096;

pub(super) fn lookup(
    shared: &Shared,
    request: &v1::LookupRequest,
) -> Result<v1::LookupResponse, MdsError> {
    let attr = read::lookup(shared.view(), fid("parent", request.parent)?, &request.name)?;
    Ok(v1::LookupResponse { attr: Some(attr.into()) })
}

pub(super) fn getattr(
    shared: &Shared,
    request: &v1::GetattrRequest,
) -> Result<v1::GetattrResponse, MdsError> {
    let fid = fid("fid", request.fid)?;
    let attr = read::getattr(shared.view(), fid)?;
    let other_writers = shared.opens.lock().others_write(request.session, fid);
    Ok(v1::GetattrResponse { attr: Some(attr.into()), other_writers })
}

pub(super) fn readdir(
    shared: &Shared,
    request: &v1::ReaddirRequest,
) -> Result<v1::ReaddirResponse, MdsError> {
    let bytes_max = match request.bytes_max {
        0 => 64 << 10,
        asked => asked.min(LISTING_BYTES_MAX),
    };
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let directory = fid("fid", request.fid)?;
    let listing = read::readdir(shared.view(), directory, request.cookie, bytes_max, request.plus)?;
    let entry = |entry: read::ListedEntry| v1::DirEntry {
        name: entry.name,
        cookie: entry.cookie,
        fid: Some(entry.fid.into()),
        mode: entry.kind.mode_bits(),
        attr: entry.attr.map(Into::into),
    };
    Ok(v1::ReaddirResponse {
        entries: listing.entries.into_iter().map(entry).collect(),
        eof: listing.eof,
        parent: Some(listing.parent.into()),
    })
}

pub(super) fn readlink(
    shared: &Shared,
    request: &v1::ReadlinkRequest,
) -> Result<v1::ReadlinkResponse, MdsError> {
    let target = read::readlink(shared.view(), fid("fid", request.fid)?)?;
    Ok(v1::ReadlinkResponse { target })
}

pub(super) fn getxattr(
    shared: &Shared,
    request: &v1::GetxattrRequest,
) -> Result<v1::GetxattrResponse, MdsError> {
    let value = read::getxattr(shared.view(), fid("fid", request.fid)?, &request.name)?;
    Ok(v1::GetxattrResponse { value })
}

pub(super) fn listxattr(
    shared: &Shared,
    request: &v1::ListxattrRequest,
) -> Result<v1::ListxattrResponse, MdsError> {
    let names = read::listxattr(shared.view(), fid("fid", request.fid)?)?;
    Ok(v1::ListxattrResponse { names })
}

pub(super) async fn get_layout(
    shared: &Arc<Shared>,
    request: v1::GetLayoutRequest,
) -> Result<v1::GetLayoutResponse, MdsError> {
    let fid = fid("fid", request.fid)?;
    cuts::settle(shared, fid).await?;
    let file = read::layout(shared.view(), fid)?;
    Ok(v1::GetLayoutResponse {
        attr: Some(file.attr.into()),
        layout: file.layout.map(Into::into),
        is_inline: file.is_inline,
        inline_data: file.inline_data,
        directory_default: file.directory_default.map(Into::into),
    })
}

pub(super) fn fid2path(
    shared: &Shared,
    request: &v1::Fid2PathRequest,
) -> Result<v1::Fid2PathResponse, MdsError> {
    let paths = read::fid2path(shared.view(), fid("fid", request.fid)?)?;
    Ok(v1::Fid2PathResponse { paths: paths.into_iter().map(Into::into).collect() })
}

/// From what is known: a dead OST keeps nobody waiting.
pub(super) fn statfs(shared: &Shared) -> Result<v1::StatfsResponse, MdsError> {
    let statistics = read::statistics(shared.view())?;
    Ok(v1::StatfsResponse {
        inodes_used: statistics.inodes,
        inodes_free: shared.space.available() / INODE_DISK_BYTES,
        mdt_bytes_total: shared.space.total(),
        mdt_bytes_free: shared.space.available(),
        osts: shared.osts.statfs(),
    })
}
