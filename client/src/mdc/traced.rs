//! Changes on behalf of a request that the kernel may send again, to another process.
//!
//! Which slot and xid such a change goes out with is noted before it is sent, and stands until the
//! request is answered. The next process sends it in the same slot with the same xid: either the
//! server never saw it, or it gives the answer that it gave before.

use std::sync::Arc;

use nacre_proto::v1::change_request::Op;
use tokio::time::Instant;

use super::slots::{Slot, Slots};
use crate::journal::{Entry, Record, Request};

/// A change that must not be made twice.
pub(super) struct Traced {
    request: Arc<Request>,
    kind: u64,
    handle: u64,
}

/// A slot for one change, and the note of it, which goes first.
pub(super) struct Taken {
    entry: Entry,
    pub(super) slot: Slot,
    request: Option<Arc<Request>>,
}

impl Taken {
    /// The change was answered, its request perhaps not.
    pub(super) fn answered(self) {
        let Self { entry, slot, request } = self;
        match request {
            Some(request) => request.keep(entry, slot),
            None => drop((entry, slot)),
        }
    }
}

/// Which of the changes it is that tell a second time from the first. The others say what shall be,
/// not what shall be done.
const fn kind(op: &Op) -> Option<u64> {
    match op {
        Op::Create(_) => Some(1),
        Op::Link(_) => Some(2),
        Op::Unlink(_) => Some(3),
        Op::Rmdir(_) => Some(4),
        Op::Rename(_) => Some(5),
        Op::Setattr(_) => Some(6),
        Op::Setxattr(_) => Some(7),
        Op::Removexattr(_) => Some(8),
        Op::WriteInline(_)
        | Op::Settle(_)
        | Op::Instantiate(_)
        | Op::Promote(_)
        | Op::SetLayout(_)
        | Op::Batch(_) => None,
    }
}

impl Traced {
    /// `None`: no request is waiting for it, or it is not the first change that it makes, or it may
    /// be made twice.
    pub(super) fn of(op: &Op) -> Option<Self> {
        let kind = kind(op)?;
        let request = Request::current().filter(|request| request.begins_change())?;
        let handle = if let Op::Create(op) = op { op.handle } else { 0 };
        Some(Self { request, kind, handle })
    }

    /// As the process before has sent it.
    fn again(&self, slots: &Arc<Slots>) -> Option<(Slot, Entry)> {
        let pick = |record: &Record| match record {
            Record::Change { kind, slot, xid, .. } if *kind == self.kind => Some((*slot, *xid)),
            Record::Change { .. }
            | Record::Open { .. }
            | Record::Append { .. }
            | Record::Dirty { .. } => None,
        };
        let ((slot, xid), entry) = self.request.take_before(pick)?;
        Some((slots.again(slot, xid)?, entry))
    }

    async fn take(self, slots: &Arc<Slots>) -> Taken {
        let (slot, entry) = if let Some(again) = self.again(slots) {
            again
        } else {
            let slot = slots.take_to_keep().await;
            let entry = self.request.note(Record::Change {
                request: self.request.number(),
                kind: self.kind,
                slot: slot.index,
                xid: slot.xid,
                handle: self.handle,
            });
            (slot, entry)
        };
        Taken { entry, slot, request: Some(self.request) }
    }
}

/// A slot for a change. `None`: none was free in time.
pub(super) async fn take(slots: &Arc<Slots>, op: &Op, until: Instant) -> Option<Taken> {
    let taking = async {
        match Traced::of(op) {
            Some(traced) => traced.take(slots).await,
            None => Taken { entry: Entry::default(), slot: slots.take().await, request: None },
        }
    };
    tokio::time::timeout_at(until, taking).await.ok()
}
