//! The bytes of a file that lives in its inode, kept under a lease: they came with an answer, or
//! went with a write.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::State;

/// Bytes of a file that lives in its inode.
#[derive(Debug)]
pub(super) struct Content {
    bytes: Bytes,
    data_version: u64,
    _room: OwnedSemaphorePermit,
}

impl State {
    /// Keeps the bytes of a file that lives in its inode, if there is room. They were asked for
    /// after so many `changes`. Called under a lease, for nobody else says when they change.
    pub(crate) fn keep_content(&mut self, bytes: &[u8], changes: u64, room: &Arc<Semaphore>) {
        if !self.inline || self.changes != changes || self.pending() {
            return;
        }
        let Ok(len) = u32::try_from(bytes.len()) else { return };
        let Ok(room) = Arc::clone(room).try_acquire_many_owned(len) else { return };
        // Copied, so that no larger buffer is kept alive.
        let bytes = Bytes::copy_from_slice(bytes);
        self.content = Some(Content { bytes, data_version: self.data_version, _room: room });
    }

    /// The bytes of a file that lives in its inode, if they are known. A hole at the end has none.
    pub(crate) fn content(&self) -> Option<Bytes> {
        let content = self.content.as_ref()?;
        let valid = content.data_version == self.data_version && self.inline;
        valid.then(|| content.bytes.clone())
    }
}
