//! Fetching ahead of a reader who goes through a file in order.
//!
//! A stream is recognised by reads that begin near where the last ended (the kernel may swap
//! neighbours), and its window doubles with each up to the bound of the mount. What is fetched
//! stays valid only while the inode's `data_version` does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use nacre_model::Layout;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::handle::OpenFile;
use crate::inode::Inode;
use crate::join::join_all;
use crate::read::{Fetched, slice};
use crate::types::OpenFlags;
use crate::{Client, Result};

/// How far from the expected place a read may begin and still belong to the stream.
const SLACK: u64 = 4 << 20;
/// Reads of a stream before anything is fetched ahead; one at the file's start counts for all.
const STREAK: u32 = 2;

/// The read stream of one open file.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Where the stream goes on.
    next: u64,
    streak: u32,
    data_version: u64,
    /// By start; each one request long, on that grid.
    chunks: BTreeMap<u64, Chunk>,
}

#[derive(Debug, Clone)]
struct Chunk {
    len: u64,
    /// Bytes that the reader has had.
    used: u64,
    content: watch::Receiver<Option<Result<Fetched>>>,
}

/// What a read shall do.
struct Decision {
    /// Chunks to fetch.
    fetch: Vec<Range<u64>>,
}

impl Ahead {
    /// Takes in a read, and decides what to fetch ahead.
    fn on_read(
        &mut self,
        range: &Range<u64>,
        size: u64,
        data_version: u64,
        grain: u64,
        window_max: u64,
    ) -> Decision {
        if self.data_version != data_version {
            self.chunks.clear();
            self.data_version = data_version;
        }
        let near = self.next.saturating_sub(SLACK)..=self.next.saturating_add(SLACK);
        if near.contains(&range.start) {
            let step = if range.start == 0 && self.next == 0 { STREAK } else { 1 };
            self.streak = self.streak.saturating_add(step);
            self.next = self.next.max(range.end);
        } else {
            self.chunks.clear();
            self.streak = 0;
            self.next = range.end;
        }
        let behind = self.next.saturating_sub(2 * SLACK);
        self.chunks.retain(|start, chunk| start.saturating_add(chunk.len) > behind);
        let mut fetch = Vec::new();
        if self.streak >= STREAK {
            let grow = self.streak.min(16);
            let window = grain.saturating_mul(1 << grow).min(window_max);
            let until = self.next.saturating_add(window).min(size);
            let mut at = self.next - self.next % grain;
            if at < self.next {
                at = at.saturating_add(grain);
            }
            while at < until {
                if !self.chunks.contains_key(&at) {
                    fetch.push(at..at.saturating_add(grain).min(size));
                }
                at = at.saturating_add(grain);
            }
        }
        Decision { fetch }
    }

    /// The chunk that holds `at`, and the part of `range` in it; counts it as used.
    fn claim(&mut self, at: u64, end: u64) -> Option<(u64, Range<u64>, Chunk)> {
        let (&start, chunk) = self.chunks.range_mut(..=at).next_back()?;
        let chunk_end = start.saturating_add(chunk.len);
        if at >= chunk_end {
            return None;
        }
        let part = at..end.min(chunk_end);
        chunk.used = chunk.used.saturating_add(part.end.saturating_sub(part.start));
        let found = chunk.clone();
        if found.used >= found.len {
            self.chunks.remove(&start);
        }
        Some((start, part, found))
    }
}

/// Where a part of a read comes from.
enum Source {
    Chunk(u64, Range<u64>, Chunk),
    Objects(Range<u64>),
}

impl Client {
    /// Reads a range below the end of the file, from what was fetched ahead where it can.
    pub(crate) async fn read_ahead(
        &self,
        file: &OpenFile,
        inode: &Arc<Inode>,
        layout: &Arc<Layout>,
        range: &Range<u64>,
    ) -> Result<Fetched> {
        if file.flags().contains(OpenFlags::DIRECT) {
            return self.fetch(inode, layout, range).await;
        }
        let (version, size) = {
            let state = inode.state.lock();
            (state.data_version, state.size)
        };
        let config = &self.inner.config;
        let sources = {
            let mut ahead = file.ahead.lock();
            let window = config.readahead_window_bytes;
            let decision = ahead.on_read(range, size, version, config.rpc_bytes, window);
            for chunk in decision.fetch {
                if !self.prefetch(&mut ahead, inode, layout, chunk) {
                    break;
                }
            }
            sources(&mut ahead, range)
        };
        let parts = join_all(sources.into_iter().map(|s| self.read_part(inode, layout, s))).await;
        let mut all = Fetched { segments: Vec::new(), short: false };
        for part in parts {
            let part = part?;
            all.segments.extend(part.segments);
            all.short |= part.short;
        }
        Ok(all)
    }

