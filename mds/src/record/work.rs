//! Work for OSTs: one row for each component of a file that a change left objects of.

use nacre_model::{Fid, ObjectId, OstIndex};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use super::{BadRecord, Record, decode_message, encode_message, narrow, osts, wire_osts};
use crate::command::Work;

/// What the OSTs shall do with one object set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkItem {
    /// Whose objects.
    pub fid: Fid,
    /// Component of the layout.
    pub component: u16,
    /// Generation of the set.
    pub object_generation: u32,
    /// Where, by stripe.
    pub osts: Vec<OstIndex>,
    /// What.
    pub kind: v1::WorkKind,
    /// Of truncate: sizes, by stripe.
    pub sizes: Vec<u64>,
}

impl WorkItem {
    /// The objects, in stripe order.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectId, OstIndex)> + '_ {
        (0_u16..).zip(&self.osts).map(|(stripe, ost)| {
            let (fid, component, generation) = (self.fid, self.component, self.object_generation);
            (ObjectId { fid, component, stripe, generation }, *ost)
        })
    }

    /// In the command's words.
    pub fn work(&self) -> Work {
        let tombstone = match self.kind {
            v1::WorkKind::Truncate => {
                let sized = self.objects().zip(&self.sizes);
                return Work::Truncate {
                    objects: sized.map(|((id, ost), size)| (id, ost, *size)).collect(),
                };
            }
            v1::WorkKind::DestroyTombstone => true,
            v1::WorkKind::Destroy | v1::WorkKind::Unspecified => false,
        };
        Work::Destroy { objects: self.objects().collect(), tombstone }
    }
}

impl Record for WorkItem {
    fn encode(&self) -> Vec<u8> {
        encode_message(&v1::WorkRecord {
            fid: Some(self.fid.into()),
            component: self.component.into(),
            object_generation: self.object_generation,
            osts: wire_osts(&self.osts),
            kind: self.kind as i32,
            sizes: self.sizes.clone(),
        })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let wire: v1::WorkRecord = decode_message(bytes)?;
        let (value, kind) = (wire.kind, wire.kind());
        let sizes = match kind {
            v1::WorkKind::Unspecified => {
                return Err(BadMessage::UnknownEnum { field: "kind", value }.into());
            }
            v1::WorkKind::Truncate => wire.osts.len(),
            v1::WorkKind::Destroy | v1::WorkKind::DestroyTombstone => 0,
        };
        if wire.sizes.len() != sizes {
            let value = wire.sizes.len() as u64;
            return Err(BadMessage::Range { field: "sizes", value }.into());
        }
        Ok(Self {
            fid: required("fid", wire.fid)?.into(),
            component: narrow("component", wire.component)?,
            object_generation: wire.object_generation,
            osts: osts(wire.osts)?,
            kind,
            sizes: wire.sizes,
        })
    }
}
