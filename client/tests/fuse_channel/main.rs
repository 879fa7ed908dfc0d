//! The channel to the kernel, with real system calls, over a file system in memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test that they help"
)]

mod data;
mod ending;
mod handles;
mod harness;
mod locks;
mod memfs;
mod memlocks;
mod names;
