//! POSIX attributes as user metadata of objects, in the form that FSx for Lustre reads and writes.
//!
//! | Key | Value |
//! |---|---|
//! | `user-agent` | `aws-fsx-lustre` |
//! | `file-owner`, `file-group` | decimal uid, gid |
//! | `file-permissions` | octal `st_mode` with its type: `0100644`, `0040755`, `0120777` |
//! | `file-atime`, `file-mtime` | nanoseconds since the epoch, then `ns`; without `ns`, milliseconds |
//!
//! Every other key, and the Content-Type, belongs to somebody else and is kept. The setuid bit
//! goes neither way: whoever may write to the bucket would become whoever owns the file.

use nacre_model::Timestamp;

use crate::key::KeyKind;
use crate::object::ObjectMeta;
use crate::report::ReportCode;

const USER_AGENT: &str = "user-agent";
const OWNER: &str = "file-owner";
const GROUP: &str = "file-group";
const PERMISSIONS: &str = "file-permissions";
const ATIME: &str = "file-atime";
const MTIME: &str = "file-mtime";
const OURS: [&str; 6] = [USER_AGENT, OWNER, GROUP, PERMISSIONS, ATIME, MTIME];

/// Who wrote the metadata; readers ignore it.
const AGENT: &str = "aws-fsx-lustre";

const TYPE_BITS: u32 = 0o170_000;
/// Read, write, execute for three, setgid and sticky: all but setuid.
const PERMISSION_BITS: u32 = 0o3_777;
/// Everything that a mode may have.
const MODE_BITS: u32 = TYPE_BITS | 0o7_777;

/// What kinds of inode have objects. Pipes, sockets and devices have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file: the object's body is its content.
    File,
    /// A directory: an object without bytes whose key ends in "/".
    Directory,
    /// A symbolic link: the object's body is its target.
    Symlink,
}

impl FileKind {
    /// The type bits of `st_mode`.
    pub(crate) const fn type_bits(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::File | Self::Symlink => "application/octet-stream",
            Self::Directory => "application/x-directory",
        }
    }
}

/// Attributes of an inode that is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosixMeta {
    /// What it is.
    pub kind: FileKind,
    /// Permissions with setgid and sticky; other bits are not exported.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was read last.
    pub atime: Timestamp,
    /// When its content changed last.
    pub mtime: Timestamp,
}

impl PosixMeta {
    /// What to store with the object. `foreign` is what it had beside our keys, from
    /// [`Imported::foreign`].
    pub fn encode(&self, foreign: &ObjectMeta) -> Result<ObjectMeta, MetaError> {
        let mode = self.kind.type_bits() | (self.permissions & PERMISSION_BITS);
        let ours = [
            (USER_AGENT, AGENT.to_owned()),
            (OWNER, self.uid.to_string()),
            (GROUP, self.gid.to_string()),
            (PERMISSIONS, format!("{mode:07o}")),
            (ATIME, format!("{}ns", nanoseconds(self.atime))),
            (MTIME, format!("{}ns", nanoseconds(self.mtime))),
        ];
        let default = || self.kind.content_type().to_owned();
        let mut meta = ObjectMeta {
            content_type: Some(foreign.content_type.clone().unwrap_or_else(default)),
            user: foreign.user.clone(),
        };
        meta.user.extend(ours.map(|(key, value)| (key.to_owned(), value)));
        let bytes = meta.user_bytes();
        if bytes > ObjectMeta::USER_BYTES_MAX {
            return Err(MetaError::TooLarge { bytes });
        }
        Ok(meta)
    }
}

/// Attributes as an object has them. What it does not say is `None`: the importer then keeps what
/// the file has or, for a new one, takes root, root, 755 and the time of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What it is: the slash at the key's end decides, whatever the type in the mode says.
    pub kind: FileKind,
    /// Permissions with setgid and sticky.
    pub permissions: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// When it was read last.
    pub atime: Option<Timestamp>,
    /// When its content changed last.
    pub mtime: Option<Timestamp>,
    /// What is not ours: to be written back at the next export.
    pub foreign: ObjectMeta,
}

