//! What a file holds: sparse pages, and changes that can be laid over an older content.

use std::collections::BTreeMap;

/// Bytes of a page: what the crash simulation keeps or loses as one.
pub(super) const PAGE_BYTES: u64 = 4096;
const PAGE_LEN: usize = 4096;

/// A change of a file that a crash may undo.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Bytes at an offset.
    Write { offset: u64, bytes: Vec<u8> },
    /// Cut or extended.
    SetLen(u64),
    /// A hole.
    Punch { offset: u64, len: u64 },
    /// Reserved pages; the length grows to `len_min` at least.
    Allocate { offset: u64, len: u64, len_min: u64 },
}

/// Pages by number; a missing one is a hole, `None` is reserved but never written.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Option<Box<[u8]>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Pages that take space.
    pub(super) fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Pages that `change` would add.
    pub(super) fn pages_added(&self, change: &Change) -> u64 {
        let (offset, len) = match change {
            Change::Write { offset, bytes } => (*offset, bytes.len() as u64),
            Change::Allocate { offset, len, .. } => (*offset, *len),
            Change::SetLen(_) | Change::Punch { .. } => return 0,
        };
        if len == 0 {
            return 0;
        }
        let (first, last) = (offset / PAGE_BYTES, offset.saturating_add(len - 1) / PAGE_BYTES);
        let there = self.pages.range(first..=last).count() as u64;
        (last - first + 1).saturating_sub(there)
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let wanted = self.len.saturating_sub(offset).min(buf.len() as u64);
        let wanted = usize::try_from(wanted).expect("not more than the buffer");
        let mut done = 0;
        for (number, within, len) in pieces(offset, wanted) {
            let Some(part) = buf.get_mut(done..done + len) else { break };
            match self.pages.get(&number).and_then(Option::as_ref) {
                Some(page) => part.copy_from_slice(page.get(within..within + len).unwrap_or(&[])),
                None => part.fill(0),
            }
            done += len;
        }
        done
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(*offset, bytes),
            Change::SetLen(len) => {
                if *len < self.len {
                    self.zero(*len, self.len - *len);
                }
                self.len = *len;
            }
            Change::Punch { offset, len } => self.zero(*offset, *len),
            Change::Allocate { offset, len, len_min } => {
                if *len > 0 {
                    let last = offset.saturating_add(len - 1) / PAGE_BYTES;
                    for number in offset / PAGE_BYTES..=last {
                        self.pages.entry(number).or_insert(None);
                    }
                }
                self.len = self.len.max(*len_min);
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        for (number, within, len) in pieces(offset, bytes.len()) {
            let page = self.pages.entry(number).or_insert(None);
            let page = page.get_or_insert_with(|| vec![0; PAGE_LEN].into_boxed_slice());
            if let (Some(to), Some(from)) =
                (page.get_mut(within..within + len), bytes.get(done..done + len))
            {
                to.copy_from_slice(from);
            }
            done += len;
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset.saturating_add(bytes.len() as u64));
        }
    }

    /// Zeroes a range; whole pages become holes.
    fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let whole = offset.div_ceil(PAGE_BYTES)..end / PAGE_BYTES;
        let last = self.len.div_ceil(PAGE_BYTES);
        if whole.start < whole.end {
            // A hole to the end of the file takes the pages reserved beyond it, too.
            let upto = if end >= self.len { u64::MAX } else { whole.end };
            let gone: Vec<u64> = self.pages.range(whole.start..upto).map(|(n, _)| *n).collect();
            for number in gone {
                self.pages.remove(&number);
            }
        }
        for edge in [offset / PAGE_BYTES, end / PAGE_BYTES] {
            if edge >= last {
                continue;
            }
            let (from, to) = (edge * PAGE_BYTES, (edge + 1) * PAGE_BYTES);
            let (from, to) = (offset.max(from) - from, end.min(to).max(from) - from);
            if let Some(Some(page)) = self.pages.get_mut(&edge)
                && let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to))
                && let Some(part) = page.get_mut(from..to.max(from))
            {
                part.fill(0);
            }
        }
    }

    /// First data at or after `offset`.
    pub(super) fn seek_data(&self, offset: u64) -> Option<u64> {
        let found = self
            .pages
            .range(offset / PAGE_BYTES..)
            .find_map(|(number, page)| page.as_ref().map(|_| *number))?;
        Some((found * PAGE_BYTES).max(offset)).filter(|at| *at < self.len)
    }

    /// First hole at or after `offset`; the end of the file counts as one.
    pub(super) fn seek_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let mut number = offset / PAGE_BYTES;
        while self.pages.get(&number).is_some_and(Option::is_some) {
            number += 1;
        }
        Some((number * PAGE_BYTES).max(offset).min(self.len))
    }
}

/// Page number, offset within it and length of each piece of a range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset.saturating_add(done as u64);
        let within = usize::try_from(at % PAGE_BYTES).expect("less than a page");
        let piece = (PAGE_LEN - within).min(len - done);
        done += piece;
        Some((at / PAGE_BYTES, within, piece))
    })
}
