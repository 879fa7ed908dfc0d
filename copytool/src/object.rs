//! What S3 says about objects, in the words of this crate.

use std::collections::BTreeMap;
use std::fmt;

use nacre_model::Timestamp;

/// What identifies an object's content to S3. Opaque: it is an MD5 only sometimes.
///
/// Kept without the quotes that headers have around it and some servers leave out, so that two
/// are equal when they mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// From a header, a listing or a record, with quotes or without.
    pub fn new(text: &str) -> Self {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Self(inner.unwrap_or(text).to_owned())
    }

    /// Without quotes: as records keep it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With quotes: as conditions in requests want it.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    Always,
    /// No object has the key.
    Absent,
    /// The object is still this one.
    Match(ETag),
}

/// What is stored beside an object's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// `Content-Type`; servers make one up where none is given.
    pub content_type: Option<String>,
    /// User metadata without `x-amz-meta-`. Keys are case-insensitive to servers, some of which
    /// return them in another case than they were given.
    pub user: BTreeMap<String, String>,
}

impl ObjectMeta {
    /// How much user metadata S3 stores with an object: bytes of all keys and values.
    pub const USER_BYTES_MAX: usize = 2048;

    /// Bytes of all keys and values of the user metadata.
    pub fn user_bytes(&self) -> usize {
        self.user.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum()
    }
}

/// What a write made: enough to recognize it later, in a listing or in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Identifies the content.
    pub etag: ETag,
    /// In a bucket with versions.
    pub version_id: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// Whether the bytes can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// At once.
    Online,
    /// Only after somebody has asked S3 to restore them.
    Cold,
}

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What identifies the content, and how long it is.
    pub stored: Stored,
    /// When it was written, if the server says.
    pub last_modified: Option<Timestamp>,
    /// What is stored beside the bytes.
    pub meta: ObjectMeta,
    /// Whether the bytes can be read.
    pub tier: Tier,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key, with the prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// A few servers leave it out.
    pub etag: Option<ETag>,
    /// When it was written, if the server says.
    pub last_modified: Option<Timestamp>,
    /// Whether the bytes can be read.
    pub tier: Tier,
}

/// One answer to a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects in the order of their keys' bytes.
    pub objects: Vec<Listed>,
    /// With a delimiter: the beginnings that keys of this level have in common.
    pub common_prefixes: Vec<String>,
    /// What to ask on with; `None` at the end.
    pub next: Option<String>,
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingUpload {
    /// The key it would write.
    pub key: String,
    /// What S3 calls it.
    pub upload_id: String,
}

/// One part that S3 has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// From 1.
    pub number: i32,
    /// As S3 answered.
    pub etag: String,
    /// CRC-32C of its bytes, where the endpoint keeps it: base64 of the big-endian sum.
    pub crc32c: Option<String>,
}
