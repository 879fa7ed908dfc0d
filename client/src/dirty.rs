//! Bytes written by the application and not yet sent: runs that neither overlap nor touch.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Writes shorter than this are copied together; longer ones are kept as they came.
const COPY_BELOW: usize = 64 << 10;
/// A segment that gathers small writes grows to this and no further.
const GATHER_BYTES: usize = 1 << 20;

/// Written and not sent.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    runs: BTreeMap<u64, Run>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Run {
    segments: VecDeque<Segment>,
    len: u64,
}

#[derive(Debug)]
enum Segment {
    Whole(Bytes),
    /// Small writes are still being appended.
    Growing(BytesMut),
}

/// A contiguous run taken out for sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) offset: u64,
    pub(crate) segments: Vec<Bytes>,
    pub(crate) len: u64,
}

impl Taken {
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.len)
    }
}

fn wide(len: usize) -> u64 {
    len as u64
}

/// Lengths of parts of a `Bytes` fit what its length fits.
fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => wide(bytes.len()),
            Self::Growing(bytes) => wide(bytes.len()),
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Growing(bytes) => bytes.freeze(),
        }
    }
}

impl Run {
    fn push(&mut self, data: Bytes) {
        self.len = self.len.saturating_add(wide(data.len()));
        if data.len() >= COPY_BELOW {
            self.segments.push_back(Segment::Whole(data));
            return;
        }
        match self.segments.back_mut() {
            Some(Segment::Growing(tail)) if tail.len() + data.len() <= GATHER_BYTES => {
                tail.extend_from_slice(&data);
            }
            Some(Segment::Growing(_) | Segment::Whole(_)) | None => {
                // Copied, so that a small write never keeps a large buffer alive.
                self.segments.push_back(Segment::Growing(BytesMut::from(&*data)));
            }
        }
    }

    fn append(&mut self, other: Self) {
        self.len = self.len.saturating_add(other.len);
        self.segments.extend(other.segments);
    }

    /// Cuts off and returns everything from `at` on.
    fn split_off(&mut self, at: u64) -> Self {
        let mut tail = Self::default();
        let mut before = self.len;
        while before > at {
            let Some(segment) = self.segments.pop_back() else { break };
            let start = before.saturating_sub(segment.len());
            tail.len = tail.len.saturating_add(before.saturating_sub(start.max(at)));
            if start < at {
                let mut left = segment.freeze();
                let right = left.split_off(narrow(at.saturating_sub(start)));
                tail.segments.push_front(Segment::Whole(right));
                self.segments.push_back(Segment::Whole(left));
            } else {
                tail.segments.push_front(segment);
            }
            before = start.max(at).min(before);
            if start < at {
                break;
            }
        }
        self.len = self.len.min(at);
        tail
    }
}

