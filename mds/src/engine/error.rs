//! What goes wrong, and what it means to the caller.

use std::io;
use std::sync::Arc;

use nacre_model::{Effect, Errno, Retry, ServiceError};

use crate::log::LogError;
use crate::snapshot::SnapshotError;
use crate::store::StoreError;

/// A command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError<E> {
    /// The state machine refused it, or it could not be made.
    #[error(transparent)]
    Refused(E),
    /// There is no room for it in the log.
    #[error("no space for the metadata log")]
    NoSpace(#[source] Arc<LogError>),
    /// Its record would be too long for the log.
    #[error("command too long")]
    TooLong(#[source] LogError),
    /// The engine has failed and serves no more changes until the next start.
    #[error("the metadata engine has failed")]
    Poisoned(#[source] Arc<Poison>),
    /// The engine is stopping.
    #[error("the metadata engine is stopping")]
    Stopped,
}

/// Why an engine serves no more.
#[derive(Debug, thiserror::Error)]
pub enum Poison {
    /// Its log cannot be written or synced.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its store cannot be written, or is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The applier is gone without a word: it panicked.
    #[error("the applier is gone")]
    Gone,
}

impl<E: ServiceError + 'static> ServiceError for EngineError<E> {
    fn errno(&self) -> Errno {
        match self {
            Self::Refused(error) => error.errno(),
            Self::NoSpace(_) => Errno::ENOSPC,
            Self::TooLong(_) => Errno::E2BIG,
            Self::Poisoned(_) | Self::Stopped => Errno::EIO,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Refused(error) => error.retry(),
            Self::NoSpace(_) | Self::TooLong(_) => Retry::Never,
            // A restart reads the log again.
            Self::Poisoned(_) | Self::Stopped => Retry::SameTarget,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Refused(error) => error.effect(),
            Self::NoSpace(_) | Self::TooLong(_) | Self::Stopped => Effect::None,
            Self::Poisoned(_) => Effect::Unknown,
        }
    }
}

/// The engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The log cannot be read.
    #[error("open metadata log")]
    Log(#[from] LogError),
    /// The store cannot be read or written.
    #[error("open metadata store")]
    Store(#[from] StoreError),
    /// No snapshot can be read or written.
    #[error("metadata snapshot")]
    Snapshot(#[from] SnapshotError),
    /// A command of the log cannot be read, or is refused though it was accepted once.
    #[error("replay command {index} of the metadata log")]
    Replay {
        /// Which.
        index: u64,
        /// Why.
        #[source]
        source: E,
    },
    /// The store is older than the oldest record, and no snapshot is between.
    #[error(
        "the store is at {applied}, the log begins at {oldest}, and no good snapshot fills the gap"
    )]
    Unrecoverable {
        /// Last command in the store.
        applied: u64,
        /// First command in the log.
        oldest: u64,
    },
    /// No thread could be made.
    #[error("start the applier")]
    Thread(#[source] io::Error),
}
