//! Writing: into the inode's dirty runs, or through them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_model::layout::FILE_BYTES_MAX;
use nacre_model::{Errno, Fid};

use crate::flush::{Exact, What};
use crate::handle::OpenFile;
use crate::inode::Inode;
use crate::journal::{Record, Request};
use crate::types::{LockHold, LockKind, LockMode, LockOwner, OpenFlags, WriteFlags};
use crate::{Client, ClientError, Result};

/// What one round of a large write takes of the dirty budget.
const ROUND_BYTES: usize = 4 << 20;
/// More separate runs than this in one file leave at once.
const RUNS_MAX: usize = 1024;
/// Without leases, appending trusts the size that was told within this time.
const APPEND_TRUST: Duration = Duration::from_secs(1);
/// Beyond this offset objects may have a limit: the writer shall hear of it from the write.
const FAR: u64 = 1 << 40;

/// What clients that share a file lock while they append to it: the fid of no inode.
pub(crate) fn append_lock(fid: Fid) -> Fid {
    Fid { ver: fid.ver.wrapping_add(1), ..fid }
}

/// Whether a lock is one of those.
pub(crate) const fn is_append_lock(fid: Fid) -> bool {
    fid.ver != 0
}

/// Should the request be sent again to another process, that must not append a second time.
fn note_append(fid: Fid, offset: u64, owner: u64) {
    if let Some(request) = Request::current() {
        let record = Record::Append { request: request.number(), fid, offset, owner };
        request.keep(request.note(record), ());
    }
}

