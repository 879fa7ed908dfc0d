//! Space of open files: reserving, freeing, and finding where there is none.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nacre_model::layout::FILE_BYTES_MAX;
use nacre_model::{
    Component, Errno, FileOffset, Layout, ObjectId, ObjectOffset, OstIndex, Retry, ServiceError,
    StripeIndex,
};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::flush::Exact;
use crate::handle::OpenFile;
use crate::inode::Inode;
use crate::join::join_all;
use crate::osc::layout_is_stale;
use crate::plan::object_ranges;
use crate::types::{AllocateMode, Caller, SeekFrom};
use crate::{Client, ClientError, Result};

const TRIES: usize = 8;

/// What is done to the objects of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Reserve { grow: bool },
    Punch,
}

impl Client {
    /// Reserves or frees space.
    ///
    /// # Errors
    /// EINVAL for an empty range, EFBIG beyond what the layout reaches, ENOSPC.
    pub async fn fallocate(
        &self,
        file: &OpenFile,
        mode: AllocateMode,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        self.must_change()?;
        file.must_write()?;
        if len == 0 {
            return Err(ClientError::refused(Errno::EINVAL, "range is empty"));
        }
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX);
        let Some(end) = end else {
            return Err(ClientError::refused(Errno::EFBIG, "range ends beyond 8 EiB"));
        };
        let inode = &file.inode;
        let reach = inode.state.lock().layout.components.last().map_or(0, |c| c.end);
        if end > reach && mode != AllocateMode::PunchHole {
            return Err(ClientError::refused(Errno::EFBIG, "range ends beyond the layout"));
        }
        let _gate = inode.gate.write().await;
        self.write_out_and_settle(inode).await?;
        file.check_errors()?;
        for _ in 0..TRIES {
            let (layout, inline) = self.current_layout(inode).await?;
            let result = if inline {
                self.allocate_inline(inode, mode, offset..end).await
            } else {
                self.allocate_objects(inode, &layout, mode, offset..end).await
            };
            match result {
                Ok(true) => return self.settle(inode, Exact::No, false).await.map(drop),
                Ok(false) => {}
                Err(error) if layout_is_stale(&error) || error.retry() == Retry::AfterRefresh => {
                    inode.state.lock().layout_stale = true;
                }
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::refused(Errno::EIO, "the layout keeps changing"))
    }

    /// False: the file has left its inode, look again.
    async fn allocate_inline(
        &self,
        inode: &Arc<Inode>,
        mode: AllocateMode,
        range: Range<u64>,
    ) -> Result<bool> {
        let inline_max = self.inner.mdc.session().inline_max;
        // Where the inode ends: the size that the MDS knows, since nothing is dirty.
        let size = inode.state.lock().attr.size;
        let zeroes = matches!(
            mode,
            AllocateMode::PunchHole | AllocateMode::ZeroRange | AllocateMode::ZeroRangeKeepSize
        );
        let extends = matches!(mode, AllocateMode::Reserve | AllocateMode::ZeroRange);
        if mode != AllocateMode::PunchHole && range.end > inline_max {
            self.outgrow(inode, range).await?;
            return Ok(false);
        }
        let zero_end = range.end.min(size);
        if zeroes && range.start < zero_end {
            let len = zero_end.saturating_sub(range.start);
            self.change_inline(inode, range.start, Bytes::new(), Some(len)).await?;
        }
        if extends && range.end > size {
            // The last byte makes the file as long as it shall be.
            let last = range.end.saturating_sub(1);
            self.change_inline(inode, last, Bytes::from_static(&[0]), None).await?;
        }
        Ok(true)
    }

    async fn change_inline(
        &self,
        inode: &Inode,
        offset: u64,
        data: Bytes,
        punch_len: Option<u64>,
    ) -> Result<()> {
        let op = Op::WriteInline(v1::WriteInlineOp {
            fid: Some(inode.fid.into()),
            offset,
            data,
            mtime: Some(self.inner.config.clock.now().into()),
            kill_suidgid: false,
            punch_len,
        });
        let changed =
            self.change_inode(Caller::default(), inode.fid, "write inline", false, op).await?;
        let mut state = inode.state.lock();
        state.changed_here();
        if let Some(attr) = changed.attr {
            state.saw_attr(attr);
        }
        Ok(())
    }