    /// Begins to fetch a chunk; false if there is no room for it.
    fn prefetch(
        &self,
        ahead: &mut Ahead,
        inode: &Arc<Inode>,
        layout: &Arc<Layout>,
        range: Range<u64>,
    ) -> bool {
        let len = range.end.saturating_sub(range.start);
        let Ok(want) = u32::try_from(len) else { return false };
        let budget = Arc::clone(&self.inner.readahead_budget);
        let Ok(permit) = budget.try_acquire_many_owned(want) else { return false };
        let (tx, content) = watch::channel(None);
        ahead.chunks.insert(range.start, Chunk { len, used: 0, content });
        crate::metrics::readahead_bytes(len);
        let (client, inode, layout) = (self.clone(), Arc::clone(inode), Arc::clone(layout));
        self.inner.config.scope.spawn("read-ahead", async move {
            let work = client.fetch(&inode, &layout, &range);
            tokio::select! {
                result = work => publish(&tx, result, permit).await,
                // Nobody wants it any more.
                () = tx.closed() => {}
            }
        });
        true
    }

    async fn read_part(&self, inode: &Inode, layout: &Layout, source: Source) -> Result<Fetched> {
        let (start, part, mut chunk) = match source {
            Source::Objects(range) => return self.fetch(inode, layout, &range).await,
            Source::Chunk(start, part, chunk) => (start, part, chunk),
        };
        let ready = chunk.content.wait_for(Option::is_some).await;
        let fetched = ready.ok().and_then(|content| (*content).clone());
        match fetched {
            Some(Ok(fetched)) => {
                let from = part.start.saturating_sub(start);
                let to = part.end.saturating_sub(start);
                crate::metrics::readahead_hit_bytes(to.saturating_sub(from));
                let segments = slice(&fetched.segments, from, to);
                Ok(Fetched { segments, short: fetched.short })
            }
            // What failed ahead of the reader is not the reader's failure yet.
            Some(Err(_)) | None => self.fetch(inode, layout, &part).await,
        }
    }
}

/// Hands out what was fetched; its share of the budget is held until nobody keeps it.
async fn publish(
    tx: &watch::Sender<Option<Result<Fetched>>>,
    result: Result<Fetched>,
    permit: OwnedSemaphorePermit,
) {
    tx.send_replace(Some(result));
    tx.closed().await;
    drop(permit);
}

/// Cuts a read into what is there, or on its way, and what must be asked for.
fn sources(ahead: &mut Ahead, range: &Range<u64>) -> Vec<Source> {
    let mut out = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if let Some((start, part, chunk)) = ahead.claim(at, range.end) {
            at = part.end;
            out.push(Source::Chunk(start, part, chunk));
            continue;
        }
        let next = ahead.chunks.range(at..range.end).next().map_or(range.end, |(start, _)| *start);
        out.push(Source::Objects(at..next));
        at = next;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAIN: u64 = 10;

    fn read(ahead: &mut Ahead, range: Range<u64>, version: u64) -> Vec<Range<u64>> {
        ahead.on_read(&range, 1 << 40, version, GRAIN, 80).fetch
    }

    #[test]
    fn a_stream_from_the_start_is_fetched_ahead_within_the_window() {
        let mut ahead = Ahead::default();
        let fetch = read(&mut ahead, 0..10, 0);
        assert_eq!(fetch.first(), Some(&(10..20)));
        assert_eq!(fetch.last(), Some(&(40..50)));
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut ahead = Ahead::default();
        for i in [900, 20, 500, 77] {
            let at = i << 24;
            assert_eq!(read(&mut ahead, at..at + 10, 0), []);
        }
    }

    #[test]
    fn what_was_fetched_is_dropped_when_the_data_changes() {
        let mut ahead = Ahead::default();
        let (_tx, content) = watch::channel(None);
        ahead.chunks.insert(10, Chunk { len: 10, used: 0, content });
        assert!(ahead.claim(12, 20).is_some());
        read(&mut ahead, 0..10, 1);
        assert!(ahead.claim(12, 20).is_none());
    }
}
