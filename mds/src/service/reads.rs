//! Plain reads of the committed state.

use std::sync::Arc;

use nacre_model::Fid;
use nacre_proto::v1;

use super::check::fid;
use crate::cuts;
use crate::error::MdsError;
use crate::leases::{Mode, Touch};
use crate::namespace::{NsError, read};
use crate::recalls::{Listed, grant, grant_listed, need};
use crate::shared::Shared;

/// Most bytes of one page of a listing.
const LISTING_BYTES_MAX: u32 = 1 << 20;
/// Entries whose leases are granted at a time: the table is not kept from others for longer.
const LISTING_CHUNK: usize = 256;
/// What an inode is reckoned to take of the disk, its names, log and index included, in bytes.
const INODE_DISK_BYTES: u64 = 4096;

/// Waits until the inode can be read.
async fn readable(shared: &Arc<Shared>, session: u64, fid: Fid) -> Result<(), MdsError> {
    need(shared, session, &[Touch::read(fid)]).await.map(drop)
}

/// Resolves once, waits for the inode, takes leases on both, and resolves again: the second look
/// is the answer if it leads to the same inode.
pub(super) async fn lookup(
    shared: Arc<Shared>,
    request: v1::LookupRequest,
) -> Result<v1::LookupResponse, MdsError> {
    let v1::LookupRequest { session, name, .. } = request;
    let parent = fid("parent", request.parent)?;
    readable(&shared, session, parent).await?;
    let parent_lease = grant(&shared, session, parent, Mode::Shared).map(Into::into);
    loop {
        let found = match read::lookup(shared.view(), parent, &name) {
            Err(NsError::NoEntry { .. }) if parent_lease.is_some() => {
                return Ok(v1::LookupResponse {
                    parent_lease,
                    absent: true,
                    ..v1::LookupResponse::default()
                });
            }
            found => found?.fid,
        };
        readable(&shared, session, found).await?;
        let lease = grant(&shared, session, found, Mode::Shared).map(Into::into);
        match read::lookup(shared.view(), parent, &name) {
            Ok(attr) if attr.fid == found => {
                let attr = Some(attr.into());
                return Ok(v1::LookupResponse { attr, lease, parent_lease, absent: false });
            }
            Ok(_) | Err(NsError::NoEntry { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) async fn getattr(
    shared: Arc<Shared>,
    request: v1::GetattrRequest,
) -> Result<v1::GetattrResponse, MdsError> {
    let (fid, session) = (fid("fid", request.fid)?, request.session);
    readable(&shared, session, fid).await?;
    let lease = grant(&shared, session, fid, Mode::Shared).map(Into::into);
    let attr = read::getattr(shared.view(), fid)?;
    let other_writers = shared.opens.lock().others_write(session, fid);
    Ok(v1::GetattrResponse { attr: Some(attr.into()), other_writers, lease })
}

pub(super) async fn readdir(
    shared: Arc<Shared>,
    request: v1::ReaddirRequest,
) -> Result<v1::ReaddirResponse, MdsError> {
    let bytes_max = match request.bytes_max {
        0 => 64 << 10,
        asked => asked.min(LISTING_BYTES_MAX),
    };
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let (directory, session) = (fid("fid", request.fid)?, request.session);
    readable(&shared, session, directory).await?;
    let lease = grant(&shared, session, directory, Mode::Shared).map(Into::into);
    let listing = read::readdir(shared.view(), directory, request.cookie, bytes_max, request.plus)?;
    let entry = |entry: read::ListedEntry| v1::DirEntry {
        name: entry.name,
        cookie: entry.cookie,
        fid: Some(entry.fid.into()),
        mode: entry.kind.mode_bits(),
        ..v1::DirEntry::default()
    };
    let fids: Vec<Fid> = listing.entries.iter().map(|entry| entry.fid).collect();
    let mut entries: Vec<v1::DirEntry> = listing.entries.into_iter().map(entry).collect();
    if request.plus {
        for (entries, fids) in entries.chunks_mut(LISTING_CHUNK).zip(fids.chunks(LISTING_CHUNK)) {
            attributes(&shared, session, entries, fids)?;
        }
    }
    Ok(v1::ReaddirResponse {
        entries,
        eof: listing.eof,
        parent: Some(listing.parent.into()),
        lease,
    })
}

/// Adds attributes and leases to entries. Nobody is waited for: where another client has the
/// truth, the entry goes without.
fn attributes(
    shared: &Shared,
    session: u64,
    entries: &mut [v1::DirEntry],
    fids: &[Fid],
) -> Result<(), MdsError> {
    let granted = grant_listed(shared, session, fids);
    for ((entry, fid), granted) in entries.iter_mut().zip(fids).zip(granted) {
        if let Listed::Shown(lease) = granted {
            entry.attr = read::listed_attr(shared.view(), *fid)?.map(Into::into);
            entry.lease = lease.filter(|_| entry.attr.is_some()).map(Into::into);
        }
    }
    Ok(())
}

pub(super) async fn readlink(
    shared: Arc<Shared>,
    request: v1::ReadlinkRequest,
) -> Result<v1::ReadlinkResponse, MdsError> {
    let fid = fid("fid", request.fid)?;
    readable(&shared, request.session, fid).await?;
    let target = read::readlink(shared.view(), fid)?;
    Ok(v1::ReadlinkResponse { target })
}

pub(super) async fn getxattr(
    shared: Arc<Shared>,
    request: v1::GetxattrRequest,
) -> Result<v1::GetxattrResponse, MdsError> {
    let fid = fid("fid", request.fid)?;
    readable(&shared, request.session, fid).await?;
    let value = read::getxattr(shared.view(), fid, &request.name)?;
    Ok(v1::GetxattrResponse { value })
}

pub(super) async fn listxattr(
    shared: Arc<Shared>,
    request: v1::ListxattrRequest,
) -> Result<v1::ListxattrResponse, MdsError> {
    let fid = fid("fid", request.fid)?;
    readable(&shared, request.session, fid).await?;
    let names = read::listxattr(shared.view(), fid)?;
    Ok(v1::ListxattrResponse { names })
}

pub(super) async fn get_layout(
    shared: Arc<Shared>,
    request: v1::GetLayoutRequest,
) -> Result<v1::GetLayoutResponse, MdsError> {
    let (fid, session) = (fid("fid", request.fid)?, request.session);
    readable(&shared, session, fid).await?;
    cuts::settle(&shared, fid).await?;
    let lease = grant(&shared, session, fid, Mode::Shared).map(Into::into);
    let file = read::layout(shared.view(), fid)?;
    Ok(v1::GetLayoutResponse {
        attr: Some(file.attr.into()),
        layout: file.layout.map(Into::into),
        is_inline: file.is_inline,
        inline_data: file.inline_data,
        directory_default: file.directory_default.map(Into::into),
        lease,
    })
}

pub(super) async fn fid2path(
    shared: Arc<Shared>,
    request: v1::Fid2PathRequest,
) -> Result<v1::Fid2PathResponse, MdsError> {
    let fid = fid("fid", request.fid)?;
    readable(&shared, 0, fid).await?;
    let paths = read::fid2path(shared.view(), fid)?;
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