impl Dirty {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Number of separate runs.
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// End of the last run; 0 without any.
    pub(crate) fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(start, run)| start.saturating_add(run.len))
    }

    /// From the first dirty byte to behind the last.
    pub(crate) fn span(&self) -> Option<Range<u64>> {
        self.runs.first_key_value().map(|(start, _)| *start..self.end())
    }

    /// Whether any byte of the range is dirty.
    pub(crate) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.runs
            .range(..range.end)
            .next_back()
            .is_some_and(|(start, run)| start.saturating_add(run.len) > range.start)
    }

    /// Writes over whatever is there; returns how many dirty bytes were displaced.
    pub(crate) fn insert(&mut self, offset: u64, data: Bytes) -> u64 {
        let len = wide(data.len());
        if len == 0 {
            return 0;
        }
        let end = offset.saturating_add(len);
        let displaced = if self.overlaps(&(offset..end)) {
            self.take(&(offset..end)).iter().map(|taken| taken.len).sum()
        } else {
            0
        };
        self.bytes = self.bytes.saturating_add(len);
        let (start, mut run) = match self.runs.range(..=offset).next_back() {
            Some((start, run)) if start.saturating_add(run.len) == offset => {
                let start = *start;
                (start, self.runs.remove(&start).unwrap_or_default())
            }
            Some(_) | None => (offset, Run::default()),
        };
        run.push(data);
        if let Some(next) = self.runs.remove(&end) {
            run.append(next);
        }
        self.runs.insert(start, run);
        displaced
    }

    /// Puts back what could not be sent. Nothing can have been written there since: writers wait
    /// for what is on its way.
    pub(crate) fn put_back(&mut self, taken: Taken) {
        let mut offset = taken.offset;
        for segment in taken.segments {
            let len = wide(segment.len());
            self.insert(offset, segment);
            offset = offset.saturating_add(len);
        }
    }

    /// Takes out what is dirty in the range, ascending.
    pub(crate) fn take(&mut self, range: &Range<u64>) -> Vec<Taken> {
        let mut out = Vec::new();
        let first = self.runs.range(..=range.start).next_back().map(|(start, _)| *start);
        let mut at = first.unwrap_or(range.start);
        while let Some((&start, _)) = self.runs.range(at..range.end).next() {
            let Some(mut run) = self.runs.remove(&start) else { break };
            at = start.saturating_add(1);
            let end = start.saturating_add(run.len);
            if end <= range.start {
                self.runs.insert(start, run);
                continue;
            }
            let tail = run.split_off(range.end.saturating_sub(start).min(run.len));
            if tail.len > 0 {
                self.runs.insert(range.end, tail);
            }
            let offset = start.max(range.start);
            let middle = run.split_off(offset.saturating_sub(start));
            if run.len > 0 {
                self.runs.insert(start, run);
            }
            self.bytes = self.bytes.saturating_sub(middle.len);
            let len = middle.len;
            let segments = middle.segments.into_iter().map(Segment::freeze).collect();
            out.push(Taken { offset, segments, len });
        }
        out
    }

    /// Takes out what is worth sending already: of every run the part up to the last multiple of
    /// `grain` that it reaches, unless that is less than one grain.
    pub(crate) fn take_full(&mut self, grain: u64) -> Vec<Taken> {
        let grain = grain.max(1);
        let full: Vec<_> = self
            .runs
            .iter()
            .filter_map(|(start, run)| {
                let end = start.saturating_add(run.len);
                let until = end - end % grain;
                (until > *start && (run.len >= grain || start % grain == 0))
                    .then_some(*start..until)
            })
            .collect();
        full.iter().flat_map(|range| self.take(range)).collect()
    }

    /// Everything.
    pub(crate) fn take_all(&mut self) -> Vec<Taken> {
        self.take(&(0..u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(taken: &[Taken]) -> Vec<(u64, Vec<u8>)> {
        taken.iter().map(|t| (t.offset, t.segments.concat())).collect()
    }

    #[test]
    fn touching_writes_become_one_run_and_gaps_stay() {
        let mut dirty = Dirty::default();
        dirty.insert(10, Bytes::from_static(b"cd"));
        dirty.insert(8, Bytes::from_static(b"ab"));
        dirty.insert(20, Bytes::from_static(b"z"));
        assert_eq!(dirty.bytes(), 5);
        let all = flat(&dirty.take_all());
        assert_eq!(all, [(8, b"abcd".to_vec()), (20, b"z".to_vec())]);
        assert!(dirty.is_empty());
        assert_eq!(dirty.bytes(), 0);
    }

    #[test]
    fn only_whole_grains_are_full() {
        let mut dirty = Dirty::default();
        dirty.insert(0, Bytes::from(vec![1; 10]));
        dirty.insert(13, Bytes::from(vec![2; 3]));
        let full = dirty.take_full(4);
        assert_eq!(full.iter().map(|t| (t.offset, t.len)).collect::<Vec<_>>(), [(0, 8)]);
        assert_eq!(dirty.bytes(), 5);
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_of_bytes_holds(
            ops in prop::collection::vec((any::<bool>(), 0_u64..200, 1_usize..60), 1..40)
        ) {
            let mut dirty = Dirty::default();
            let mut model = BTreeMap::new();
            for (i, (write, offset, len)) in ops.into_iter().enumerate() {
                let range = offset..offset + len as u64;
                if write {
                    let byte = u8::try_from(i).unwrap();
                    let before = range.clone().filter(|at| model.contains_key(at)).count() as u64;
                    let displaced = dirty.insert(offset, Bytes::from(vec![byte; len]));
                    prop_assert_eq!(displaced, before);
                    model.extend(range.map(|at| (at, byte)));
                } else {
                    prop_assert_eq!(
                        dirty.overlaps(&range),
                        range.clone().any(|at| model.contains_key(&at))
                    );
                    for (start, bytes) in flat(&dirty.take(&range)) {
                        for (at, byte) in (start..).zip(bytes) {
                            prop_assert!(range.contains(&at));
                            prop_assert_eq!(model.remove(&at), Some(byte));
                        }
                    }
                    prop_assert!(!range.clone().any(|at| model.contains_key(&at)));
                }
                prop_assert_eq!(dirty.bytes(), model.len() as u64);
            }
            let rest = flat(&dirty.take_all());
            let rest: BTreeMap<_, _> =
                rest.into_iter().flat_map(|(start, bytes)| (start..).zip(bytes)).collect();
            prop_assert_eq!(rest, model);
        }
    }
}
