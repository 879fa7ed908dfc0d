//! The way of written bytes from the inode's dirty runs to the servers.
//!
//! ```text
//! dirty ──send_dirty──► inline:  one WriteInline change, answered before the next
//!                  └──► objects: requests by object, many in flight; `landed` wakes who waits
//! ```
//! What cannot be sent is lost, and every open file is told once: keeping it would only move the
//! error to somebody who did not write it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use nacre_model::{Errno, Layout, Retry, ServiceError};
use nacre_node::register::Chain;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::cache::Mode;
use crate::dirty::Taken;
use crate::inode::{Inode, State, Unsettled};
use crate::join::join_all;
use crate::osc::{Patience, by_ost, join, layout_is_stale};
use crate::plan::{self, Run};
use crate::types::Caller;
use crate::{Client, ClientError, Result};

/// Times a layout may turn out stale before data is given up.
pub(crate) const BOUNCES_MAX: u32 = 8;

/// Which dirty bytes to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Those that fill whole requests.
    Full,
    /// All.
    All,
}

/// Whether the size that is told is the whole truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exact {
    /// More may be written.
    No,
    /// No write of this client is under way.
    Yes,
}

/// What to do next with dirty bytes.
enum Step {
    Nothing,
    Refresh,
    Inline(Vec<(u64, Taken)>, Unsettled),
    /// The file has outgrown its inode; the range is what shall be written.
    Outgrow(std::ops::Range<u64>),
    Instantiate(std::ops::Range<u64>),
    Objects(Vec<(u64, Run, Vec<Bytes>)>),
}

impl Client {
    /// Sends dirty bytes on their way; returns when they are under way, not when they have
    /// arrived. Errors are recorded for the open files. True if the MDS has synced its log with
    /// them.
    pub(crate) async fn send_dirty(&self, inode: &Arc<Inode>, what: What, sync: bool) -> bool {
        let _sender = inode.sender.lock().await;
        match self.send_steps(inode, what, sync).await {
            Ok(synced) => return synced,
            // Removed meanwhile: nobody misses the data.
            Err(error) if error.is_gone() => self.discard(inode),
            Err(error) => self.lose_dirty(inode, &error),
        }
        false
    }

    async fn send_steps(&self, inode: &Arc<Inode>, what: What, sync: bool) -> Result<bool> {
        let mut synced = false;
        loop {
            if inode.state.lock().evictions != self.inner.mdc.evictions() {
                return Err(ClientError::refused(Errno::EIO, "client was evicted"));
            }
            match self.next_step(inode, what)? {
                Step::Nothing => return Ok(synced),
                Step::Refresh => self.refresh_layout(inode).await?,
                Step::Inline(taken, unsettled) => {
                    synced = self.send_inline(inode, taken, unsettled, sync).await? && sync;
                }
                Step::Outgrow(range) => self.outgrow(inode, range).await?,
                Step::Instantiate(range) => self.instantiate(inode, range).await?,
                Step::Objects(runs) => {
                    for (flight, run, data) in runs {
                        self.launch(inode, flight, run, data, sync);
                    }
                }
            }
        }
    }

