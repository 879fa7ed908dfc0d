//! All objects that the metadata knows of.

use nacre_model::{ObjectId, OstIndex};
use nacre_proto::v1;

use super::for_each;
use crate::namespace::NsError;
use crate::record::{Body, Inode, Record, WorkItem, key as keys, key::kind, narrow, osts};
use crate::store::View;

/// What the metadata wants of an object. Any of them may not exist yet, or any more: the first
/// write creates an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectState {
    /// Holds data of a file.
    Live,
    /// Reserved by a promotion or a restore that has not been committed.
    Pending,
    /// Shall be destroyed, by a work record.
    Doomed,
}

/// Visits all objects that may be on OSTs. One that is not visited is a leak.
pub fn objects(
    view: &dyn View,
    visit: &mut dyn FnMut(ObjectId, OstIndex, ObjectState),
) -> Result<(), NsError> {
    for_each(view, kind::INODE, &mut |key, value| {
        let fid = keys::fid_of(key, kind::INODE)?;
        if let Body::File(file) = Inode::decode(fid, value)?.body {
            for (id, ost, _) in file.layout(0).objects(fid) {
                visit(id, ost, ObjectState::Live);
            }
            if let Some(pending) = file.pending {
                let generation = pending.object_generation;
                for (stripe, ost) in (0_u16..).zip(pending.osts) {
                    let id = ObjectId { fid, component: 0, stripe, generation };
                    visit(id, ost, ObjectState::Pending);
                }
            }
        }
        Ok(())
    })?;
    for_each(view, kind::HSM, &mut |key, value| {
        let fid = keys::fid_of(key, kind::HSM)?;
        let row = v1::HsmRecord::decode(value)?;
        let generation = row.object_generation;
        for part in row.restoring {
            let component = narrow("component", part.component)?;
            for (stripe, ost) in (0_u16..).zip(osts(part.osts)?) {
                let id = ObjectId { fid, component, stripe, generation };
                visit(id, ost, ObjectState::Pending);
            }
        }
        Ok(())
    })?;
    for_each(view, kind::WORK, &mut |_, value| {
        let item = WorkItem::decode(value)?;
        if item.sizes.is_empty() {
            for (id, ost) in item.objects() {
                visit(id, ost, ObjectState::Doomed);
            }
        }
        Ok(())
    })
}
