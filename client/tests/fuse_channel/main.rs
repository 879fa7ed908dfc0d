//! The channel to the kernel, with real system calls, over a file system in memory.
//!
//! What must work with leases and without is tested a second time in `fuse_channel_leased`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test that they help"
)]

mod data;
mod ending;
mod handles;
mod harness;
mod leases;
mod locks;
mod mapping;
mod measure;
mod memfs;
mod memleases;
mod memlocks;
mod memstate;
mod names;
mod remote;
mod revocations;

/// What tests that do not care are mounted with.
const GRANTS: nacre_client::fuse::Grants = nacre_client::fuse::Grants::Nothing;
