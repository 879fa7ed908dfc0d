//! Paths of files and keys of objects, one to one under a prefix.
//!
//! `key = prefix + relative path`; a key that ends in "/" is the marker of a directory. What the
//! other side could not name is refused in both directions, so that nothing is exported that
//! would not come back, and nothing imported that could not be opened.

use crate::location::KEY_BYTES_MAX;
use crate::report::ReportCode;

/// Longest component of a path in bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;

/// What a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A file or a symbolic link: the key has no slash at its end.
    Leaf,
    /// A directory: the key ends in "/".
    Directory,
}

/// The key for `path`, which is relative to where the repository is linked.
pub fn key_of(prefix: &str, path: &[u8], kind: KeyKind) -> Result<String, KeyError> {
    check_path(path)?;
    let path = std::str::from_utf8(path).map_err(|_| KeyError::NotUtf8)?;
    let slash = match kind {
        KeyKind::Leaf => "",
        KeyKind::Directory => "/",
    };
    let key = format!("{prefix}{path}{slash}");
    check_length(&key)?;
    Ok(key)
}

/// The relative path that `key` stands for, without a slash at its end, and what is there.
pub fn path_of<'a>(prefix: &str, key: &'a str) -> Result<(&'a str, KeyKind), KeyError> {
    check_length(key)?;
    let relative = key.strip_prefix(prefix).ok_or(KeyError::OutsidePrefix)?;
    let (path, kind) = match relative.strip_suffix('/') {
        Some(path) => (path, KeyKind::Directory),
        None => (relative, KeyKind::Leaf),
    };
    check_path(path.as_bytes())?;
    Ok((path, kind))
}

fn check_length(key: &str) -> Result<(), KeyError> {
    let bytes = key.len();
    if bytes > KEY_BYTES_MAX { Err(KeyError::KeyTooLong { bytes }) } else { Ok(()) }
}

fn check_path(path: &[u8]) -> Result<(), KeyError> {
    path.split(|byte| *byte == b'/').try_for_each(check_component)
}

fn check_component(component: &[u8]) -> Result<(), KeyError> {
    match component {
        b"" => Err(KeyError::EmptyComponent),
        b"." | b".." => Err(KeyError::DotComponent),
        _ if component.contains(&0) => Err(KeyError::Nul),
        _ if component.len() > COMPONENT_BYTES_MAX => {
            Err(KeyError::ComponentTooLong { bytes: component.len() })
        }
        _ => Ok(()),
    }
}

/// Why a path has no key, or a key no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// With its prefix, the key would exceed S3's limit.
    #[error("the key has {bytes} bytes, {KEY_BYTES_MAX} are allowed")]
    KeyTooLong {
        /// Length with the prefix.
        bytes: usize,
    },
    /// A name is longer than a directory can hold.
    #[error("a component has {bytes} bytes, {COMPONENT_BYTES_MAX} are allowed")]
    ComponentTooLong {
        /// Length of the component.
        bytes: usize,
    },
    /// Keys are UTF-8; this path is not.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// Two slashes in a row, one at the beginning, or nothing at all.
    #[error("a component is empty")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("a component is . or ..")]
    DotComponent,
    /// A component has a NUL byte.
    #[error("a component has a NUL byte")]
    Nul,
    /// The key does not begin with the repository's prefix.
    #[error("the key is outside the prefix")]
    OutsidePrefix,
}

impl KeyError {
    /// What the completion report says.
    pub const fn code(self) -> ReportCode {
        match self {
            Self::KeyTooLong { .. } | Self::ComponentTooLong { .. } => ReportCode::PathSizeTooLong,
            Self::NotUtf8 | Self::EmptyComponent | Self::DotComponent | Self::Nul => {
                ReportCode::S3ObjectPathNotPosixCompliant
            }
            Self::OutsidePrefix => ReportCode::InternalError,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_and_a_directory_of_one_name_have_two_keys() {
        assert_eq!(key_of("p/", b"a/b", KeyKind::Leaf).unwrap(), "p/a/b");
        assert_eq!(key_of("p/", b"a/b", KeyKind::Directory).unwrap(), "p/a/b/");
        assert_eq!(path_of("p/", "p/a/b"), Ok(("a/b", KeyKind::Leaf)));
        assert_eq!(path_of("p/", "p/a/b/"), Ok(("a/b", KeyKind::Directory)));
    }

    #[test]
    fn keys_that_no_path_has_are_refused_with_their_code() {
        let odd = [
            ("p/", KeyError::EmptyComponent),
            ("p//a", KeyError::EmptyComponent),
            ("p/a//b", KeyError::EmptyComponent),
            ("p/a//", KeyError::EmptyComponent),
            ("p/./a", KeyError::DotComponent),
            ("p/a/..", KeyError::DotComponent),
            ("p/a\0", KeyError::Nul),
        ];
        for (key, error) in odd {
            assert_eq!(path_of("p/", key), Err(error), "{key:?}");
            assert_eq!(error.code(), ReportCode::S3ObjectPathNotPosixCompliant);
        }
        assert_eq!(path_of("p/", "q/a"), Err(KeyError::OutsidePrefix));
        assert_eq!(key_of("", b"a\xff", KeyKind::Leaf), Err(KeyError::NotUtf8));
    }

    #[test]
    fn limits_are_in_bytes_and_count_the_prefix() {
        let name = "ä".repeat(127);
        assert_eq!(path_of("", &name), Ok((name.as_str(), KeyKind::Leaf)));
        let longer = format!("{name}ab");
        assert_eq!(path_of("", &longer), Err(KeyError::ComponentTooLong { bytes: 256 }));
        let path = format!("{}/{}", vec!["a".repeat(255); 3].join("/"), "b".repeat(255));
        assert_eq!(path.len(), 1023);
        assert!(key_of("p", path.as_bytes(), KeyKind::Leaf).is_ok());
        let error = key_of("pp", path.as_bytes(), KeyKind::Leaf).unwrap_err();
        assert_eq!(error, KeyError::KeyTooLong { bytes: 1025 });
        assert_eq!(error.code(), ReportCode::PathSizeTooLong);
    }

    proptest! {
        #[test]
        fn every_path_that_has_a_key_comes_back(
            path in "[^\\x00]{1,40}(/[^\\x00]{1,40}){0,3}",
            directory in any::<bool>(),
        ) {
            let kind = if directory { KeyKind::Directory } else { KeyKind::Leaf };
            if let Ok(key) = key_of("some/prefix/", path.as_bytes(), kind) {
                prop_assert_eq!(path_of("some/prefix/", &key), Ok((path.as_str(), kind)));
            }
        }

        #[test]
        fn no_key_panics(prefix in ".{0,10}", key in ".{0,2000}") {
            let _ = path_of(&prefix, &key);
        }
    }
}
