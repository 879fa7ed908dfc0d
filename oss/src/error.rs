//! Why an object operation fails, and what that means to the caller.

use std::io;

use nacre_model::checksum::Crc32c;
use nacre_model::{Effect, Errno, ObjectId, OstIndex, Retry, ServiceError};
use nacre_proto::convert::BadMessage;

/// Why an object operation fails.
#[derive(Debug, thiserror::Error)]
pub enum OssError {
    /// The request is not one that a correct client sends.
    #[error("bad request")]
    Bad(#[from] BadMessage),
    /// This server does not serve that target.
    #[error("{0} is not served here")]
    UnknownTarget(OstIndex),
    /// The caller believes in an older epoch of the target than it has.
    #[error("{ost}: epoch {got} is older than {current}")]
    StaleEpoch {
        /// The target.
        ost: OstIndex,
        /// The caller's.
        got: u64,
        /// The target's.
        current: u64,
    },
    /// The client was evicted by the metadata server: what it held is given to others.
    #[error("session {0:#x} was evicted")]
    Fenced(u64),
    /// The data did not arrive as it was sent.
    #[error("object {object}: data for offset {offset} has checksum {got:?}, sent as {sent:?}")]
    RequestChecksum {
        /// The object.
        object: ObjectId,
        /// Of the write, in bytes.
        offset: u64,
        /// What the request said.
        sent: Crc32c,
        /// What its data has.
        got: Crc32c,
    },
    /// Bytes on the disk do not match their checksum.
    #[error("object {object}: bytes {start} to {end} do not match their checksum")]
    Corrupt {
        /// The object.
        object: ObjectId,
        /// First bad byte, rounded to its block.
        start: u64,
        /// End of the bad block.
        end: u64,
    },
    /// The object was destroyed; whoever asks has an old layout.
    #[error("object {0} was destroyed")]
    Destroyed(ObjectId),
    /// The target has no room for it.
    #[error("{wanted} bytes wanted, {available} available")]
    NoSpace {
        /// Bytes.
        wanted: u64,
        /// Bytes, without the reserve.
        available: u64,
    },
    /// A range that ends beyond what an object can hold.
    #[error("object {object}: {len} bytes at offset {offset} end beyond the largest object")]
    TooLarge {
        /// The object.
        object: ObjectId,
        /// In bytes.
        offset: u64,
        /// In bytes.
        len: u64,
    },
    /// A sync failed before: what the disk has is unknown until the target is started again.
    #[error("the target takes no changes since a sync failed; restart it")]
    Poisoned,
    /// The disk refused.
    #[error("{what}")]
    Disk {
        /// Which step.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk refused, at an object.
    #[error("object {object}: {what}")]
    ObjectDisk {
        /// Which step.
        what: &'static str,
        /// At which object.
        object: ObjectId,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the target's own is not what was written.
    #[error("{file}: {what}")]
    BadFile {
        /// Below the target's folder.
        file: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl OssError {
    pub(crate) fn disk(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { what, source }
    }

    pub(crate) fn at(what: &'static str, object: ObjectId) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::ObjectDisk { what, object, source }
    }
}

impl ServiceError for OssError {
    fn errno(&self) -> Errno {
        match self {
            Self::Bad(bad) => bad.errno(),
            Self::UnknownTarget(_) => Errno::ENODEV,
            Self::StaleEpoch { .. } | Self::Destroyed(_) => Errno::ESTALE,
            Self::RequestChecksum { .. }
            | Self::Corrupt { .. }
            | Self::Poisoned
            | Self::Fenced(_)
            | Self::BadFile { .. } => Errno::EIO,
            Self::NoSpace { .. } => Errno::ENOSPC,
            Self::TooLarge { .. } => Errno::EFBIG,
            Self::Disk { source, .. } | Self::ObjectDisk { source, .. } => of_disk(source),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::UnknownTarget(_) | Self::StaleEpoch { .. } | Self::Destroyed(_) => {
                Retry::AfterRefresh
            }
            Self::RequestChecksum { .. } => Retry::SameTarget,
            Self::Bad(_)
            | Self::Corrupt { .. }
            | Self::NoSpace { .. }
            | Self::TooLarge { .. }
            | Self::Poisoned
            | Self::Fenced(_)
            | Self::Disk { .. }
            | Self::ObjectDisk { .. }
            | Self::BadFile { .. } => Retry::Never,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Disk { .. } | Self::ObjectDisk { .. } => Effect::Unknown,
            Self::Bad(_)
            | Self::UnknownTarget(_)
            | Self::StaleEpoch { .. }
            | Self::RequestChecksum { .. }
            | Self::Corrupt { .. }
            | Self::Destroyed(_)
            | Self::NoSpace { .. }
            | Self::TooLarge { .. }
            | Self::Poisoned
            | Self::Fenced(_)
            | Self::BadFile { .. } => Effect::None,
        }
    }
}

/// What a user may be told of the disk's error: the rest is EIO.
fn of_disk(error: &io::Error) -> Errno {
    let told = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG, Errno::EROFS, Errno::EOPNOTSUPP];
    let errno = error.raw_os_error().map(Errno);
    errno.filter(|errno| told.contains(errno)).unwrap_or(Errno::EIO)
}
