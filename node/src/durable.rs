//! Makes the stores' own syncs durable.
//!
//! sled 0.34 calls `sync_file_range` where it means `fdatasync`; that neither flushes the disk's
//! cache nor makes the length of a grown file durable, and loses acknowledged data when power
//! goes. This module defines the symbol, so that within the process it *is* `fdatasync`. Whoever
//! relies on it asks [`sync_calls`] whether the store under it really comes through here.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering};

static SYNC_CALLS: AtomicU64 = AtomicU64::new(0);

/// How many times something in this process called `sync_file_range` and got `fdatasync`.
pub fn sync_calls() -> u64 {
    // Keeps the definition below in every program that asks.
    std::hint::black_box(sync_file_range as extern "C" fn(c_int, i64, i64, c_uint) -> c_int);
    SYNC_CALLS.load(Ordering::Acquire)
}

/// In place of the C library's: flushes the whole file, and the disk's cache.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the symbol must have its C name to take the place of libc's")]
pub extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
    SYNC_CALLS.fetch_add(1, Ordering::AcqRel);
    // SAFETY: fdatasync reads no memory of ours, and answers EBADF for a number that is no file.
    unsafe { libc::fdatasync(fd) }
}