    fn next_step(&self, inode: &Inode, what: What) -> Result<Step> {
        let inline_max = self.inner.mdc.session().inline_max;
        let mut state = inode.state.lock();
        let Some(span) = state.dirty.span() else { return Ok(Step::Nothing) };
        if state.layout_stale {
            return Ok(Step::Refresh);
        }
        if state.inline {
            if span.end > inline_max {
                return Ok(Step::Outgrow(span));
            }
            if what == What::Full {
                return Ok(Step::Nothing);
            }
            let taken = state.dirty.take_all();
            let fly = |taken: Taken| (state.take_off(vec![taken.range()]), taken);
            let taken = taken.into_iter().map(fly).collect();
            state.dirty_since = None;
            return Ok(Step::Inline(taken, state.begin_settle()));
        }
        let rpc_bytes = self.inner.config.rpc_bytes;
        let taken = match what {
            What::Full => state.dirty.take_full(rpc_bytes),
            What::All => state.dirty.take_all(),
        };
        if taken.is_empty() {
            return Ok(Step::Nothing);
        }
        if state.dirty.is_empty() {
            state.dirty_since = None;
        }
        let plans = taken
            .iter()
            .map(|t| plan::plan(&state.layout, inode.fid, &t.range(), rpc_bytes))
            .collect::<Vec<_>>();
        let pairs = || taken.iter().zip(&plans);
        let beyond = pairs().any(|(t, plan)| plan.end < t.range().end);
        let unplaced = pairs().find(|(_, plan)| plan.unplaced).map(|(t, _)| t.range());
        if beyond || unplaced.is_some() {
            for taken in taken {
                state.dirty.put_back(taken);
            }
            return match unplaced {
                Some(range) if !beyond => Ok(Step::Instantiate(range)),
                Some(_) | None => Err(ClientError::refused(Errno::EFBIG, "layout ends before")),
            };
        }
        let mut runs = Vec::new();
        for (taken, plan) in taken.iter().zip(plans) {
            for run in plan.runs {
                let data = plan::gather(&run, taken);
                runs.push((state.take_off(run.pieces.clone()), run, data));
            }
        }
        Ok(Step::Objects(runs))
    }

    /// False if it must be sent again, elsewhere.
    async fn send_inline(
        &self,
        inode: &Arc<Inode>,
        taken: Vec<(u64, Taken)>,
        unsettled: Unsettled,
        sync: bool,
    ) -> Result<bool> {
        let settling = inode.settling(unsettled);
        let mtime = unsettled.mtime.unwrap_or_else(|| self.inner.config.clock.now());
        let evictions = inode.state.lock().evictions;
        let mut failed = None;
        for (flight, taken) in taken {
            if failed.is_none() {
                let data = join(&taken.segments);
                let op = Op::WriteInline(v1::WriteInlineOp {
                    fid: Some(inode.fid.into()),
                    offset: taken.offset,
                    data: data.clone(),
                    mtime: Some(mtime.into()),
                    kill_suidgid: unsettled.kill_suidgid,
                    punch_len: None,
                });
                match self
                    .change_inode(Caller::default(), inode.fid, "write inline", sync, op)
                    .await
                {
                    Ok(changed) => {
                        let mut state = inode.state.lock();
                        state.land(flight);
                        state.note_clean();
                        state.bounces = 0;
                        state.stuck = None;
                        state.data_version = state.data_version.wrapping_add(1);
                        if let Some(attr) = changed.attr {
                            state.saw_attr(attr);
                        }
                        let now = (state.data_version, state.changes);
                        drop(state);
                        self.give_back_dirty(taken.len);
                        inode.landed.notify_waiters();
                        if taken.offset == 0 {
                            self.keep_written(inode, &data, now);
                        }
                        continue;
                    }
                    Err(error) => failed = Some(error),
                }
            }
            let mut state = inode.state.lock();
            state.land(flight);
            state.dirty.put_back(taken);
        }
        let Some(error) = failed else {
            settling.told();
            return Ok(true);
        };
        if evictions != self.inner.mdc.evictions() {
            // In the next session it would come after what others have written since.
            settling.told();
            return Err(ClientError::refused(Errno::EIO, "client was evicted"));
        }
        drop(settling);
        if error.retry() == Retry::AfterRefresh && inode.state.lock().bounced() {
            return Ok(false);
        }
        Err(error)
    }

    /// Keeps what was written to a file that lives in its inode, if that is all of it, and nothing
    /// else became of it since.
    fn keep_written(&self, inode: &Inode, data: &[u8], (version, changes): (u64, u64)) {
        let room = &self.inner.content_budget;
        self.inner.cache.under_lease(inode.fid, Mode::Shared, || {
            let mut state = inode.state.lock();
            if state.data_version == version && state.size == data.len() as u64 {
                state.keep_content(data, changes, room);
            }
            Some(())
        });
    }

