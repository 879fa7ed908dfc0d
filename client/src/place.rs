//! Where a file's bytes are, and how they move from the inode to objects.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid, Layout, Retry, ServiceError};
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::cache::Mode;
use crate::inode::{Inode, State};
use crate::mdc::Changed;
use crate::osc::by_ost;
use crate::plan;
use crate::types::Caller;
use crate::{Client, ClientError, Result};

/// Times that moving bytes to objects is begun anew because the file changed meanwhile.
const TRIES: usize = 8;

/// A file as the MDS has it.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) attr: Attr,
    /// Since when the lease stands under which all this is true.
    pub(crate) since: Option<u64>,
    pub(crate) layout: Option<Layout>,
    /// The bytes, while they are in the inode.
    pub(crate) inline: Option<Bytes>,
    pub(crate) directory_default: Option<nacre_model::LayoutTemplate>,
}

impl Placed {
    /// The layout of what must be a regular file.
    pub(crate) fn layout(&self) -> Result<Layout> {
        Ok(required("layout", self.layout.clone())?)
    }
}

impl Client {
    /// Attributes, layout and inline bytes.
    pub(crate) async fn get_layout(&self, fid: Fid) -> Result<Placed> {
        let asked = self.asked();
        let response = self
            .inner
            .mdc
            .call("get layout", |mut mds, session| async move {
                let fid = Some(fid.into());
                mds.get_layout(v1::GetLayoutRequest { fid, session: session.id }).await
            })
            .await?;
        let attr: Attr = required("attr", response.attr)?.try_into()?;
        let since = self.inner.cache.learn_since(asked, fid, response.lease, &attr);
        Ok(Placed {
            attr,
            since,
            layout: response.layout.map(TryInto::try_into).transpose()?,
            inline: response.is_inline.then_some(response.inline_data),
            directory_default: response.directory_default.map(TryInto::try_into).transpose()?,
        })
    }

    /// Asks where the bytes are now.
    pub(crate) async fn refresh_layout(&self, inode: &Inode) -> Result<()> {
        let changes = inode.state.lock().changes;
        let placed = self.get_layout(inode.fid).await?;
        self.install_placed(inode, &placed, changes)
    }

    /// Takes in what the MDS has told, asked after so many changes of the file here. Under a lease
    /// that came later it may be out of date.
    pub(crate) fn install_placed(
        &self,
        inode: &Inode,
        placed: &Placed,
        changes: u64,
    ) -> Result<()> {
        let layout = placed.layout()?;
        let held = |state: &mut State| {
            state.install(placed.attr.clone(), layout.clone(), placed.inline.is_some());
        };
        let cache = &self.inner.cache;
        let stands = cache.under_lease_since(inode.fid, placed.since, || {
            let mut state = inode.state.lock();
            held(&mut state);
            if let Some(bytes) = &placed.inline {
                state.keep_content(bytes, changes, &self.inner.content_budget);
            }
        });
        if stands.is_none() {
            let mut state = inode.state.lock();
            held(&mut state);
            drop(state);
            // Another lease: what was installed under it must be asked for again.
            cache.under_lease(inode.fid, Mode::Shared, || {
                inode.state.lock().layout_stale = true;
                Some(())
            });
        }
        Ok(())
    }

    /// Gives objects to the part of the layout that `range` touches.
    pub(crate) async fn instantiate(&self, inode: &Inode, range: Range<u64>) -> Result<()> {
        let op = Op::Instantiate(v1::InstantiateOp {
            fid: Some(inode.fid.into()),
            offset: range.start,
            len: range.end.saturating_sub(range.start),
            avoid: self.inner.osc.failed(),
        });
        let changed =
            self.change_inode(Caller::default(), inode.fid, "instantiate", false, op).await?;
        install(inode, changed)
    }

    /// Takes a file out of its inode, because `range` does not fit there.
    pub(crate) async fn outgrow(&self, inode: &Inode, range: Range<u64>) -> Result<()> {
        let empty = inode.state.lock().attr.size == 0;
        if empty {
            match self.instantiate(inode, range).await {
                Err(ClientError::Mds { source, .. }) if source.errno == Errno::EBUSY => {}
                result => return result,
            }
        }
        let mut result = Ok(());
        for _ in 0..TRIES {
            result = self.promote(inode).await;
            match &result {
                Err(error) if error.retry() == Retry::AfterRefresh => {}
                Ok(()) | Err(_) => break,
            }
        }
        result
    }

    /// Moves inline bytes to objects: reserved first, written and on disk next, visible last.
    async fn promote(&self, inode: &Inode) -> Result<()> {
        let fid = inode.fid;
        let begin = self.change_promote(fid, None).await;
        // After the reservation: who changes the bytes from now on makes the commit fail.
        let placed = self.get_layout(fid).await?;
        let Some(bytes) = placed.inline.clone() else {
            let layout = placed.layout()?;
            inode.state.lock().install(placed.attr, layout, false);
            return Ok(());
        };
        let layout = required("layout", begin?.layout)?;
        let range = 0..bytes.len() as u64;
        let plan = plan::plan(&layout, fid, &range, self.inner.config.rpc_bytes);
        let taken = crate::dirty::Taken { offset: 0, segments: vec![bytes], len: range.end };
        for run in &plan.runs {
            let data = plan::gather(run, &taken);
            self.inner.osc.write(run.ost, run.object, run.offset, &data, false).await?;
        }
        let written = plan.runs.iter().map(|run| (run.object, run.ost));
        for (ost, mut objects) in by_ost(written) {
            objects.dedup();
            self.inner.osc.commit(ost, objects).await?;
        }
        let generation = layout.components.first().map_or(0, |c| c.object_generation);
        let changed = self.change_promote(fid, Some(generation)).await?;
        install(inode, changed)
    }

    async fn change_promote(&self, fid: Fid, commit: Option<u32>) -> Result<Changed> {
        let op = Op::Promote(v1::PromoteOp {
            fid: Some(fid.into()),
            commit: commit.is_some(),
            object_generation: commit.unwrap_or(0),
            avoid: self.inner.osc.failed(),
        });
        self.change_inode(Caller::default(), fid, "promote", false, op).await
    }
}

/// Takes in that a file has objects.
fn install(inode: &Inode, changed: Changed) -> Result<()> {
    let attr = required("attr", changed.attr)?;
    let layout = required("layout", changed.layout)?;
    inode.state.lock().install(attr, layout, false);
    Ok(())
}

impl Client {
    /// Makes sure that the layout is true as far as anybody has said, and leads to the bytes.
    pub(crate) async fn current_layout(&self, inode: &Arc<Inode>) -> Result<(Arc<Layout>, bool)> {
        for _ in 0..TRIES {
            self.make_resident(inode).await?;
            {
                let state = inode.state.lock();
                if !state.layout_stale && !state.attr.released {
                    return Ok((Arc::clone(&state.layout), state.inline));
                }
            }
            self.refresh_layout(inode).await?;
        }
        Err(ClientError::refused(Errno::EIO, "the layout keeps changing"))
    }
}
