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
    /// Numbers from here on: those below may be another process's.
    pub(super) fn starting_at(first: u64) -> Self {
        Self { open: RwLock::default(), next: AtomicU64::new(first.max(1)) }
    }

    /// Under a number that the file system gave.
    pub(super) fn insert_as(&self, number: u64, value: T) {
        self.open.write().insert(number, Arc::new(value));
    }

    /// What has the number, or, under a number that another process gave, something new.
    pub(super) fn get_or(&self, number: u64, new: impl FnOnce() -> T) -> Arc<T> {
        if let Ok(open) = self.get(number) {
            return open;
        }
        Arc::clone(self.open.write().entry(number).or_insert_with(|| Arc::new(new())))
    }

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
