//! Names of directory entries.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// A checked directory entry name: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
///
/// Any other byte may occur; it need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// No bytes at all.
    #[error("name is empty")]
    Empty,
    /// More than 255 bytes.
    #[error("name has {0} bytes, more than 255")]
    TooLong(usize),
    /// `/` or NUL.
    #[error("name contains a slash or a NUL")]
    Byte,
    /// `.` or `..`.
    #[error("name is `.` or `..`")]
    Dots,
}

impl Name {
    /// Longest name, in bytes: POSIX `NAME_MAX`.
    pub const BYTES_MAX: usize = 255;

    /// Checks and copies.
    pub fn new(bytes: &[u8]) -> Result<Self, BadName> {
        match bytes {
            [] => Err(BadName::Empty),
            b"." | b".." => Err(BadName::Dots),
            _ if bytes.len() > Self::BYTES_MAX => Err(BadName::TooLong(bytes.len())),
            _ if bytes.iter().any(|b| matches!(b, 0 | b'/')) => Err(BadName::Byte),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, as the standard library takes file names.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_passes_and_one_more_byte_does_not() {
        assert!(Name::new(&[0xff; 255]).is_ok());
        assert_eq!(Name::new(&[b'a'; 256]), Err(BadName::TooLong(256)));
    }

    #[test]
    fn reserved_names_and_bytes_are_refused() {
        for bytes in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert!(Name::new(bytes).is_err(), "{bytes:?}");
        }
        assert!(Name::new(b"...").is_ok());
    }
}
