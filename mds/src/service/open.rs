//! Opening and closing files.

use std::sync::Arc;

use nacre_model::{Fid, FileKind};
use nacre_proto::v1;

use super::check;
use crate::command::Op;
use crate::cuts;
use crate::error::MdsError;
use crate::leases::{Mode, Need, Touch};
use crate::namespace::read::{self, FileView};
use crate::opens::OpenError;
use crate::recalls;
use crate::shared::Shared;

/// Opens a file under the client's handle.
pub(super) async fn open(
    shared: Arc<Shared>,
    request: v1::OpenRequest,
) -> Result<v1::OpenResponse, MdsError> {
    let v1::OpenRequest { session, handle, write, .. } = request;
    shared.heard(session)?;
    let fid = check::fid("fid", request.fid)?;
    let fresh = register(&shared, session, handle, fid, write).await?;
    // Registered first: from here on nobody else is granted what the handle stands against.
    let touch = Touch { fid, need: if write { Need::Change } else { Need::Open } };
    let opened = match recalls::need(&shared, session, &[touch]).await {
        Ok(guard) => {
            let want = if write { Mode::Exclusive } else { Mode::Shared };
            let lease = recalls::grant(&shared, session, fid, want);
            let opened = read_open(&shared, fid, write).await;
            drop(guard);
            opened.map(|file| (file, lease))
        }
        Err(error) => Err(error),
    };
    if !shared.sessions.lock().is_live(session) {
        let orphans = shared.opens.lock().end_session(session);
        shared.reap(orphans);
    } else if opened.is_err() && fresh {
        let orphan = shared.opens.lock().close(session, handle);
        shared.reap(orphan);
    }
    let (file, lease) = opened?;
    Ok(v1::OpenResponse {
        attr: Some(file.attr.into()),
        layout: file.layout.map(Into::into),
        is_inline: file.is_inline,
        inline_data: file.inline_data,
        other_writers: shared.opens.lock().others_write(session, fid),
        lease: lease.map(Into::into),
    })
}

/// Registers the handle; waits while the file is losing its last name.
async fn register(
    shared: &Shared,
    session: u64,
    handle: u64,
    fid: Fid,
    write: bool,
) -> Result<bool, MdsError> {
    loop {
        let left = shared.left.notified();
        tokio::pin!(left);
        // From here on nothing is missed.
        left.as_mut().enable();
        let opened = shared.opens.lock().open(session, handle, fid, write);
        match opened {
            Err(OpenError::Leaving(_)) => left.await,
            Err(error @ (OpenError::HandleInUse { .. } | OpenError::TooMany { .. })) => {
                return Err(error.into());
            }
            Ok(fresh) => return Ok(fresh),
        }
    }
}

/// What an open file is, after everything that must come before.
async fn read_open(shared: &Arc<Shared>, fid: Fid, write: bool) -> Result<FileView, MdsError> {
    cuts::settle(shared, fid).await?;
    let file = read::layout(shared.view(), fid)?;
    let objects = file.attr.kind == FileKind::Regular && !file.is_inline;
    if write && objects && !file.attr.size_lazy {
        shared.submit(Op::MarkLazy { fid }).await?;
        return Ok(read::layout(shared.view(), fid)?);
    }
    Ok(file)
}

/// Closes handles; unknown ones are closed already.
pub(super) fn close(shared: &Arc<Shared>, request: &v1::CloseRequest) -> Result<(), MdsError> {
    shared.heard(request.session)?;
    let mut orphans = Vec::new();
    {
        let mut opens = shared.opens.lock();
        for handle in &request.handles {
            orphans.extend(opens.close(request.session, *handle));
        }
    }
    shared.reap(orphans);
    Ok(())
}
