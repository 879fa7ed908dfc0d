//! Files and the archive: bringing bytes back before they are used, and what copytools need.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Errno, Fid, Layout};
use nacre_proto::v1;
use nacre_proto::v1::hsm_request_request::Op as Asked;

use crate::cache::Mode;
use crate::inode::Inode;
use crate::join::join_all;
use crate::plan;
use crate::types::Caller;
use crate::{Client, ClientError, Result};

/// How long one question waits for a restore, in milliseconds. Each is a sign of life, too.
const WAIT_MS: u32 = 2000;
/// Times a file is found released again after it was restored.
const TRIES: usize = 8;

impl Client {
    /// Waits until the file's bytes are here. Cheap when they are.
    ///
    /// # Errors
    /// EIO when the archive does not give them back, ENOSPC when there is no room for them.
    pub(crate) async fn make_resident(&self, inode: &Arc<Inode>) -> Result<()> {
        for _ in 0..TRIES {
            if !inode.state.lock().attr.released {
                return Ok(());
            }
            self.restore(inode.fid).await?;
            self.refresh_layout(inode).await?;
        }
        Err(ClientError::refused(Errno::EIO, "the file is released again and again"))
    }

    /// Asks for the bytes, and waits for them.
    pub(crate) async fn restore(&self, fid: Fid) -> Result<()> {
        let restore = Asked::Queue(v1::HsmQueueOp {
            action: v1::HsmAction::Restore.into(),
            archive_id: 0,
            wait_ms: WAIT_MS,
        });
        while self.hsm_request(Caller::default(), fid, restore).await? {}
        Ok(())
    }

    /// Asks for something about the archive. Returns whether it is under way still.
    ///
    /// # Errors
    /// EPERM where the file's flags or the caller's rights do not permit it, EBUSY while it is
    /// open or another action is under way.
    pub async fn hsm_request(&self, caller: Caller, fid: Fid, asked: Asked) -> Result<bool> {
        if let Some(inode) = self.inner.inodes.get(fid) {
            self.write_out_and_settle(&inode).await?;
        }
        let call = self.inner.mdc.call("hsm request", |mut mds, session| {
            let request = v1::HsmRequestRequest {
                session: session.id,
                fid: Some(fid.into()),
                uid: caller.uid,
                op: Some(asked),
            };
            async move { mds.hsm_request(request).await }
        });
        Ok(call.await?.pending)
    }

    /// What the archive has to do with a file.
    pub async fn hsm_state(&self, fid: Fid) -> Result<v1::HsmStateResponse> {
        let call = self.inner.mdc.call("hsm state", |mut mds, session| async move {
            mds.hsm_state(v1::HsmStateRequest { session: session.id, fid: Some(fid.into()) }).await
        });
        call.await
    }
}

/// What a copytool does.
impl Client {
    /// Waits for something to do: at most so many restores, and others; `working` is what it is at.
    /// A sweep may come with it.
    pub async fn hsm_take(
        &self,
        restores: u32,
        others: u32,
        working: Vec<u64>,
    ) -> Result<v1::HsmTakeResponse> {
        let call = self.inner.mdc.call("hsm take", |mut mds, session| {
            let (session, working) = (session.id, working.clone());
            let request = v1::HsmTakeRequest { session, restores, others, working };
            async move { mds.hsm_take(request).await }
        });
        call.await
    }

    /// Takes an action in hand.
    pub async fn hsm_begin(&self, cookie: u64) -> Result<v1::HsmBeginResponse> {
        let call = self.inner.mdc.call("hsm begin", |mut mds, session| async move {
            mds.hsm_begin(v1::HsmBeginRequest { session: session.id, cookie }).await
        });
        call.await
    }

    /// Tells the size of a file that nobody has open for writing, though somebody had, and died.
    pub async fn settle_size(&self, fid: Fid, size: u64) -> Result<()> {
        let settle = v1::SettleOp {
            fid: Some(fid.into()),
            size: Some(size),
            exact: true,
            ..v1::SettleOp::default()
        };
        let op = v1::change_request::Op::Settle(settle);
        self.change_inode(Caller::default(), fid, "settle", false, op).await.map(drop)
    }

    /// Says how far it is, and asks whether to go on. `fence`: the last question before an object
    /// becomes visible.
    ///
    /// # Errors
    /// ECANCELED when the action is not to be done any more, EBUSY when the file has changed.
    pub async fn hsm_progress(&self, cookie: u64, bytes_done: u64, fence: bool) -> Result<()> {
        let call = self.inner.mdc.call("hsm progress", |mut mds, session| async move {
            let session = session.id;
            mds.hsm_progress(v1::HsmProgressRequest { session, cookie, bytes_done, fence }).await
        });
        call.await.map(drop)
    }

    /// Says what became of it; the session is filled in.
    pub async fn hsm_end(&self, end: v1::HsmEndRequest) -> Result<()> {
        let call = self.inner.mdc.call("hsm end", |mut mds, session| {
            let request = v1::HsmEndRequest { session: session.id, ..end.clone() };
            async move { mds.hsm_end(request).await }
        });
        call.await.map(drop)
    }

    /// Tells what a page of a bucket's listing has, and learns what is wanted of it; the session is
    /// filled in.
    ///
    /// # Errors
    /// ECANCELED or ENOENT when the sweep is not to be done any more.
    pub async fn sweep_page(&self, page: v1::SweepPageRequest) -> Result<v1::SweepPageResponse> {
        let call = self.inner.mdc.call("sweep page", |mut mds, session| {
            let request = v1::SweepPageRequest { session: session.id, ..page.clone() };
            async move { mds.sweep_page(request).await }
        });
        call.await
    }

    /// Tells what was found out about objects, which files then become; the session is filled in.
    ///
    /// # Errors
    /// ECANCELED or ENOENT when the sweep is not to be done any more.
    pub async fn import(&self, found: v1::ImportRequest) -> Result<v1::ImportResponse> {
        let call = self.inner.mdc.call("import", |mut mds, session| {
            let request = v1::ImportRequest { session: session.id, ..found.clone() };
            async move { mds.import(request).await }
        });
        call.await
    }

    /// Says what became of a sweep; the session is filled in.
    pub async fn sweep_end(&self, end: v1::SweepEndRequest) -> Result<()> {
        let call = self.inner.mdc.call("sweep end", |mut mds, session| {
            let request = v1::SweepEndRequest { session: session.id, ..end.clone() };
            async move { mds.sweep_end(request).await }
        });
        call.await.map(drop)
    }

    /// Whether anything that is known of the file stays true: nobody writes to it unnoticed.
    pub fn holds_lease(&self, fid: Fid) -> bool {
        self.inner.cache.mode(fid) > Mode::None
    }

    /// Writes restored bytes into objects that no file has yet. On the disk when this returns.
    pub async fn write_restored(
        &self,
        fid: Fid,
        layout: &Layout,
        offset: u64,
        data: Bytes,
    ) -> Result<()> {
        let range = offset..offset.saturating_add(data.len() as u64);
        let plan = plan::plan(layout, fid, &range, self.inner.config.rpc_bytes);
        let len = data.len() as u64;
        let taken = crate::dirty::Taken { offset, segments: vec![data], len };
        let writes = plan.runs.iter().map(|run| {
            let data = plan::gather(run, &taken);
            // With the sync: a server that restarts before the end forgets nothing.
            async move { self.inner.osc.write(run.ost, run.object, run.offset, &data, true).await }
        });
        for written in join_all(writes).await {
            written?;
        }
        Ok(())
    }
}
