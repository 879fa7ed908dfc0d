//! FUSE: our own channel to the kernel, and the client library behind it.
//!
//! ```text
//! serve ─► mount, init ─► channel ─► request ─► session, ops ─► fs: the client library
//!                            ▲                                        │
//!                            └──────────────── reply ◄────────────────┘
//! ```
//!
//! - [`Filesystem`] is all that the channel knows of what it serves.
//! - Node ids are inode numbers; of what the kernel knows only their count is remembered, and only
//!   where it may keep something.
//! - Each request has one `Reply`, which answers even when dropped.
//! - The kernel keeps what there is a lease for ([`Leases`]) until it is told to forget ([`Notifier`]).
//!
//! Why not a library: `docs/adr/0002-own-fuse-channel.md`.

mod abi;
mod adapter;
mod answer;
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
mod judge;
mod kept;
mod known;
mod lease;
mod leased;
mod linking;
mod listing;
mod metrics;
mod mount;
mod nodes;
mod notifier;
mod ops;
mod options;
mod posix_holders;
mod readahead;
mod reply;
mod request;
mod serve;
mod session;
mod unleased;

pub use device::Queues;
pub use fs::{Answering, Filesystem, Inherited, InheritedFile};
pub use init::InitError;
pub use lease::{Grants, Leases, NoLeases, Stamp};
pub use mount::MountError;
pub use notifier::Notifier;
pub use options::{LockScope, MountOptions};
pub use serve::{Ended, ServeError, mount_and_serve, serve};