    async fn allocate_objects(
        &self,
        inode: &Arc<Inode>,
        layout: &Layout,
        mode: AllocateMode,
        range: Range<u64>,
    ) -> Result<bool> {
        let (zeroes, reserves, grow) = match mode {
            AllocateMode::Reserve => (false, true, true),
            AllocateMode::ReserveKeepSize => (false, true, false),
            AllocateMode::PunchHole => (true, false, false),
            AllocateMode::ZeroRange => (true, true, true),
            AllocateMode::ZeroRangeKeepSize => (true, true, false),
        };
        let touched =
            layout.components.iter().filter(|c| c.start < range.end && range.start < c.end);
        if reserves && touched.clone().any(|c| !c.instantiated()) {
            self.instantiate(inode, range).await?;
            return Ok(false);
        }
        if zeroes {
            self.act(inode, layout, Act::Punch, &range).await?;
        }
        if reserves {
            self.act(inode, layout, Act::Reserve { grow }, &range).await?;
        }
        let now = self.inner.config.clock.now();
        let mut state = inode.state.lock();
        state.changed_here();
        state.unsettled.mtime = Some(now);
        if grow {
            state.size = state.size.max(range.end);
            state.unsettled.size = state.unsettled.size.max(Some(range.end));
        }
        Ok(true)
    }

    /// Does `act` to every object of the range, all at a time.
    async fn act(
        &self,
        inode: &Inode,
        layout: &Layout,
        act: Act,
        range: &Range<u64>,
    ) -> Result<()> {
        let components = (0_u16..).zip(&layout.components);
        let parts: Vec<_> = components
            .flat_map(|(index, c)| {
                object_ranges(c, range).filter_map(move |(stripe, from, to)| {
                    object(inode, index, c, stripe).map(|(id, ost)| (id, ost, from, to))
                })
            })
            .collect();
        let osc = &self.inner.osc;
        let calls = parts.iter().map(|&(id, ost, from, to)| async move {
            let len = to.saturating_sub(from);
            match act {
                Act::Punch => osc.punch(ost, id, from, len).await.map(|r| (r.blocks, r.verifier)),
                Act::Reserve { grow } => {
                    let reply = osc.allocate(ost, id, from, len, grow).await;
                    reply.map(|r| (r.blocks, r.verifier))
                }
            }
        });
        for ((id, _, from, to), answer) in parts.iter().zip(join_all(calls).await) {
            let (blocks, verifier) = answer?;
            let mut state = inode.state.lock();
            state.landings = state.landings.wrapping_add(1);
            let object = state.objects.entry(*id).or_default();
            object.blocks = Some(blocks);
            match object.verifier {
                None => object.verifier = verifier,
                Some(first) => object.suspect |= verifier.is_some_and(|v| v != first),
            }
            if act == Act::Punch {
                // What lies there must not come back when data is sent again.
                let hits = |offset: u64, data: &[Bytes]| {
                    let len: u64 = data.iter().map(|d| d.len() as u64).sum();
                    offset < *to && *from < offset.saturating_add(len)
                };
                if object.retained.iter().any(|(offset, data)| hits(*offset, data)) {
                    let freed = object.retained_bytes();
                    object.retained.clear();
                    object.unretained = true;
                    drop(state);
                    self.give_back_retained(freed);
                }
            }
        }
        Ok(())
    }

