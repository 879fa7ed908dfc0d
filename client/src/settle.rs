//! Telling the MDS what writing has changed.

use std::sync::Arc;

use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::flush::Exact;
use crate::inode::Inode;
use crate::types::Caller;
use crate::{Client, Result};

impl Client {
    /// Tells the MDS what writing has changed of the attributes. False if there was nothing to tell.
    pub(crate) async fn settle(&self, inode: &Inode, exact: Exact, sync: bool) -> Result<bool> {
        // What another one has taken along is not told yet.
        inode.wait_settled().await;
        let alone = self.has_alone(inode.fid);
        self.settle_as(inode, exact, sync, alone).await
    }

    /// Whether nobody else can change the file. (Who asks for no leases has close-to-open.)
    pub(crate) fn has_alone(&self, fid: nacre_model::Fid) -> bool {
        !self.inner.config.leases || self.inner.cache.may_hold_data(fid)
    }

    /// The same, by who may have the file with others or has it `alone`. With others the size is
    /// what the objects say: one that is told may have been cut by somebody in the meantime.
    pub(crate) async fn settle_as(
        &self,
        inode: &Inode,
        exact: Exact,
        sync: bool,
        alone: bool,
    ) -> Result<bool> {
        let exact = if alone { exact } else { Exact::No };
        let (settling, atime, mut size, has_objects) = {
            let mut state = inode.state.lock();
            let objects = state.layout.has_objects() && !state.inline;
            let exact_due = exact == Exact::Yes && objects && state.attr.size_lazy;
            // Kept until it is told, so that whoever asks here meanwhile sees it.
            let atime = state.atime;
            if state.unsettled.is_empty() && atime.is_none() && !exact_due {
                return Ok(false);
            }
            let unsettled = state.begin_settle();
            drop(state);
            (inode.settling(unsettled), atime, unsettled.size, objects)
        };
        let unsettled = settling.unsettled;
        let mut blocks = None;
        let mut whole = !has_objects;
        if has_objects && alone {
            let known = {
                let state = inode.state.lock();
                let blocks = state.size_exact.then(|| state.blocks()).flatten();
                blocks.map(|blocks| (blocks, state.size))
            };
            if let Some((known, end)) = known {
                // Others may have added what the MDS does not know.
                (blocks, whole, size) = (Some(known), true, size.max(Some(end)));
            } else {
                let layout = Arc::clone(&inode.state.lock().layout);
                let glimpse = self.glimpse(inode.fid, &layout).await;
                size = size.max(Some(glimpse.size));
                (blocks, whole) = (glimpse.blocks, glimpse.blocks.is_some());
            }
        }
        let told = v1::SettleOp {
            fid: Some(inode.fid.into()),
            size: size.filter(|_| has_objects && alone),
            mtime: unsettled.mtime.map(Into::into),
            atime: atime.map(Into::into),
            blocks,
            kill_suidgid: unsettled.kill_suidgid,
            exact: exact == Exact::Yes && whole && has_objects,
        };
        let op = Op::Settle(told);
        let changed = self.change_inode(Caller::default(), inode.fid, "settle", sync, op).await?;
        settling.told();
        let mut state = inode.state.lock();
        if state.atime == atime {
            state.atime = None;
        }
        if let Some(mut attr) = changed.attr {
            if attr.size_lazy && state.size_exact {
                attr.size = attr.size.max(state.size);
            }
            state.saw_attr(attr);
        }
        Ok(true)
    }
}
