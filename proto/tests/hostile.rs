//! Whatever a peer sends, decoding and conversion give a value or an error, never a panic.

use nacre_model::{Attr, ClusterMap, Layout, LayoutTemplate, ObjectId};
use nacre_proto::v1;
use proptest::prelude::*;
use prost::Message;

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = v1::ChangeRequest::decode(bytes.as_slice());
        let _ = v1::WriteRequest::decode(bytes.as_slice());
        let _ = v1::RegisterRequest::decode(bytes.as_slice());
        if let Ok(wire) = v1::ClusterMap::decode(bytes.as_slice()) {
            let _ = ClusterMap::try_from(wire);
        }
        if let Ok(wire) = v1::Layout::decode(bytes.as_slice()) {
            let _ = Layout::try_from(wire);
        }
        if let Ok(wire) = v1::LayoutTemplate::decode(bytes.as_slice()) {
            let _ = LayoutTemplate::try_from(wire);
        }
        if let Ok(wire) = v1::Attr::decode(bytes.as_slice()) {
            let _ = Attr::try_from(wire);
        }
    }

    #[test]
    fn a_believed_layout_is_whole(
        parts in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), 0_u32..4), 0..20),
    ) {
        let components = parts.iter().map(|&(start, end, stripe_size, stripe_count, osts)| {
            v1::Component { start, end, stripe_size, stripe_count, osts: vec![0; osts as usize], ..Default::default() }
        });
        let wire = v1::Layout { generation: 1, components: components.collect() };
        if let Ok(layout) = Layout::try_from(wire) {
            let mut at = 0;
            for component in &layout.components {
                prop_assert_eq!(component.start, at);
                prop_assert!(component.end > at);
                at = component.end;
                let stripes = usize::from(component.stripe_count.get());
                prop_assert!(component.osts.is_empty() || component.osts.len() == stripes);
            }
            // Every piece is inside the range that was asked for.
            let total: u64 = layout.pieces(0, 1 << 20).take(100).map(|p| p.len).sum();
            prop_assert!(total <= 1 << 20);
        }
    }
}

#[test]
fn object_ids_out_of_range_are_refused() {
    let fid = Some(v1::Fid { seq: 1, oid: 2, ver: 0 });
    let wire = v1::ObjectId { fid, component: 1 << 16, stripe: 0, generation: 0 };
    assert!(ObjectId::try_from(wire).is_err());
    assert!(ObjectId::try_from(v1::ObjectId::default()).is_err(), "a fid is required");
}