    /// Sends one request; its end is taken in by a task of its own.
    fn launch(&self, inode: &Arc<Inode>, flight: u64, run: Run, data: Vec<Bytes>, sync: bool) {
        let flying = Flying {
            client: self.clone(),
            inode: Arc::clone(inode),
            flight,
            run,
            data,
            sync,
            result: None,
        };
        let runtime = tokio::runtime::Handle::current();
        self.inner.config.scope.spawn_light(&runtime, async move {
            let Flying { client, run, data, .. } = &flying;
            let osc = &client.inner.osc;
            let result = osc.write(run.ost, run.object, run.offset, data, sync).await;
            flying.arrive(result);
        });
    }

    fn land(
        &self,
        inode: &Inode,
        flight: u64,
        run: &Run,
        data: Vec<Bytes>,
        sync: bool,
        result: Result<v1::WriteResponse>,
    ) {
        let mut state = inode.state.lock();
        state.land(flight);
        match result {
            Ok(response) => {
                state.bounces = 0;
                state.stuck = None;
                // What was fetched ahead from there before is not what lies there now.
                state.data_version = state.data_version.wrapping_add(1);
                self.note_written(&mut state, run, data, sync, response);
                self.give_back_dirty(run.len);
            }
            Err(error) if layout_is_stale(&error) && state.bounced() => {
                put_back(&mut state, run, &data);
            }
            Err(error) if state.keeps_trying(&error) => put_back(&mut state, run, &data),
            Err(error) => {
                let pieces = &run.pieces;
                tracing::error!(fid = %inode.fid, ?pieces, error = %Chain(&error),
                    "written data is lost");
                crate::metrics::lost_write();
                state.record_error(error.errno());
                self.give_back_dirty(run.len);
            }
        }
        state.note_clean();
        drop(state);
        inode.landed.notify_waiters();
    }

    /// Keeps what was written until it is known to be on disk, as far as there is room.
    fn note_written(
        &self,
        state: &mut State,
        run: &Run,
        data: Vec<Bytes>,
        sync: bool,
        response: v1::WriteResponse,
    ) {
        let object = state.objects.entry(run.object).or_default();
        object.blocks = Some(response.blocks);
        if sync {
            return;
        }
        state.landings = state.landings.wrapping_add(1);
        let object = state.objects.entry(run.object).or_default();
        match object.verifier {
            None => object.verifier = response.verifier,
            Some(first) => object.suspect |= response.verifier.is_some_and(|v| v != first),
        }
        let max = self.inner.config.retained_bytes_max;
        let add = |now: u64| now.checked_add(run.len).filter(|sum| *sum <= max);
        let retained = &self.inner.retained;
        if retained.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok() {
            object.retained.push((run.offset, data));
        } else {
            object.unretained = true;
        }
    }

    /// Gives up everything dirty.
    pub(crate) fn lose_dirty(&self, inode: &Inode, error: &ClientError) {
        let mut state = inode.state.lock();
        let lost: u64 = state.dirty.take_all().iter().map(|taken| taken.len).sum();
        state.dirty_since = None;
        state.note_clean();
        state.stuck = None;
        state.record_error(error.errno());
        state.evictions = self.inner.mdc.evictions();
        drop(state);
        tracing::error!(fid = %inode.fid, bytes = lost, error = %Chain(error),
            "written data is lost");
        crate::metrics::lost_write();
        self.give_back_dirty(lost);
        inode.landed.notify_waiters();
    }

    /// Bytes are not dirty any more.
    pub(crate) fn give_back_dirty(&self, bytes: u64) {
        self.inner.dirty_budget.add_permits(usize::try_from(bytes).unwrap_or(0));
    }

