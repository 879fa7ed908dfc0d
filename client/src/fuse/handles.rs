//! Numbers that the kernel calls open files and directories by.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nacre_model::Errno;
use parking_lot::RwLock;

/// Open files or directories by number. The kernel bounds them: they are its file descriptors.
#[derive(Debug)]
pub(super) struct Handles<T> {
    open: RwLock<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { open: RwLock::default(), next: AtomicU64::new(1) }
    }
}

impl<T> Handles<T> {
    /// A number for `value`, never given before.
    pub(super) fn insert(&self, value: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(value));
        number
    }

    /// `EBADF` for a number that is not open.
    pub(super) fn get(&self, number: u64) -> Result<Arc<T>, Errno> {
        self.open.read().get(&number).cloned().ok_or(Errno::EBADF)
    }

    /// Forgets the number. Requests that still use the value keep it.
    pub(super) fn remove(&self, number: u64) -> Option<Arc<T>> {
        self.open.write().remove(&number)
    }
}
