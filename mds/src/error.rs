//! What a request is answered when it cannot be served.

use std::time::Duration;

use nacre_model::{Effect, Errno, Fid, Retry, ServiceError};
use nacre_proto::convert::BadMessage;
use nacre_proto::status::RemoteError;

use crate::engine::EngineError;
use crate::locks::LockError;
use crate::namespace::NsError;
use crate::opens::OpenError;
use crate::placement::PlacementError;
use crate::session::SessionError;
use crate::store::StoreError;

/// Why a change is not carried out: found out on the applier.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The namespace says no.
    #[error(transparent)]
    Namespace(#[from] NsError),
    /// There are no OSTs for its stripes.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The command of the log is from a later version, or damaged.
    #[error("command of the log")]
    Command(#[from] crate::record::BadCommand),
    /// A name leads elsewhere than when others were asked for their leases: looked at again.
    #[error("a name was changed meanwhile")]
    Moved,
    /// The orphan was opened again: it stays.
    #[error("orphan {0} is open")]
    InUse(Fid),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Namespace(error.into())
    }
}

impl ServiceError for Refusal {
    fn errno(&self) -> Errno {
        match self {
            Self::Namespace(error) => error.errno(),
            Self::Placement(error) => error.errno(),
            Self::Command(_) => Errno::EIO,
            Self::InUse(_) => Errno::EBUSY,
            Self::Moved => Errno::EAGAIN,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            Self::Namespace(error) => error.retry(),
            Self::Placement(error) => error.retry(),
            Self::Command(_) | Self::InUse(_) => Retry::Never,
            Self::Moved => Retry::SameTarget,
        }
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum MdsError {
    /// A change was refused, or could not be logged.
    #[error(transparent)]
    Change(#[from] EngineError<Refusal>),
    /// A read found nothing, or something broken.
    #[error(transparent)]
    Read(#[from] NsError),
    /// The message makes no sense.
    #[error("bad request")]
    Message(#[from] BadMessage),
    /// The session does not exist any more.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A claimed lease is somebody else's by now, or the time for claims is over.
    #[error("the lease on {0} was lost")]
    LeaseLost(Fid),
    /// The layout names a pool or OST that is not there.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// What the archive was asked for did not happen.
    #[error("inode {fid}: {message}")]
    Hsm {
        /// The file.
        fid: Fid,
        /// For the application.
        errno: Errno,
        /// Why.
        message: String,
    },
    /// The client wants another file system.
    #[error("file system `{wanted}` is not here: this is `{here}`")]
    OtherFileSystem {
        /// Asked for.
        wanted: String,
        /// Served.
        here: String,
    },
    /// The disk of the MDT is nearly full: only what frees space is done.
    #[error("the metadata target has {bytes_available} bytes left")]
    MdtFull {
        /// Left.
        bytes_available: u64,
    },
    /// Some OST has not cut its object. It will be done when the OST is back.
    #[error("objects of {fid} are not all cut to the new size")]
    NotCut {
        /// The file.
        fid: Fid,
        /// The OST's answer, or none.
        #[source]
        cause: OstFailure,
    },
}

/// An OST did not do its part.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OstFailure {
    /// It is not in the map, or there is no map.
    #[error("{ost}: {reason}")]
    Unreachable {
        /// Which.
        ost: nacre_model::OstIndex,
        /// Why not.
        reason: String,
    },
    /// It said no, or the connection broke.
    #[error("{ost}")]
    Answer {
        /// Which.
        ost: nacre_model::OstIndex,
        /// What it said.
        #[source]
        source: RemoteError,
    },
    /// Silence.
    #[error("{ost} has not answered in {after:?}")]
    Silent {
        /// Which.
        ost: nacre_model::OstIndex,
        /// How long it was waited for.
        after: Duration,
    },
}

impl MdsError {
    /// The error that knows, or what stands in for one that does not.
    fn answers(&self) -> (Errno, Retry, Effect) {
        let inner: &dyn ServiceError = match self {
            Self::Change(error) => error,
            Self::Read(error) => error,
            Self::Message(error) => error,
            Self::Session(error) => error,
            Self::Open(error) => error,
            Self::Lock(error) => error,
            Self::Placement(error) => error,
            Self::Hsm { errno, .. } => return (*errno, Retry::Never, Effect::None),
            Self::LeaseLost(_) => return (Errno::ESTALE, Retry::AfterRefresh, Effect::None),
            Self::OtherFileSystem { .. } => return (Errno::ENODEV, Retry::Never, Effect::None),
            Self::MdtFull { .. } => return (Errno::ENOSPC, Retry::Never, Effect::None),
            Self::NotCut { .. } => return (Errno::EIO, Retry::Never, Effect::Unknown),
        };
        (inner.errno(), inner.retry(), inner.effect())
    }
}

impl ServiceError for MdsError {
    fn errno(&self) -> Errno {
        self.answers().0
    }
    fn retry(&self) -> Retry {
        self.answers().1
    }
    fn effect(&self) -> Effect {
        self.answers().2
    }
}
