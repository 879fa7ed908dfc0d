//! Snapshots: whole states of the store, from which and the log behind it a store that was lost
//! is rebuilt.
//!
//! The store has no versions, so a snapshot is fuzzy: an ordered scan while commands go on, and
//! behind it the changes of every group applied since the scan began. Changes are physical, so
//! applying them over whatever the scan caught gives the state after the last of them.

mod format;
mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use nacre_node::Disk;

pub use read::{clear, restore};
pub use write::SnapshotWriter;

use crate::store::StoreError;

/// How many snapshots are kept: the newest may turn out to be damaged.
pub const KEPT: usize = 2;
const SUFFIX: &str = ".snap";

/// A snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error("snapshot: {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("snapshot: {path} is damaged at byte {offset}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The store under it.
    #[error("snapshot")]
    Store(#[from] StoreError),
    /// The log could not be synced before it.
    #[error("snapshot")]
    Log(#[from] crate::log::LogError),
    /// The engine stopped meanwhile.
    #[error("snapshot: the engine is stopping")]
    Stopped,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { what, path, source }
}

fn path_of(dir: &Path, applied: u64) -> PathBuf {
    dir.join(format!("{applied:016x}{SUFFIX}"))
}

/// Applied indexes of the snapshots in `dir`, ascending; none if there is no such folder.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, SnapshotError> {
    if !disk.exists(dir).map_err(io_error("look for", dir))? {
        return Ok(Vec::new());
    }
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let hex = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
    let mut all: Vec<u64> = hex.filter_map(|hex| u64::from_str_radix(hex, 16).ok()).collect();
    all.sort_unstable();
    Ok(all)
}
