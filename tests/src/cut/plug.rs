//! The plug that is pulled: after so many calls of the disk, or at one of its syncs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nacre_node::disk::mem::{DiskCall, MemDisk};

/// When power goes, counted from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// At the n-th changing call.
    Call(u64),
    /// At the n-th call that makes something durable, which then does not.
    Sync(u64),
    /// Not at all.
    Never,
}

/// Says whether it has been pulled.
#[derive(Debug, Clone, Default)]
pub struct Plug {
    off: Arc<AtomicBool>,
}

impl Plug {
    /// To be pulled at `cut`: that changing call fails, and every later one.
    pub fn of(disk: &MemDisk, cut: Cut) -> Self {
        let plug = Self::default();
        let off = Arc::clone(&plug.off);
        let mut left = match cut {
            Cut::Call(left) | Cut::Sync(left) => left,
            Cut::Never => u64::MAX,
        };
        disk.set_fault(Some(Box::new(move |_, call| {
            let counts = match cut {
                Cut::Call(_) => true,
                Cut::Sync(_) => {
                    matches!(call, DiskCall::SyncData | DiskCall::SyncDir | DiskCall::SyncAll)
                }
                Cut::Never => false,
            };
            if counts && left == 0 {
                off.store(true, Ordering::Release);
            }
            left = left.saturating_sub(u64::from(counts));
            off.load(Ordering::Acquire).then(|| io::Error::from_raw_os_error(libc::EIO))
        })));
        plug
    }

    /// Whether power is off.
    pub fn is_pulled(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }
}
