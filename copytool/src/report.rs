//! Words of the completion report: why one file was not exported, imported or released.

use std::fmt;

/// A code in the third column of a completion report.
///
/// Amazon FSx for Lustre: "Working with task completion reports".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportCode {
    /// The key, with its prefix, is longer than S3 allows.
    PathSizeTooLong,
    /// The file is larger than an object can be.
    FileSizeTooLarge,
    /// The credentials may not do this, or are none.
    S3AccessDenied,
    /// S3 refused, did not answer, or answered nonsense.
    S3Error,
    /// The key is no path that POSIX could have.
    S3ObjectPathNotPosixCompliant,
    /// What the metadata says the object is contradicts what is there.
    S3ObjectTypeMismatch,
    /// The object is not there.
    S3ObjectNotFound,
    /// The object was deleted, so the file that it stood for was not imported.
    S3FileDeleted,
    /// The object's bytes are in a tier from which they cannot be read at once.
    S3ObjectInUnsupportedTier,
    /// The same of a symbolic link, whose target is in the bytes.
    S3SymlinkInUnsupportedTier,
    /// The file changed while it was read, or the object while it was written.
    ResourceBusy,
    /// The fault is ours.
    InternalError,
}

impl ReportCode {
    /// As it stands in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PathSizeTooLong => "PathSizeTooLong",
            Self::FileSizeTooLarge => "FileSizeTooLarge",
            Self::S3AccessDenied => "S3AccessDenied",
            Self::S3Error => "S3Error",
            Self::S3ObjectPathNotPosixCompliant => "S3ObjectPathNotPosixCompliant",
            Self::S3ObjectTypeMismatch => "S3ObjectTypeMismatch",
            Self::S3ObjectNotFound => "S3ObjectNotFound",
            Self::S3FileDeleted => "S3FileDeleted",
            Self::S3ObjectInUnsupportedTier => "S3ObjectInUnsupportedTier",
            Self::S3SymlinkInUnsupportedTier => "S3SymlinkInUnsupportedTier",
            Self::ResourceBusy => "ResourceBusy",
            Self::InternalError => "InternalError",
        }
    }
}

impl fmt::Display for ReportCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
