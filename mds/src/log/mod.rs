//! The log: every change of the state, in order, in preallocated segments.
//!
//! A record is with the operating system after [`Log::commit`] and on the disk after
//! [`LogSync::sync`]. Between two syncs a power cut may keep any of the pages written, so a bad
//! record before a good one is not yet a sign of damage. Therefore each record also says which
//! index was known to be durable when it was written: a bad record that a later one calls
//! durable is [`LogError::Damaged`]; any other bad record begins the torn tail, which recovery
//! cuts off and zeroes before anything new is written behind it.

mod record;
mod recover;
mod segment;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use record::{PAYLOAD_BYTES_MAX, Record};
pub use recover::LogReader;
pub use writer::{Log, LogSync};

/// Where the log lies and how it is cut.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Its folder on the disk.
    pub dir: PathBuf,
    /// Bytes of a segment; a group of records that is larger gets one of its own size.
    pub segment_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("log"), segment_bytes: 64 << 20 }
    }
}

/// What can be wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("log: {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// There is no room for the next segment; the log itself is well.
    #[error("log: no space for a segment in {dir}")]
    NoSpace {
        /// Its folder.
        dir: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A record that had been durable cannot be read.
    #[error("log: record {index} is damaged in {path} at byte {offset}, but later ones are good")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the record should be.
        offset: u64,
        /// Which one.
        index: u64,
    },
    /// Records are needed that were purged.
    #[error("log: record {needed} is needed, but the oldest is {oldest}")]
    Gap {
        /// First one needed.
        needed: u64,
        /// First one there.
        oldest: u64,
    },
    /// Empty, or longer than [`PAYLOAD_BYTES_MAX`].
    #[error("log: a record cannot hold {bytes} bytes")]
    PayloadLength {
        /// Its length.
        bytes: usize,
    },
    /// It failed before, and what the disk holds is unknown until the next start.
    #[error("log: an earlier write or sync failed")]
    Poisoned,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { what, path, source }
}

#[cfg(test)]
mod tests;