/// Reads what is stored with an object whose key is of that kind.
pub fn decode(key: KeyKind, meta: &ObjectMeta) -> Result<Imported, MetaError> {
    let mode = field(meta, PERMISSIONS).map(parse_mode).transpose()?;
    Ok(Imported {
        kind: kind_of(key, mode)?,
        permissions: mode.map(|mode| mode & PERMISSION_BITS),
        uid: field(meta, OWNER).map(|text| parse_id(OWNER, text)).transpose()?,
        gid: field(meta, GROUP).map(|text| parse_id(GROUP, text)).transpose()?,
        atime: field(meta, ATIME).map(|text| parse_time(ATIME, text)).transpose()?,
        mtime: field(meta, MTIME).map(|text| parse_time(MTIME, text)).transpose()?,
        foreign: foreign(meta),
    })
}

fn field<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    let found = meta.user.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// What is not ours, as [`Imported::foreign`], also where ours cannot be read.
pub(crate) fn foreign(meta: &ObjectMeta) -> ObjectMeta {
    let lower = meta.user.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.clone()));
    ObjectMeta {
        content_type: meta.content_type.clone(),
        user: lower.filter(|(key, _)| !OURS.contains(&key.as_str())).collect(),
    }
}

fn kind_of(key: KeyKind, mode: Option<u32>) -> Result<FileKind, MetaError> {
    if key == KeyKind::Directory {
        return Ok(FileKind::Directory);
    }
    match mode.unwrap_or_default() & TYPE_BITS {
        // Without a slash it is no directory, whatever it says.
        0 | 0o100_000 | 0o040_000 => Ok(FileKind::File),
        0o120_000 => Ok(FileKind::Symlink),
        bits => Err(MetaError::NoObjectType { bits }),
    }
}

fn parse_mode(text: &str) -> Result<u32, MetaError> {
    let value = digits(text, 8).and_then(|text| u32::from_str_radix(text, 8).ok());
    value.filter(|mode| mode & !MODE_BITS == 0).ok_or_else(|| malformed(PERMISSIONS, text))
}

fn parse_id(field: &'static str, text: &str) -> Result<u32, MetaError> {
    let value = digits(text, 10).and_then(|text| text.parse().ok());
    // chown(2) takes the highest number as "leave it".
    value.filter(|id| *id != u32::MAX).ok_or_else(|| malformed(field, text))
}

fn parse_time(field: &'static str, text: &str) -> Result<Timestamp, MetaError> {
    let (number, nanoseconds_per_unit) = match text.strip_suffix("ns") {
        Some(number) => (number, 1),
        None => (text, 1_000_000),
    };
    let positive = number.strip_prefix('-').unwrap_or(number);
    let value = digits(positive, 10).and_then(|_| number.parse::<i128>().ok());
    let total = value.and_then(|value| value.checked_mul(nanoseconds_per_unit));
    total.and_then(timestamp).ok_or_else(|| malformed(field, text))
}

/// `text` if it is nothing but digits: the standard parsers also take a plus.
fn digits(text: &str, radix: u32) -> Option<&str> {
    (!text.is_empty() && text.chars().all(|c| c.is_digit(radix))).then_some(text)
}

fn malformed(field: &'static str, text: &str) -> MetaError {
    MetaError::Malformed { field, value: text.to_owned() }
}

fn nanoseconds(time: Timestamp) -> i128 {
    let second = i128::from(Timestamp::NANOS_PER_SEC);
    i128::from(time.secs).saturating_mul(second).saturating_add(i128::from(time.nanos))
}

/// `None` beyond what 64-bit seconds hold.
fn timestamp(nanoseconds: i128) -> Option<Timestamp> {
    let second = i128::from(Timestamp::NANOS_PER_SEC);
    let secs = i64::try_from(nanoseconds.div_euclid(second)).ok()?;
    Timestamp::new(secs, u32::try_from(nanoseconds.rem_euclid(second)).ok()?)
}

/// Why attributes cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// A field of ours has a value that is none.
    #[error("{field} has the value {value:?}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// The mode says that the object is a pipe, a socket, a device or nothing known.
    #[error("objects cannot be of the type {bits:07o}")]
    NoObjectType {
        /// The type bits.
        bits: u32,
    },
    /// With the keys of others, the metadata exceeds S3's limit.
    #[error("user metadata has {bytes} bytes, {} are allowed", ObjectMeta::USER_BYTES_MAX)]
    TooLarge {
        /// All keys and values.
        bytes: usize,
    },
}

impl MetaError {
    /// What the completion report says.
    pub const fn code(&self) -> ReportCode {
        match self {
            Self::Malformed { .. } | Self::TooLarge { .. } => ReportCode::S3Error,
            Self::NoObjectType { .. } => ReportCode::S3ObjectTypeMismatch,
        }
    }
}

#[cfg(test)]
#[path = "posix_tests.rs"]
mod tests;
