//! Properties of layout arithmetic.

use std::num::{NonZeroU16, NonZeroU64};

use nacre_model::layout::{EOF, STRIPE_SIZE_GRAIN};
use nacre_model::{Component, FileOffset, Layout, ObjectOffset, OstIndex, StripeIndex};
use proptest::prelude::*;

fn component() -> impl Strategy<Value = Component> {
    (1_u64..64, 1_u16..32).prop_map(|(grains, count)| Component {
        start: 0,
        end: EOF,
        stripe_size: NonZeroU64::new(grains * STRIPE_SIZE_GRAIN).expect("grains is not 0"),
        stripe_count: NonZeroU16::new(count).expect("count is not 0"),
        pool: String::new(),
        stripe_index: None,
        osts: (0..count).map(OstIndex).collect(),
        object_generation: 0,
    })
}

fn layout() -> impl Strategy<Value = Layout> {
    prop::collection::vec((component(), 1_u64..512), 1..5).prop_map(|parts| {
        let mut at = 0;
        let last = parts.len() - 1;
        let cut = |(n, (mut component, grains)): (usize, (Component, u64))| {
            component.start = at;
            component.end = if n == last { EOF } else { at + grains * STRIPE_SIZE_GRAIN };
            at = component.end;
            component
        };
        Layout { generation: 1, components: parts.into_iter().enumerate().map(cut).collect() }
    })
}

/// Mostly small, sometimes anywhere.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..1 << 28, 0..=u64::MAX >> 1]
}

proptest! {
    #[test]
    fn locate_has_an_inverse(component in component(), at in offset()) {
        let (stripe, within) = component.locate(FileOffset(at));
        prop_assert!(stripe.0 < component.stripe_count.get());
        prop_assert_eq!(component.file_offset(stripe, within), Some(FileOffset(at)));
    }

    #[test]
    fn every_object_byte_is_some_file_byte(
        component in component(),
        pick in any::<u16>(),
        within in 0_u64..1 << 40,
    ) {
        let stripe = StripeIndex(pick % component.stripe_count.get());
        let at = component.file_offset(stripe, ObjectOffset(within)).unwrap();
        prop_assert_eq!(component.locate(at), (stripe, ObjectOffset(within)));
    }

    #[test]
    fn pieces_cover_the_range_once_and_in_order(
        layout in layout(),
        start in 0_u64..1 << 28,
        len in 0_u64..1 << 26,
    ) {
        let mut at = start;
        for piece in layout.pieces(start, len) {
            prop_assert_eq!(piece.file_offset.0, at);
            prop_assert!(piece.len > 0);
            let component = &layout.components[usize::from(piece.component)];
            for probe in [at, at + piece.len - 1] {
                prop_assert!(component.start <= probe && probe < component.end);
                let (stripe, object) = component.locate(FileOffset(probe));
                prop_assert_eq!(stripe, piece.stripe);
                prop_assert_eq!(object.0, piece.object_offset.0 + (probe - at));
            }
            at += piece.len;
        }
        prop_assert_eq!(at, start + len);
    }

    #[test]
    fn object_sizes_and_file_size_agree(component in component(), size in 0_u64..1 << 30) {
        let stripes = (0..component.stripe_count.get()).map(StripeIndex);
        let lengths: Vec<u64> = stripes.clone().map(|s| component.object_size(s, size)).collect();
        prop_assert_eq!(lengths.iter().sum::<u64>(), size);
        let back = stripes.zip(lengths).map(|(s, len)| component.file_size(s, len)).max();
        prop_assert_eq!(back, Some(size));
    }
}

#[test]
fn a_range_that_no_component_reaches_has_no_pieces() {
    let layout = Layout { generation: 0, components: Vec::new() };
    assert_eq!(layout.pieces(0, 10).count(), 0);
}