    /// Bytes are not retained any more.
    pub(crate) fn give_back_retained(&self, bytes: u64) {
        self.inner.retained.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Returns when everything written so far is with the servers, or lost and recorded.
    pub(crate) async fn write_out(&self, inode: &Arc<Inode>) {
        self.write_out_with(inode, false).await;
    }

    /// The same; with `sync`, on their disks. True if the MDS has synced its log with it.
    pub(crate) async fn write_out_with(&self, inode: &Arc<Inode>, sync: bool) -> bool {
        let mut synced = false;
        loop {
            synced |= self.send_dirty(inode, What::All, sync).await;
            inode.wait_landed(&(0..u64::MAX)).await;
            // What was sent back because the layout had changed goes again; what waits for a dead
            // server is tried again later.
            let state = inode.state.lock();
            if state.dirty.is_empty() || state.stuck.is_some() {
                return synced;
            }
        }
    }

    /// Sizes and blocks of a file's objects. Servers that do not answer are passed over.
    pub(crate) async fn glimpse(&self, fid: nacre_model::Fid, layout: &Layout) -> Glimpse {
        let objects = layout.objects(fid).map(|(id, ost, _)| (id, ost));
        let groups = by_ost(objects);
        let calls = groups.iter().map(|(ost, ids)| async move {
            let mut stats = Vec::with_capacity(ids.len());
            for ids in ids.chunks(4096) {
                stats.extend(self.inner.osc.stat(*ost, ids, Patience::Hint).await.ok()?);
            }
            Some(stats)
        });
        let answers = join_all(calls).await;
        let mut glimpse = Glimpse { size: 0, blocks: Some(0), mtime: None };
        for (ids, stats) in groups.values().zip(answers) {
            let Some(stats) = stats else {
                glimpse.blocks = None;
                continue;
            };
            for (id, stat) in ids.iter().zip(stats) {
                let component = layout.components.get(usize::from(id.component));
                let stripe = nacre_model::StripeIndex(id.stripe);
                let size = component.map_or(0, |c| c.file_size(stripe, stat.size));
                glimpse.size = glimpse.size.max(size);
                let written = stat.mtime.and_then(|mtime| mtime.try_into().ok());
                glimpse.mtime = glimpse.mtime.max(written);
                glimpse.blocks = glimpse.blocks.map(|sum| sum.saturating_add(stat.blocks));
            }
        }
        glimpse
    }
}

/// Makes a request's bytes dirty again.
fn put_back(state: &mut State, run: &Run, data: &[Bytes]) {
    state.dirty_since.get_or_insert_with(tokio::time::Instant::now);
    let mut rest = join(data);
    for piece in &run.pieces {
        let len = piece.end.saturating_sub(piece.start);
        let cut = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
        let segments = vec![rest.split_to(cut)];
        state.dirty.put_back(Taken { offset: piece.start, segments, len });
    }
}

/// A request on its way. It lands when this is dropped, whatever became of it: who waits for it
/// would otherwise wait for ever.
struct Flying {
    client: Client,
    inode: Arc<Inode>,
    flight: u64,
    run: Run,
    data: Vec<Bytes>,
    sync: bool,
    result: Option<Result<v1::WriteResponse>>,
}

impl Flying {
    fn arrive(mut self, result: Result<v1::WriteResponse>) {
        self.result = Some(result);
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        let cut_off = || Err(ClientError::refused(Errno::EIO, "the client ended"));
        let result = self.result.take().unwrap_or_else(cut_off);
        let data = std::mem::take(&mut self.data);
        self.client.land(&self.inode, self.flight, &self.run, data, self.sync, result);
    }
}

/// What objects say of their file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glimpse {
    /// How far the objects reach.
    pub(crate) size: u64,
    /// Absent when an OST did not answer: then `size` is a lower bound.
    pub(crate) blocks: Option<u64>,
    /// When one of them was last written, if there is one.
    pub(crate) mtime: Option<nacre_model::Timestamp>,
}
