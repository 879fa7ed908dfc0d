//! Which objects a range of a file is on, and in which requests it travels.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use nacre_model::layout::Piece;
use nacre_model::{Component, Fid, Layout, ObjectId, OstIndex, StripeIndex};

use crate::dirty::Taken;

/// One request's worth of an object: contiguous there, in pieces in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) object: ObjectId,
    pub(crate) ost: OstIndex,
    /// In the object.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Of the file, in the order in which they are in the object.
    pub(crate) pieces: Vec<Range<u64>>,
}

/// What a file range comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) runs: Vec<Run>,
    /// Part of the range has no objects yet.
    pub(crate) unplaced: bool,
    /// The range is mapped up to here; short of its end where no component reaches.
    pub(crate) end: u64,
}

/// Cuts `range` into requests of at most `rpc_bytes`, by object and ascending.
pub(crate) fn plan(layout: &Layout, fid: Fid, range: &Range<u64>, rpc_bytes: u64) -> Plan {
    let rpc_bytes = rpc_bytes.max(1);
    let mut open: BTreeMap<(u16, u16), Run> = BTreeMap::new();
    let mut out = Plan { end: range.start, ..Plan::default() };
    for piece in layout.pieces(range.start, range.end.saturating_sub(range.start)) {
        out.end = piece.file_offset.0.saturating_add(piece.len);
        let Some((object, ost)) = place(layout, fid, &piece) else {
            out.unplaced = true;
            continue;
        };
        let mut at = 0;
        while at < piece.len {
            let key = (object.component, object.stripe);
            let offset = piece.object_offset.0.saturating_add(at);
            let file = piece.file_offset.0.saturating_add(at);
            let run = open.entry(key).or_insert_with(|| Run {
                object,
                ost,
                offset,
                len: 0,
                pieces: Vec::new(),
            });
            let len = (piece.len - at).min(rpc_bytes.saturating_sub(run.len));
            run.pieces.push(file..file.saturating_add(len));
            run.len = run.len.saturating_add(len);
            at = at.saturating_add(len);
            if run.len >= rpc_bytes {
                out.runs.extend(open.remove(&key));
            }
        }
    }
    out.runs.extend(open.into_values());
    out
}

fn place(layout: &Layout, fid: Fid, piece: &Piece) -> Option<(ObjectId, OstIndex)> {
    let component = layout.components.get(usize::from(piece.component))?;
    let ost = component.osts.get(usize::from(piece.stripe.0))?;
    let object = ObjectId {
        fid,
        component: piece.component,
        stripe: piece.stripe.0,
        generation: component.object_generation,
    };
    Some((object, *ost))
}

/// The part of each object of a component that a file range covers: `(stripe, from, to)`.
pub(crate) fn object_ranges(
    component: &Component,
    range: &Range<u64>,
) -> impl Iterator<Item = (StripeIndex, u64, u64)> {
    let start = range.start.max(component.start);
    let end = range.end.min(component.end);
    (0..component.stripe_count.get()).filter_map(move |stripe| {
        let stripe = StripeIndex(stripe);
        let from = component.object_size(stripe, start);
        let to = component.object_size(stripe, end);
        (start < end && from < to).then_some((stripe, from, to))
    })
}

/// The bytes of a run out of the contiguous file run that holds all its pieces.
pub(crate) fn gather(run: &Run, from: &Taken) -> Vec<Bytes> {
    let mut out = Vec::new();
    for piece in &run.pieces {
        let mut at = from.offset;
        for segment in &from.segments {
            let end = at.saturating_add(segment.len() as u64);
            let (start, until) = (piece.start.max(at), piece.end.min(end));
            if start < until {
                let cut = |offset: u64| usize::try_from(offset.saturating_sub(at)).unwrap_or(0);
                out.push(segment.slice(cut(start)..cut(until)));
            }
            at = end;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroU64};

    use nacre_model::layout::EOF;

    use super::*;

    fn layout(count: u16) -> Layout {
        let component = |start, end, osts: Vec<OstIndex>| Component {
            start,
            end,
            stripe_size: NonZeroU64::new(10).unwrap(),
            stripe_count: NonZeroU16::new(count).unwrap(),
            pool: String::new(),
            stripe_index: None,
            osts,
            object_generation: 1,
        };
        let osts = (0..count).map(OstIndex).collect();
        Layout {
            generation: 1,
            components: vec![component(0, 100, osts), component(100, EOF, vec![])],
        }
    }

    #[test]
    fn stripes_that_follow_each_other_in_an_object_travel_together() {
        let plan = plan(&layout(2), Fid::ROOT, &(5..45), 1000);
        let runs: Vec<_> = plan
            .runs
            .iter()
            .map(|r| (r.object.stripe, r.offset, r.len, r.pieces.clone()))
            .collect();
        assert_eq!(
            runs,
            [(0, 5, 20, vec![5..10, 20..30, 40..45]), (1, 0, 20, vec![10..20, 30..40])]
        );
        assert!(!plan.unplaced);
        assert_eq!(plan.end, 45);
    }

    #[test]
    fn requests_are_bounded_and_holes_are_told() {
        let plan = plan(&layout(1), Fid::ROOT, &(80..130), 15);
        assert!(plan.unplaced);
        assert_eq!(plan.end, 130);
        let lens: Vec<_> = plan.runs.iter().map(|run| (run.offset, run.len)).collect();
        assert_eq!(lens, [(80, 15), (95, 5)]);
    }

    #[test]
    fn a_run_gathers_its_pieces_from_segments() {
        let taken = Taken {
            offset: 5,
            segments: vec![
                Bytes::from((5..17).collect::<Vec<u8>>()),
                (17..45).collect::<Vec<u8>>().into(),
            ],
            len: 40,
        };
        let plan = plan(&layout(2), Fid::ROOT, &taken.range(), 1000);
        for run in &plan.runs {
            let want: Vec<u8> = run
                .pieces
                .iter()
                .flat_map(|p| p.clone().map(|b| u8::try_from(b).unwrap()))
                .collect();
            assert_eq!(gather(run, &taken).concat(), want);
        }
    }

    #[test]
    fn object_ranges_cover_a_file_range_exactly() {
        let layout = layout(3);
        let component = layout.components.first().unwrap();
        let ranges: Vec<_> = object_ranges(component, &(15..65)).collect();
        let total: u64 = ranges.iter().map(|(_, from, to)| to - from).sum();
        assert_eq!(total, 50);
        assert_eq!(
            ranges,
            [(StripeIndex(0), 10, 25), (StripeIndex(1), 5, 20), (StripeIndex(2), 0, 20)]
                .map(|(s, a, b)| (s, a, b))
        );
    }
}
