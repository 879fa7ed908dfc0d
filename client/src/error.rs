//! Why an operation failed.

use nacre_model::{Effect, Errno, Fid, OstIndex, Retry, ServiceError};
use nacre_node::peers::NoPeer;
use nacre_proto::convert::BadMessage;
use nacre_proto::status::RemoteError;

/// Why an operation failed. [`ServiceError::errno`] is what the application gets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The metadata server said no.
    #[error("mds: {op}")]
    Mds {
        /// Operation, as POSIX calls it.
        op: &'static str,
        /// Its answer.
        #[source]
        source: RemoteError,
    },
    /// The metadata server did not answer in time; the operation may still happen.
    #[error("mds: {op}: no answer within the deadline")]
    MdsSilent {
        /// Operation, as POSIX calls it.
        op: &'static str,
    },
    /// An object server said no, or could not be reached.
    #[error("{ost} at {server}, epoch {epoch}")]
    Ost {
        /// Which.
        ost: OstIndex,
        /// Its address.
        server: String,
        /// Epoch that the request carried.
        epoch: u64,
        /// Its answer, or what became of the call.
        #[source]
        source: RemoteError,
    },
    /// Data came back with another checksum than its own.
    #[error("{ost} at {server}: data of {fid} was damaged on the way")]
    Damaged {
        /// Which.
        ost: OstIndex,
        /// Its address.
        server: String,
        /// The file.
        fid: Fid,
    },
    /// Data accepted earlier could not be written; told once to each open file.
    #[error("{fid}: data written earlier was lost")]
    WriteBehind {
        /// The file.
        fid: Fid,
        /// Why.
        errno: Errno,
    },
    /// A server cannot be addressed.
    #[error("cluster map: {why}")]
    NoPeer {
        /// Why.
        why: String,
    },
    /// A server sent what no server sends.
    #[error("bad answer")]
    BadAnswer(#[from] BadMessage),
    /// Refused here, without asking anybody.
    #[error("{why}")]
    Refused {
        /// What POSIX calls it.
        errno: Errno,
        /// Why.
        why: &'static str,
    },
    /// No cluster map, or no metadata server, within the time that connecting may take.
    #[error("{fsname}: no {role} answers at {addresses}")]
    Unreachable {
        /// File system.
        fsname: String,
        /// `mgs` or `mds`.
        role: &'static str,
        /// Where it was looked for.
        addresses: String,
    },
}

impl ClientError {
    pub(crate) const fn refused(errno: Errno, why: &'static str) -> Self {
        Self::Refused { errno, why }
    }

    /// The MDS knows no such inode.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Mds { source, .. }
            if source.retry == Retry::Never
                && matches!(source.errno, Errno::ENOENT | Errno::ESTALE))
    }

    /// The MDS said no: nothing has changed.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Mds { source, .. } if source.effect == Effect::None)
    }

    /// A server could not be reached: it may be there again later.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Ost { source, .. } => source.effect == Effect::Unknown,
            Self::NoPeer { .. } | Self::MdsSilent { .. } => true,
            Self::Mds { .. }
            | Self::Damaged { .. }
            | Self::WriteBehind { .. }
            | Self::BadAnswer(_)
            | Self::Refused { .. }
            | Self::Unreachable { .. } => false,
        }
    }
}

impl From<NoPeer> for ClientError {
    fn from(error: NoPeer) -> Self {
        Self::NoPeer { why: error.to_string() }
    }
}

impl ServiceError for ClientError {
    fn errno(&self) -> Errno {
        match self {
            Self::Mds { source, .. } | Self::Ost { source, .. } => source.errno,
            Self::MdsSilent { .. } | Self::Unreachable { .. } => Errno::ETIMEDOUT,
            Self::Damaged { .. } | Self::NoPeer { .. } | Self::BadAnswer(_) => Errno::EIO,
            Self::WriteBehind { errno, .. } | Self::Refused { errno, .. } => *errno,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Mds { source, .. } | Self::Ost { source, .. } => source.retry,
            Self::MdsSilent { .. } | Self::NoPeer { .. } | Self::Unreachable { .. } => {
                Retry::SameTarget
            }
            Self::Damaged { .. }
            | Self::WriteBehind { .. }
            | Self::BadAnswer(_)
            | Self::Refused { .. } => Retry::Never,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Mds { source, .. } | Self::Ost { source, .. } => source.effect,
            Self::MdsSilent { .. } | Self::WriteBehind { .. } | Self::BadAnswer(_) => {
                Effect::Unknown
            }
            Self::Damaged { .. }
            | Self::NoPeer { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. } => Effect::None,
        }
    }
}
