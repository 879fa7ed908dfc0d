//! What can go wrong between us and S3.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::report::ReportCode;

/// A call of S3's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "S3's own names, documented there")]
pub enum Operation {
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    CopyObject,
    ListObjectsV2,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
}

impl Operation {
    /// The name that S3's documentation and its access logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PutObject => "PutObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::DeleteObject => "DeleteObject",
            Self::CopyObject => "CopyObject",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListMultipartUploads => "ListMultipartUploads",
        }
    }

    /// What a policy must allow for it.
    pub const fn permission(self) -> &'static str {
        match self {
            Self::GetObject | Self::HeadObject => "s3:GetObject",
            Self::CopyObject | Self::UploadPartCopy => "s3:GetObject and s3:PutObject",
            Self::DeleteObject => "s3:DeleteObject",
            Self::ListObjectsV2 => "s3:ListBucket",
            Self::AbortMultipartUpload => "s3:AbortMultipartUpload",
            Self::ListMultipartUploads => "s3:ListBucketMultipartUploads",
            Self::PutObject
            | Self::CreateMultipartUpload
            | Self::UploadPart
            | Self::CompleteMultipartUpload => "s3:PutObject",
        }
    }
}

/// Which call on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub operation: Operation,
    /// Of which bucket.
    pub bucket: String,
    /// Of which object; of a listing, the prefix.
    pub key: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s3://{}/{}", self.operation.name(), self.bucket, self.key)
    }
}

/// Why S3 could not be asked, or what its answer lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// 503 `SlowDown` and its kin: it asks us to come less often.
    SlowDown,
    /// 5xx: it does not know itself.
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// No connection, or one that broke.
    Connection,
    /// Nothing within this time.
    Timeout(Duration),
    /// The body ended early.
    Truncated {
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced or asked for.
        expected: u64,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlowDown => f.write_str("asked to slow down"),
            Self::Server { status } => write!(f, "status {status}"),
            Self::Connection => f.write_str("connection broken"),
            Self::Timeout(limit) => write!(f, "nothing within {limit:?}"),
            Self::Truncated { got, expected } => write!(f, "{got} of {expected} bytes"),
        }
    }
}

/// What the SDK said, below our own words.
pub type Source = Box<dyn Error + Send + Sync>;

/// A call of S3 that has no result.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The object, or the upload, is not there.
    #[error("{call}: not found")]
    NotFound {
        /// Which call.
        call: Call,
    },
    /// The bucket is not there: says nothing of any single object.
    #[error("{call}: no such bucket")]
    NoBucket {
        /// Which call.
        call: Call,
    },
    /// A policy forbids it.
    #[error("{call}: access denied, {permission} is needed")]
    AccessDenied {
        /// Which call.
        call: Call,
        /// What the policy would have to allow.
        permission: &'static str,
    },
    /// S3 does not know the access key, or the secret does not fit it, or the clocks differ.
    #[error("{call}: credentials refused ({code})")]
    Credentials {
        /// Which call.
        call: Call,
        /// In S3's words.
        code: String,
    },
    /// The object is not the one that was meant: its `ETag` or its length is another.
    #[error("{call}: the object changed")]
    Changed {
        /// Which call.
        call: Call,
    },
    /// The bytes must be fetched from an archive first.
    #[error("{call}: the object is in a tier that cannot be read")]
    ColdTier {
        /// Which call.
        call: Call,
    },
    /// It may work when asked again; what the retries left over.
    #[error("{call}: {trouble}")]
    Transient {
        /// Which call.
        call: Call,
        /// What happened.
        trouble: Trouble,
        /// What the SDK said.
        #[source]
        source: Option<Source>,
    },
    /// The bytes are not those that their checksum belongs to, or the answer to another question.
    #[error("{call}: wrong bytes: {what}")]
    WrongBytes {
        /// Which call.
        call: Call,
        /// What does not fit.
        what: &'static str,
    },
    /// This server does not do that.
    #[error("{call}: not supported by this server")]
    Unsupported {
        /// Which call.
        call: Call,
    },
    /// S3 refused for a reason of its own.
    #[error("{call}: status {status}, {code}")]
    Other {
        /// Which call.
        call: Call,
        /// HTTP status; 0 if there was none, as the request could not even be made.
        status: u16,
        /// In S3's words, if it had any.
        code: String,
        /// What the SDK said.
        #[source]
        source: Option<Source>,
    },
}

impl S3Error {
    /// Which call it was.
    pub const fn call(&self) -> &Call {
        match self {
            Self::NotFound { call }
            | Self::NoBucket { call }
            | Self::AccessDenied { call, .. }
            | Self::Credentials { call, .. }
            | Self::Changed { call }
            | Self::ColdTier { call }
            | Self::Transient { call, .. }
            | Self::WrongBytes { call, .. }
            | Self::Unsupported { call }
            | Self::Other { call, .. } => call,
        }
    }

    /// What the completion report says.
    pub const fn code(&self) -> ReportCode {
        match self {
            Self::NotFound { .. } => ReportCode::S3ObjectNotFound,
            Self::AccessDenied { .. } | Self::Credentials { .. } => ReportCode::S3AccessDenied,
            Self::Changed { .. } => ReportCode::ResourceBusy,
            Self::ColdTier { .. } => ReportCode::S3ObjectInUnsupportedTier,
            Self::NoBucket { .. }
            | Self::Transient { .. }
            | Self::WrongBytes { .. }
            | Self::Unsupported { .. }
            | Self::Other { .. } => ReportCode::S3Error,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::WrongBytes { .. })
    }
}
