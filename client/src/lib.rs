//! The client of a Nacre file system: everything a mount, a benchmark or a copy tool does to
//! files goes through [`Client`].
//!
//! Namespace operations are changes sent to the metadata server in numbered slots, so that each
//! takes effect exactly once though it may be sent many times (`mdc`). File data goes straight to
//! the object servers by the file's layout (`osc`), gathered behind the writer (`inode`, `dirty`)
//! and fetched ahead of the reader (`readahead`). Small files live in their inode.
//!
//! What the client is told it keeps for as long as it holds a lease on it (`cache`); without one it
//! asks each time, and writes through.

mod attr;
mod cache;
mod change;
pub mod client;
mod commit;
pub mod config;
mod copy;
mod dirty;
pub mod error;
mod flush;
pub mod fuse;
pub mod handle;
mod hsm;
pub mod hsm_json;
mod inode;
mod join;
mod journal;
pub mod layout_json;
mod lock;
mod mdc;
mod metrics;
mod namespace;
mod open;
mod osc;
mod place;
mod plan;
mod read;
mod readahead;
mod settle;
mod space;
mod takeover;
pub mod types;
mod write;
pub mod xattr;

pub use cache::KernelCache;
pub use client::Client;
pub use config::ClientConfig;
pub use error::ClientError;
pub use handle::OpenFile;
pub use journal::{Journal, JournalError};
pub use types::{
    AllocateMode, Caller, CreateKind, DirEntry, DirPage, LockHold, LockKind, LockMode, LockOwner,
    NewNode, OpenFlags, OstSpace, RenameFlags, SeekFrom, SetAttr, SetTime, StatFs, WriteFlags,
    XattrSet,
};

/// What every operation returns.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;
