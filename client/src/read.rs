//! Reading: from the inode's inline bytes, or from objects, with holes as zeros.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Errno, Layout};

use crate::cache::Mode;
use crate::config::AtimePolicy;
use crate::handle::OpenFile;
use crate::inode::Inode;
use crate::join::join_all;
use crate::osc::layout_is_stale;
use crate::plan::{self, Run};
use crate::types::OpenFlags;
use crate::{Client, ClientError, Result};

/// Times a layout may turn out stale before a read is given up.
const TRIES: usize = 8;
/// What holes are made of.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Relatime: an access time older than this is renewed.
const ATIME_SECS: i64 = 24 * 60 * 60;

/// Bytes of a file range, as the objects gave them.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// Follow each other and cover the range.
    pub(crate) segments: Vec<Bytes>,
    /// An object ended before the range did: a hole, or the file is shorter than was thought.
    pub(crate) short: bool,
}

impl Client {
    /// Reads up to `len` bytes: segments that follow each other, together shorter than `len` only
    /// at the end of the file.
    pub async fn read(&self, file: &OpenFile, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        file.must_read()?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let inode = &file.inode;
        let range = offset..offset.saturating_add(len);
        let segments = self.read_range(file, inode, range).await?;
        self.note_access(file);
        crate::metrics::read_bytes(segments.iter().map(|s| s.len() as u64).sum());
        Ok(segments)
    }