    /// Finds data or a hole. ENXIO at or beyond the end of the file.
    pub async fn lseek(&self, file: &OpenFile, from: SeekFrom) -> Result<u64> {
        let inode = &file.inode;
        let beyond = || ClientError::refused(Errno::ENXIO, "offset is beyond the end of the file");
        for _ in 0..TRIES {
            // Data and holes are where the servers have them.
            self.write_out_and_settle(inode).await?;
            let size = self.getattr(inode.fid).await?.size;
            let (SeekFrom::Data(offset) | SeekFrom::Hole(offset)) = from;
            if offset >= size {
                return Err(beyond());
            }
            let (layout, inline) = self.current_layout(inode).await?;
            if inline {
                return Ok(match from {
                    SeekFrom::Data(offset) => offset,
                    SeekFrom::Hole(_) => size,
                });
            }
            let found = match from {
                SeekFrom::Data(offset) => self.seek_data(inode, &layout, offset).await,
                SeekFrom::Hole(offset) => self.seek_hole(inode, &layout, offset).await.map(Some),
            };
            match found {
                Ok(Some(at)) if at < size => return Ok(at),
                Ok(Some(_) | None) if matches!(from, SeekFrom::Hole(_)) => return Ok(size),
                Ok(Some(_) | None) => return Err(beyond()),
                Err(error) if layout_is_stale(&error) => {
                    inode.state.lock().layout_stale = true;
                }
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::refused(Errno::EIO, "the layout keeps changing"))
    }

    async fn seek_data(&self, inode: &Inode, layout: &Layout, offset: u64) -> Result<Option<u64>> {
        for (index, component) in (0_u16..).zip(&layout.components) {
            if component.end <= offset || !component.instantiated() {
                continue;
            }
            let start = offset.max(component.start);
            let found = self.seek_stripes(inode, index, component, start, false).await?;
            if let Some(at) = found.filter(|at| *at < component.end) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    async fn seek_hole(&self, inode: &Inode, layout: &Layout, offset: u64) -> Result<u64> {
        let mut reached = offset;
        for (index, component) in (0_u16..).zip(&layout.components) {
            if component.end <= offset {
                continue;
            }
            let start = offset.max(component.start);
            if !component.instantiated() {
                return Ok(start);
            }
            let found = self.seek_stripes(inode, index, component, start, true).await?;
            if let Some(at) = found.filter(|at| *at < component.end) {
                return Ok(at);
            }
            reached = component.end;
        }
        Ok(reached)
    }

    /// The first data or hole of a component at or after `start`: the least over its stripes.
    async fn seek_stripes(
        &self,
        inode: &Inode,
        index: u16,
        component: &Component,
        start: u64,
        hole: bool,
    ) -> Result<Option<u64>> {
        let parts: Vec<_> = (0..component.stripe_count.get())
            .filter_map(|stripe| {
                let stripe = StripeIndex(stripe);
                let (id, ost) = object(inode, index, component, stripe)?;
                Some((stripe, id, ost, first_at(component, stripe, start)))
            })
            .collect();
        let osc = &self.inner.osc;
        let calls = parts.iter().map(|(_, id, ost, from)| osc.seek(*ost, *id, *from, hole));
        let mut least = None;
        for ((stripe, _, _, from), answer) in parts.iter().zip(join_all(calls).await) {
            let answer = answer?;
            // An object that ends before counts as a hole.
            let at = match (answer.found, hole) {
                (true, _) => answer.offset.max(*from),
                (false, true) => *from,
                (false, false) => continue,
            };
            if let Some(FileOffset(at)) = component.file_offset(*stripe, ObjectOffset(at)) {
                let at = at.max(start);
                least = Some(least.map_or(at, |least: u64| least.min(at)));
            }
        }
        Ok(least)
    }
}

/// The first byte of a stripe's object that is at or after `start` in the file.
fn first_at(component: &Component, stripe: StripeIndex, start: u64) -> u64 {
    component.object_size(stripe, start)
}

fn object(
    inode: &Inode,
    index: u16,
    component: &Component,
    stripe: StripeIndex,
) -> Option<(ObjectId, OstIndex)> {
    let ost = component.osts.get(usize::from(stripe.0))?;
    let id = ObjectId {
        fid: inode.fid,
        component: index,
        stripe: stripe.0,
        generation: component.object_generation,
    };
    Some((id, *ost))
}
