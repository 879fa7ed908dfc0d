//! The tests of the channel once more, on a mount where the kernel keeps all it may.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test that they help"
)]
#![expect(dead_code, reason = "leases are not revoked here")]

#[path = "../fuse_channel/data.rs"]
mod data;
#[path = "../fuse_channel/handles.rs"]
mod handles;
#[path = "../fuse_channel/harness.rs"]
mod harness;
#[path = "../fuse_channel/locks.rs"]
mod locks;
#[path = "../fuse_channel/memfs.rs"]
mod memfs;
#[path = "../fuse_channel/memleases.rs"]
mod memleases;
#[path = "../fuse_channel/memlocks.rs"]
mod memlocks;
#[path = "../fuse_channel/memstate.rs"]
mod memstate;
#[path = "../fuse_channel/names.rs"]
mod names;

/// What tests that do not care are mounted with.
const GRANTS: nacre_client::fuse::Grants = nacre_client::fuse::Grants::All;