    async fn read_range(
        &self,
        file: &OpenFile,
        inode: &Arc<Inode>,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>> {
        for _ in 0..TRIES {
            let own = {
                let state = inode.state.lock();
                state.dirty.overlaps(&range)
                    || state.in_flight(&range)
                    || (state.inline && !state.dirty.is_empty())
            };
            if own {
                self.write_out(inode).await;
                if let Some(stuck) = &inode.state.lock().stuck {
                    return Err(stuck.error.clone());
                }
            }
            let (layout, inline) = self.current_layout(inode).await?;
            if inline {
                match self.read_inline(inode, &range).await? {
                    Some(segments) => return Ok(segments),
                    None => continue,
                }
            }
            match self.read_objects(file, inode, &layout, &range).await {
                Err(error) if layout_is_stale(&error) => inode.state.lock().layout_stale = true,
                result => return result,
            }
        }
        Err(ClientError::refused(Errno::EIO, "the layout keeps changing"))
    }

    /// `None`: the file is not inline any more.
    async fn read_inline(
        &self,
        inode: &Arc<Inode>,
        range: &Range<u64>,
    ) -> Result<Option<Vec<Bytes>>> {
        let (kept, changes) = {
            let state = inode.state.lock();
            (state.content().map(|bytes| (bytes, state.size)), state.changes)
        };
        let kept = kept.filter(|_| self.is_leased(inode.fid));
        let (bytes, size) = if let Some(kept) = kept {
            kept
        } else {
            let placed = self.get_layout(inode.fid).await?;
            self.install_placed(inode, &placed, changes)?;
            let Some(bytes) = placed.inline else { return Ok(None) };
            (bytes, placed.attr.size)
        };
        let end = range.end.min(size);
        let have = bytes.len() as u64;
        let cut = |at: u64| usize::try_from(at.min(have)).unwrap_or(usize::MAX);
        let mut segments = Vec::new();
        if range.start < end.min(have) {
            segments.push(bytes.slice(cut(range.start)..cut(end)));
        }
        push_zeros(&mut segments, end.saturating_sub(range.start.max(have)));
        Ok(Some(segments))
    }

    async fn read_objects(
        &self,
        file: &OpenFile,
        inode: &Arc<Inode>,
        layout: &Arc<Layout>,
        range: &Range<u64>,
    ) -> Result<Vec<Bytes>> {
        let mut size = inode.state.lock().size;
        let leased = self.is_leased(inode.fid);
        let known = self.inner.cache.mode(inode.fid) > Mode::None && inode.state.lock().size_exact;
        let close_to_open = !self.inner.config.leases;
        if (range.start >= size || (range.end > size && !close_to_open)) && !known {
            // The file may have grown since it was opened.
            self.fetch_attr(inode.fid, Some(inode)).await?;
            size = inode.state.lock().size;
        }
        let range = range.start..range.end.min(size);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = if leased {
            self.read_ahead(file, inode, layout, &range).await?
        } else {
            self.fetch(inode, layout, &range).await?
        };
        if !fetched.short || known {
            return Ok(fetched.segments);
        }
        self.fetch_attr(inode.fid, Some(inode)).await?;
        let size = inode.state.lock().size;
        Ok(keep(fetched.segments, size.saturating_sub(range.start)))
    }

    /// Whether what was fetched earlier still is what the file holds. (Who asks for no leases has
    /// close-to-open.)
    fn is_leased(&self, fid: nacre_model::Fid) -> bool {
        !self.inner.config.leases || self.inner.cache.mode(fid) > Mode::None
    }

    /// Reads a range from its objects, all at a time.
    pub(crate) async fn fetch(
        &self,
        inode: &Inode,
        layout: &Layout,
        range: &Range<u64>,
    ) -> Result<Fetched> {
        let plan = plan::plan(layout, inode.fid, range, self.inner.config.rpc_bytes);
        let reads = plan.runs.iter().map(|run| async {
            let len = u32::try_from(run.len).unwrap_or(u32::MAX);
            self.inner.osc.read(run.ost, run.object, run.offset, len).await
        });
        let mut parts = Vec::new();
        let mut short = false;
        for (run, answer) in plan.runs.iter().zip(join_all(reads).await) {
            let (data, _) = answer?;
            short |= (data.len() as u64) < run.len;
            scatter(run, data, &mut parts);
        }
        parts.sort_unstable_by_key(|(at, _)| *at);
        let mut segments = Vec::with_capacity(parts.len());
        let mut at = range.start;
        for (start, data) in parts {
            push_zeros(&mut segments, start.saturating_sub(at));
            at = start.saturating_add(data.len() as u64);
            segments.push(data);
        }
        push_zeros(&mut segments, range.end.saturating_sub(at));
        Ok(Fetched { segments, short })
    }

    /// Decides whether a read moves the access time; the MDS hears of it with the next thing that
    /// it is told of the file.
    fn note_access(&self, file: &OpenFile) {
        let policy = self.inner.config.atime;
        let quiet = policy == AtimePolicy::Noatime
            || self.inner.config.read_only
            || file.flags().contains(OpenFlags::NOATIME);
        if quiet {
            return;
        }
        let now = self.inner.config.clock.now();
        let mut state = file.inode.state.lock();
        let atime = state.atime.unwrap_or(state.attr.atime);
        let due = policy == AtimePolicy::Strictatime
            || atime <= state.attr.mtime
            || atime <= state.attr.ctime
            || now.secs.saturating_sub(atime.secs) >= ATIME_SECS;
        if due {
            state.atime = Some(now);
        }
    }
}

/// A request's bytes to where they are in the file.
fn scatter(run: &Run, mut data: Bytes, parts: &mut Vec<(u64, Bytes)>) {
    for piece in &run.pieces {
        let len = piece.end.saturating_sub(piece.start);
        let cut = usize::try_from(len).unwrap_or(usize::MAX).min(data.len());
        if cut == 0 {
            return;
        }
        parts.push((piece.start, data.split_to(cut)));
    }
}

/// Appends a hole.
pub(crate) fn push_zeros(segments: &mut Vec<Bytes>, mut len: u64) {
    let zeros = Bytes::from_static(&ZEROS);
    while len > 0 {
        let part = usize::try_from(len).unwrap_or(usize::MAX).min(zeros.len());
        segments.push(zeros.slice(..part));
        len = len.saturating_sub(part as u64);
    }
}

/// The first `len` bytes.
pub(crate) fn keep(segments: Vec<Bytes>, mut len: u64) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(segments.len());
    for mut segment in segments {
        if len == 0 {
            break;
        }
        segment.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        len = len.saturating_sub(segment.len() as u64);
        out.push(segment);
    }
    out
}

/// A part of what segments hold, by offset from their start.
pub(crate) fn slice(segments: &[Bytes], from: u64, to: u64) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut at = 0;
    for segment in segments {
        let end = at + segment.len() as u64;
        let (start, until) = (from.max(at), to.min(end));
        if start < until {
            let cut = |offset: u64| usize::try_from(offset - at).unwrap_or(usize::MAX);
            out.push(segment.slice(cut(start)..cut(until)));
        }
        at = end;
    }
    out
}
