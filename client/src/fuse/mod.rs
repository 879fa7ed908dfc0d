//! FUSE: our own channel to the kernel, and the client library behind it.
//!
//! ```text
//! serve ─► mount, init ─► channel ─► request ─► session, ops ─► fs: the client library
//!                            ▲                                        │
//!                            └──────────────── reply ◄────────────────┘
//! ```
//!
//! - [`Filesystem`] is all that the channel knows of what it serves.
//! - Node ids are inode numbers: nothing is remembered for the kernel.
//! - Each request has one `Reply`, which answers even when dropped.
//! - Nothing is valid in the kernel's caches for any time ([`Validity`]) until there are leases.
//!
//! Why not a library: `docs/adr/0002-own-fuse-channel.md`.

mod abi;
mod adapter;
mod buffer;
mod channel;
mod cursor;
mod device;
mod dirents;
mod dirstream;
mod encode;
mod flock_closes;
mod fs;
mod fusermount;
mod handles;
mod init;
mod interrupt;
mod metrics;
mod mount;
mod nodes;
mod ops;
mod options;
mod posix_holders;
mod readahead;
mod reply;
mod request;
mod serve;
mod session;

pub use fs::{Answering, Filesystem, Validity};
pub use init::InitError;
pub use mount::MountError;
pub use options::{LockScope, MountOptions};
pub use serve::{Ended, ServeError, mount_and_serve};
