//! Sets of byte ranges.

/// Most ranges that a set keeps apart; beyond, it becomes the range that spans them all.
const RANGES_MAX: usize = 64;

/// Ranges of bytes, each `start..end`, ascending, apart from each other.
///
/// Never holds less than what was put in, and at most [`RANGES_MAX`] ranges: a set that would
/// grow beyond becomes one range over all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// The range that spans all.
    pub(crate) fn hull(&self) -> Option<(u64, u64)> {
        Some((self.ranges.first()?.0, self.ranges.last()?.1))
    }

    pub(crate) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        // Those that touch become one with it.
        self.ranges.retain(|&(s, e)| {
            let apart = e < start || s > end;
            if !apart {
                start = start.min(s);
                end = end.max(e);
            }
            apart
        });
        let at = self.ranges.partition_point(|&(s, _)| s < start);
        self.ranges.insert(at, (start, end));
        if self.ranges.len() > RANGES_MAX {
            let last = self.ranges.last().map_or(end, |&(_, e)| e);
            let first = self.ranges.first().map_or(start, |&(s, _)| s);
            self.ranges = vec![(first, last)];
        }
    }

    pub(crate) fn insert_all(&mut self, other: &Self) {
        for (start, end) in other.iter() {
            self.insert(start, end);
        }
    }

    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start >= end || !self.overlaps(start, end) {
            return;
        }
        let mut left = Vec::with_capacity(self.ranges.len() + 1);
        for &(s, e) in &self.ranges {
            if e <= start || s >= end {
                left.push((s, e));
                continue;
            }
            if s < start {
                left.push((s, start));
            }
            if e > end {
                left.push((end, e));
            }
        }
        self.ranges = left;
    }

    /// Whether all of `start..end` is in the set.
    pub(crate) fn covers(&self, start: u64, end: u64) -> bool {
        start >= end || self.ranges.iter().any(|&(s, e)| s <= start && end <= e)
    }

    /// Whether any of `start..end` is in the set.
    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.ranges.iter().any(|&(s, e)| s < end && start < e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::default();
        for &(start, end) in ranges {
            set.insert(start, end);
        }
        set
    }

    #[test]
    fn touching_ranges_become_one() {
        assert_eq!(set(&[(8, 12), (0, 4), (4, 8)]).iter().collect::<Vec<_>>(), [(0, 12)]);
        assert_eq!(set(&[(0, 4), (8, 12), (2, 9)]).iter().collect::<Vec<_>>(), [(0, 12)]);
        assert_eq!(set(&[(0, 4), (8, 12)]).iter().count(), 2);
    }

    #[test]
    fn removal_splits() {
        let mut set = set(&[(0, 10), (20, 30)]);
        set.remove(4, 6);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(0, 4), (6, 10), (20, 30)]);
        set.remove(0, u64::MAX);
        assert!(set.is_empty());
    }

    #[test]
    fn a_set_with_too_many_ranges_covers_them_all() {
        let many: Vec<_> = (0..1000).map(|i| (i * 10, i * 10 + 1)).collect();
        let set = set(&many);
        assert!(set.iter().count() <= RANGES_MAX);
        for (start, end) in many {
            assert!(set.covers(start, end));
        }
    }
}
