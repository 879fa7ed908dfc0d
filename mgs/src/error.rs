//! What the MGS refuses, and why.

use nacre_model::{Effect, Errno, OstIndex, Retry, ServiceError, TargetKind};
use nacre_proto::convert::BadMessage;

use crate::store::StoreError;

/// A request that is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum MgsError {
    /// The request is malformed.
    #[error("bad request")]
    Bad(#[from] BadMessage),
    /// The caller belongs to another file system.
    #[error("this mgs serves file system `{own}`, not `{asked}`")]
    OtherFsname {
        /// Ours.
        own: String,
        /// Theirs.
        asked: String,
    },
    /// Another folder has this place in the map.
    #[error(
        "{kind:?} {index} of `{fsname}` is already the folder with uuid {registered}; \
         this one has {offered}: format it with a free --index"
    )]
    UuidTaken {
        /// MDT or OST.
        kind: TargetKind,
        /// The index both want.
        index: u16,
        /// The file system.
        fsname: String,
        /// Who has it.
        registered: String,
        /// Who wants it.
        offered: String,
    },
    /// More than one MDT is for later.
    #[error("mdt index {0}: only index 0 is supported so far")]
    MdtIndex(u16),
    /// Not `host:port`.
    #[error("{0}")]
    Address(String),
    /// Nothing of that kind and index has ever registered.
    #[error("{kind:?} {index} is not in the file system")]
    NoTarget {
        /// MDT or OST.
        kind: TargetKind,
        /// Which.
        index: u16,
    },
    /// There is no such pool.
    #[error("there is no pool `{0}`")]
    NoPool(String),
    /// There is one already.
    #[error("pool `{0}` exists")]
    PoolExists(String),
    /// Only an empty pool is destroyed.
    #[error("pool `{0}` still has OSTs: remove them first")]
    PoolBusy(String),
    /// The pool has it already.
    #[error("{ost} is already in pool `{pool}`")]
    InPool {
        /// Which.
        ost: OstIndex,
        /// Where.
        pool: String,
    },
    /// The pool does not have it.
    #[error("{ost} is not in pool `{pool}`")]
    NotInPool {
        /// Which.
        ost: OstIndex,
        /// Where.
        pool: String,
    },
    /// All sequences are given out.
    #[error("no fid sequences are left")]
    NoSequences,
    /// A limit of this server.
    #[error("{what}: at most {max}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// The change could not be made durable; it did not happen.
    #[error("mgs store")]
    Store(#[from] StoreError),
}

impl ServiceError for MgsError {
    fn errno(&self) -> Errno {
        match self {
            Self::Bad(error) => error.errno(),
            Self::OtherFsname { .. } | Self::Address(_) => Errno::EINVAL,
            Self::UuidTaken { .. } | Self::PoolExists(_) | Self::InPool { .. } => Errno::EEXIST,
            Self::MdtIndex(_) => Errno::EOPNOTSUPP,
            Self::NoTarget { .. } => Errno::ENODEV,
            Self::NoPool(_) | Self::NotInPool { .. } => Errno::ENOENT,
            Self::PoolBusy(_) => Errno::EBUSY,
            Self::NoSequences => Errno::ENOSPC,
            Self::Limit { .. } => Errno::EAGAIN,
            Self::Store(_) => Errno::EIO,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Store(_) | Self::Limit { .. } => Retry::SameTarget,
            Self::Bad(_)
            | Self::OtherFsname { .. }
            | Self::UuidTaken { .. }
            | Self::MdtIndex(_)
            | Self::Address(_)
            | Self::NoTarget { .. }
            | Self::NoPool(_)
            | Self::PoolExists(_)
            | Self::PoolBusy(_)
            | Self::InPool { .. }
            | Self::NotInPool { .. }
            | Self::NoSequences => Retry::Never,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            // The batch may be on the disk though its flush failed.
            Self::Store(_) => Effect::Unknown,
            Self::Bad(_)
            | Self::OtherFsname { .. }
            | Self::UuidTaken { .. }
            | Self::MdtIndex(_)
            | Self::Address(_)
            | Self::NoTarget { .. }
            | Self::NoPool(_)
            | Self::PoolExists(_)
            | Self::PoolBusy(_)
            | Self::InPool { .. }
            | Self::NotInPool { .. }
            | Self::NoSequences
            | Self::Limit { .. } => Effect::None,
        }
    }
}
