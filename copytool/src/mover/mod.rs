//! Moves files to objects and objects to files: in pieces, several at a time, within a budget.

mod download;
mod plan;
mod upload;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use download::Download;
pub use plan::{OBJECT_BYTES_MAX, PIECE_BYTES, Wanted};
pub use upload::Upload;

use crate::bucket::Bucket;
use crate::budget::MemoryBudget;
use crate::error::S3Error;
use crate::intents::Intents;
use crate::report::ReportCode;

/// A file that is read.
pub trait Source: Send + Sync {
    /// Up to `bytes` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// A file that is written, its ranges in any order and each once.
pub trait Sink: Send + Sync {
    /// Writes all of `bytes` at `offset`. When the download succeeded, the caller makes durable
    /// what was written; when it did not, what was written is worth nothing.
    fn write_at(&self, offset: u64, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}

/// Is told of every range that has arrived, none of which overlap.
pub trait Progress: Send + Sync {
    /// A range of the file, in bytes.
    fn moved(&self, range: Range<u64>);
}

impl<F: Fn(Range<u64>) + Send + Sync> Progress for F {
    fn moved(&self, range: Range<u64>) {
        self(range);
    }
}

/// Who watches a transfer, and can stop it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Is told how far it is: also the sign that it is alive.
    pub progress: &'a dyn Progress,
    /// Stops it.
    pub cancel: &'a CancellationToken,
}

/// The file changed while it was read: what was read is of no one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file changed while it was read")]
pub struct Busy;

/// Why a transfer has no result.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// S3 did not do its part.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The file changed, or is shorter than it was said to be.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// No object can be so large.
    #[error("{bytes} bytes are more than an object can have")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
    },
    /// Its [`Watch::cancel`] was used.
    #[error("cancelled")]
    Cancelled,
    /// The file cannot be read.
    #[error("read the file")]
    Source(#[source] io::Error),
    /// The file cannot be written.
    #[error("write the file")]
    Sink(#[source] io::Error),
    /// An upload cannot be written down, so it was not begun.
    #[error("upload intents")]
    Intents(#[source] io::Error),
}

impl MoveError {
    /// What the completion report says.
    pub const fn code(&self) -> ReportCode {
        match self {
            Self::S3(error) => error.code(),
            Self::Busy(_) => ReportCode::ResourceBusy,
            Self::TooLarge { .. } => ReportCode::FileSizeTooLarge,
            Self::Cancelled | Self::Source(_) | Self::Sink(_) | Self::Intents(_) => {
                ReportCode::InternalError
            }
        }
    }
}

/// Moves bytes between files and the objects of one bucket.
#[derive(Clone)]
pub struct Mover {
    bucket: Bucket,
    budget: MemoryBudget,
    intents: Arc<dyn Intents>,
    pieces: usize,
}

impl Mover {
    /// `pieces` of a file are under way at a time, if the budget, which other movers may share,
    /// has room for them.
    pub fn new(
        bucket: Bucket,
        budget: MemoryBudget,
        intents: Arc<dyn Intents>,
        pieces: usize,
    ) -> Self {
        Self { bucket, budget, intents, pieces: pieces.max(1) }
    }

    /// The bucket, for what needs no mover.
    pub const fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}
