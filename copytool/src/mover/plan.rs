//! How a file is cut, and which piece comes next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::MoveError;
use crate::bucket::PARTS_MAX;

/// Bytes of a piece: of a range that is downloaded, of a part that is uploaded if the file has
/// not too many. A file that is no larger goes up in one request.
pub const PIECE_BYTES: u64 = 8 << 20;

/// Bytes of the largest object.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// What the size of parts is rounded up to.
const PART_STEP: u64 = 1 << 20;

/// Ranges that are remembered as wanted.
const WANTED_MAX: usize = 64;

/// Parts of a file of that size: each is its number and its range.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    bytes: u64,
    part_bytes: u64,
    next: i32,
    start: u64,
}

impl Parts {
    pub(super) fn of(bytes: u64) -> Result<Self, MoveError> {
        if bytes > OBJECT_BYTES_MAX {
            return Err(MoveError::TooLarge { bytes });
        }
        let least = bytes.div_ceil(u64::from(PARTS_MAX));
        let part_bytes = least.next_multiple_of(PART_STEP).max(PIECE_BYTES);
        Ok(Self { bytes, part_bytes, next: 1, start: 0 })
    }

    pub(super) const fn part_bytes(&self) -> u64 {
        self.part_bytes
    }
}

impl Iterator for Parts {
    type Item = (i32, Range<u64>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.start >= self.bytes {
            return None;
        }
        let range = self.start..self.start.saturating_add(self.part_bytes).min(self.bytes);
        let number = self.next;
        self.start = range.end;
        self.next = number.saturating_add(1);
        Some((number, range))
    }
}

/// Ranges that somebody waits for, to be downloaded before others. A hint: of more than 64 the
/// oldest are forgotten, and come with everything else. Clones share the ranges.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    ranges: Arc<Mutex<VecDeque<Range<u64>>>>,
}

impl Wanted {
    /// Somebody waits for these bytes.
    pub fn want(&self, range: Range<u64>) {
        let mut ranges = self.ranges.lock();
        if ranges.len() >= WANTED_MAX {
            ranges.pop_front();
        }
        ranges.push_back(range);
    }
}

/// Pieces of an object that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Untaken {
    bytes: u64,
    /// By the index of the piece.
    taken: Vec<bool>,
    /// All before it are taken.
    first: usize,
}

impl Untaken {
    pub(super) fn of(bytes: u64) -> Result<Self, MoveError> {
        let pieces = bytes.div_ceil(PIECE_BYTES);
        let pieces = usize::try_from(pieces).ok().filter(|_| bytes <= OBJECT_BYTES_MAX);
        let taken = vec![false; pieces.ok_or(MoveError::TooLarge { bytes })?];
        Ok(Self { bytes, taken, first: 0 })
    }

    /// Takes a piece: one that is wanted, else the first.
    pub(super) fn take(&mut self, wanted: &Wanted) -> Option<Range<u64>> {
        let index = self.wanted(wanted).or_else(|| self.untaken(self.first, self.taken.len()))?;
        *self.taken.get_mut(index)? = true;
        while self.taken.get(self.first) == Some(&true) {
            self.first = self.first.saturating_add(1);
        }
        let start = u64::try_from(index).ok()?.checked_mul(PIECE_BYTES)?;
        Some(start..start.saturating_add(PIECE_BYTES).min(self.bytes))
    }

    /// The first piece of what is wanted longest; forgets what is wanted and all taken.
    fn wanted(&self, wanted: &Wanted) -> Option<usize> {
        let mut ranges = wanted.ranges.lock();
        while let Some(range) = ranges.front() {
            let from = usize::try_from(range.start / PIECE_BYTES).unwrap_or(usize::MAX);
            let to = usize::try_from(range.end.div_ceil(PIECE_BYTES)).unwrap_or(usize::MAX);
            if let Some(index) = self.untaken(from, to) {
                return Some(index);
            }
            ranges.pop_front();
        }
        None
    }

    fn untaken(&self, from: usize, to: usize) -> Option<usize> {
        let pieces = self.taken.get(from..to.min(self.taken.len()))?;
        pieces.iter().position(|taken| !taken).and_then(|within| from.checked_add(within))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(bytes: u64) -> (u64, usize) {
        let parts = Parts::of(bytes).unwrap();
        (parts.part_bytes(), parts.count())
    }

    #[test]
    fn a_file_of_10_001_pieces_gets_larger_parts() {
        assert_eq!(parts(10_000 * PIECE_BYTES), (PIECE_BYTES, 10_000));
        // 10,001 pieces of 8 MiB are 8,890 of 9 MiB.
        assert_eq!(parts(10_001 * PIECE_BYTES), (9 << 20, 8_890));
        assert_eq!(parts(10_000 * PIECE_BYTES + 1), (9 << 20, 8_889));
        assert_eq!(parts(PIECE_BYTES + 1), (PIECE_BYTES, 2));
    }

    #[test]
    fn the_largest_object_fits_and_the_next_does_not() {
        let (part_bytes, count) = parts(OBJECT_BYTES_MAX);
        assert!(part_bytes <= 5 << 30 && count <= 10_000, "{part_bytes} {count}");
        let error = Parts::of(OBJECT_BYTES_MAX + 1).unwrap_err();
        assert!(matches!(error, MoveError::TooLarge { .. }));
        assert!(Untaken::of(OBJECT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn what_is_wanted_comes_first() {
        let wanted = Wanted::default();
        let mut untaken = Untaken::of(5 * PIECE_BYTES - 1).unwrap();
        let mut take = || untaken.take(&wanted).map(|range| range.start / PIECE_BYTES);
        assert_eq!(take(), Some(0));
        // Across two pieces, and behind the end.
        wanted.want(3 * PIECE_BYTES - 1..3 * PIECE_BYTES + 1);
        wanted.want(9 * PIECE_BYTES..u64::MAX);
        wanted.want(0..1);
        assert_eq!(
            [take(), take(), take(), take(), take()],
            [Some(2), Some(3), Some(1), Some(4), None]
        );
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_once(bytes in 0..OBJECT_BYTES_MAX) {
            let parts: Vec<_> = Parts::of(bytes).unwrap().collect();
            prop_assert!(parts.len() <= 10_000);
            let mut end = 0;
            for (index, (number, range)) in parts.iter().enumerate() {
                prop_assert_eq!(usize::try_from(*number).unwrap(), index + 1);
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start);
                end = range.end;
            }
            prop_assert_eq!(end, bytes);
        }

        #[test]
        fn every_piece_is_taken_once_whatever_is_wanted(
            bytes in 0..100 * PIECE_BYTES,
            wants in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..100),
        ) {
            let wanted = Wanted::default();
            let mut untaken = Untaken::of(bytes).unwrap();
            let mut wants = wants.into_iter();
            let mut taken = Vec::new();
            loop {
                if let Some((start, length)) = wants.next() {
                    let start = start % (bytes + 1);
                    wanted.want(start..start.saturating_add(length % (4 * PIECE_BYTES)));
                }
                match untaken.take(&wanted) {
                    Some(range) => taken.push(range),
                    None => break,
                }
            }
            taken.sort_by_key(|range| range.start);
            let mut end = 0;
            for range in taken {
                prop_assert_eq!(range.start, end);
                end = range.end;
            }
            prop_assert_eq!(end, bytes);
        }
    }
}