impl Client {
    /// Writes all of `data`. Returns where it was written (which `APPEND` decides).
    ///
    /// # Errors
    /// EFBIG beyond what the layout or `off_t` reaches; and, until `fsync` or `close` has told it, the
    /// error of data that was written earlier and could not be sent.
    pub async fn write(
        &self,
        file: &OpenFile,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<u64> {
        self.must_change()?;
        if !flags.contains(WriteFlags::PAGE_CACHE) {
            file.must_write()?;
        }
        file.peek_errors()?;
        let inode = &file.inode;
        self.make_resident(inode).await?;
        let append = flags.contains(WriteFlags::APPEND);
        let sync = flags.contains(WriteFlags::SYNC) || file.flags().contains(OpenFlags::SYNC);
        let (offset, hold) = if append {
            self.append(inode, &data, flags).await?
        } else {
            let _gate = inode.gate.read().await;
            let hold = self.has_alone(inode.fid);
            self.put(inode, offset, &data, flags).await?;
            (offset, hold)
        };
        crate::metrics::written_bytes(data.len() as u64);
        let direct = !hold
            || flags.contains(WriteFlags::DIRECT)
            || file.flags().contains(OpenFlags::DIRECT)
            || offset >= FAR;
        if sync || direct {
            self.write_out_with(inode, sync).await;
            if sync || !hold {
                self.settle(inode, Exact::No, sync).await?;
            }
            file.peek_errors()?;
        } else {
            inode.state.lock().note_dirty(&self.inner.config.journal);
        }
        Ok(offset)
    }

    /// Writes at the end of the file. Returns where that was, and whether the data may wait.
    async fn append(
        &self,
        inode: &Arc<Inode>,
        data: &Bytes,
        flags: WriteFlags,
    ) -> Result<(u64, bool)> {
        if let Some(appended) = self.append_again(inode, data, flags).await? {
            return Ok(appended);
        }
        {
            let _gate = inode.gate.write().await;
            if self.has_alone(inode.fid) {
                let end = self.end_for_append(inode).await?;
                note_append(inode.fid, end, 0);
                self.put(inode, end, data, flags).await?;
                return Ok((end, true));
            }
        }
        // Taken before the gate: whoever has the lock may need what waits for the gate.
        let fid = append_lock(inode.fid);
        let owner = LockOwner { owner: self.inner.mdc.new_handle(), pid: 0 };
        let (kind, mode) = (LockKind::Posix, LockMode::Write);
        self.lock(fid, LockHold { kind, mode, owner, start: 0, end: 0 }, true).await?;
        let appended = async {
            let _gate = inode.gate.write().await;
            self.fetch_attr(inode.fid, Some(inode)).await?;
            let end = inode.state.lock().size;
            note_append(inode.fid, end, owner.owner);
            self.put(inode, end, data, flags).await?;
            self.write_out(inode).await;
            Ok((end, false))
        };
        let appended = appended.await;
        self.unlock(fid, kind, owner, 0, 0).await?;
        appended
    }

    /// Writes where the process before has decided to append, and perhaps has. Nobody else has
    /// appended since: by its lock, or by the lease that still stands. `None`: decide anew.
    async fn append_again(
        &self,
        inode: &Arc<Inode>,
        data: &Bytes,
        flags: WriteFlags,
    ) -> Result<Option<(u64, bool)>> {
        let Some(request) = Request::current() else { return Ok(None) };
        let pick = |record: &Record| match record {
            Record::Append { fid, offset, owner, .. } if *fid == inode.fid => {
                Some((*offset, LockOwner { owner: *owner, pid: 0 }))
            }
            Record::Append { .. }
            | Record::Change { .. }
            | Record::Open { .. }
            | Record::Dirty { .. } => None,
        };
        let Some(((offset, owner), entry)) = request.take_before(pick) else { return Ok(None) };
        let locked = owner.owner != 0;
        {
            let _gate = inode.gate.write().await;
            if !locked && !self.has_alone(inode.fid) {
                return Ok(None);
            }
            self.put(inode, offset, data, flags).await?;
        }
        request.keep(entry, ());
        if locked {
            self.write_out(inode).await;
            self.unlock(append_lock(inode.fid), LockKind::Posix, owner, 0, 0).await?;
        }
        Ok(Some((offset, !locked)))
    }

    /// Where the file ends, if nobody else can write to it.
    async fn end_for_append(&self, inode: &Arc<Inode>) -> Result<u64> {
        let known = {
            let state = inode.state.lock();
            let recent = state.refreshed.elapsed() < APPEND_TRUST || state.pending();
            let known = if self.inner.config.leases { state.size_exact } else { recent };
            (known && !state.other_writers).then_some(state.size)
        };
        if let Some(size) = known {
            return Ok(size);
        }
        self.fetch_attr(inode.fid, Some(inode)).await?;
        Ok(inode.state.lock().size)
    }

    async fn put(
        &self,
        inode: &Arc<Inode>,
        offset: u64,
        data: &Bytes,
        flags: WriteFlags,
    ) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let Some(end) = end else {
            return Err(ClientError::refused(Errno::EFBIG, "write ends beyond 8 EiB"));
        };
        let reach = inode.state.lock().layout.components.last().map_or(0, |c| c.end);
        if end > reach {
            return Err(ClientError::refused(Errno::EFBIG, "write ends beyond the layout"));
        }
        let mut rest = data.clone();
        let mut at = offset;
        while !rest.is_empty() {
            let round = rest.split_to(rest.len().min(ROUND_BYTES));
            let len = round.len() as u64;
            self.take_dirty_budget(inode, round.len()).await;
            self.put_round(inode, at, round, flags).await;
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Waits for room. What is dirty anywhere is sent if there is none, since nothing else would
    /// make any.
    async fn take_dirty_budget(&self, inode: &Arc<Inode>, len: usize) {
        let max = usize::try_from(self.inner.config.dirty_bytes_max).unwrap_or(len);
        let want = u32::try_from(len.min(max)).unwrap_or(u32::MAX);
        let budget = &self.inner.dirty_budget;
        if let Ok(permit) = budget.try_acquire_many(want) {
            permit.forget();
            return;
        }
        self.send_dirty(inode, What::All, false).await;
        self.inner.pressure.notify_one();
        let permit = budget.acquire_many(want).await.expect("the semaphore is never closed");
        permit.forget();
    }

    async fn put_round(&self, inode: &Arc<Inode>, at: u64, data: Bytes, flags: WriteFlags) {
        let end = at.saturating_add(data.len() as u64);
        let now = self.inner.config.clock.now();
        let mut data = Some(data);
        let (full, displaced) = loop {
            // What is on its way must arrive before what replaces it is sent.
            inode.wait_landed(&(at..end)).await;
            let mut state = inode.state.lock();
            if state.in_flight(&(at..end)) {
                continue;
            }
            let Some(data) = data.take() else { break (false, 0) };
            let displaced = state.dirty.insert(at, data);
            state.written();
            state.dirty_since.get_or_insert_with(tokio::time::Instant::now);
            state.size = state.size.max(end);
            state.unsettled.size = state.unsettled.size.max(Some(end));
            state.unsettled.mtime = Some(now);
            state.unsettled.kill_suidgid |= flags.contains(WriteFlags::KILL_SUIDGID);
            let full = state.dirty.bytes() >= self.inner.config.rpc_bytes;
            break (full || state.dirty.runs() > RUNS_MAX, displaced);
        };
        self.give_back_dirty(displaced);
        if full {
            let crowded = inode.state.lock().dirty.runs() > RUNS_MAX;
            let what = if crowded { What::All } else { What::Full };
            self.send_dirty(inode, what, false).await;
        }
    }
}
