//! Where a data repository is: the bucket and prefix, and the endpoint that serves it.

use std::fmt;
use std::str::FromStr;

/// Longest prefix in bytes, and longest key: what S3 allows for a whole key.
pub const KEY_BYTES_MAX: usize = 1024;

/// `s3://bucket/prefix/`: a bucket and the prefix below which every key lies.
///
/// The prefix is empty or ends in "/", so that prefix and relative path join without a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    bucket: String,
    prefix: String,
}

impl BucketUrl {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What every key begins with: empty, or ending in "/".
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether one of the two contains the other, which no two repositories may.
    pub fn overlaps(&self, other: &Self) -> bool {
        let nested =
            self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix);
        self.bucket == other.bucket && nested
    }
}

impl FromStr for BucketUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("s3://").ok_or(UrlError::Scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(bucket)?;
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        let prefix = format!("{prefix}{slash}");
        if prefix.len() > KEY_BYTES_MAX {
            return Err(UrlError::PrefixTooLong { bytes: prefix.len() });
        }
        if let Some(component) = odd_component(&prefix) {
            return Err(UrlError::Component { component: component.to_owned() });
        }
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// S3's rules for names of general purpose buckets.
fn check_bucket(name: &str) -> Result<(), UrlError> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (3..=63).contains(&name.len())
        && name.chars().all(inner)
        && name.starts_with(outer)
        && name.ends_with(outer)
        && !name.contains("..");
    if good { Ok(()) } else { Err(UrlError::Bucket { name: name.to_owned() }) }
}

/// The first component of a prefix that no path below it could be given.
fn odd_component(prefix: &str) -> Option<&str> {
    let within = prefix.strip_suffix('/')?;
    within.split('/').find(|part| matches!(*part, "" | "." | "..") || part.contains('\0'))
}

/// Why a text is not the URL of a data repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not begin with `s3://`.
    #[error("a data repository is written s3://bucket/prefix/")]
    Scheme,
    /// The bucket's name breaks S3's rules for names.
    #[error(
        "{name:?} is no bucket name: 3 to 63 of a-z, 0-9, - and ., beginning and ending with a letter or digit"
    )]
    Bucket {
        /// What stands in the bucket's place.
        name: String,
    },
    /// The prefix leaves no room for a key.
    #[error("the prefix has {bytes} bytes, and a whole key only {KEY_BYTES_MAX}")]
    PrefixTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A component of the prefix is empty, `.`, `..` or has a NUL.
    #[error("{component:?} cannot be a component of the prefix")]
    Component {
        /// The component.
        component: String,
    },
}

/// A server of S3 and how to sign for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` or `https://host`.
    pub url: String,
    /// What signatures name as the region; many servers insist on one of their own.
    pub region: String,
    /// The public half of the credentials.
    pub access_key: String,
    /// The secret half of the credentials.
    pub secret_key: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<BucketUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn a_prefix_gets_its_slash_and_prints_as_it_is_used() {
        assert_eq!(url("s3://data/a/b").unwrap().to_string(), "s3://data/a/b/");
        assert_eq!(url("s3://data/a/b/").unwrap().prefix(), "a/b/");
        assert_eq!(url("s3://data").unwrap().to_string(), "s3://data/");
        assert_eq!(url("s3://data/").unwrap().prefix(), "");
    }

    #[test]
    fn odd_urls_say_what_is_odd() {
        assert_eq!(url("https://data/a"), Err(UrlError::Scheme));
        for name in ["", "ab", "Data", "-data", "da..ta", "da ta"] {
            let expected = UrlError::Bucket { name: name.to_owned() };
            assert_eq!(url(&format!("s3://{name}/a")), Err(expected));
        }
        for prefix in ["/", "a//b", "a/../b", "./a", "a/\0"] {
            assert!(matches!(url(&format!("s3://data/{prefix}")), Err(UrlError::Component { .. })));
        }
        let long = format!("s3://data/{}", "a".repeat(KEY_BYTES_MAX));
        assert_eq!(url(&long), Err(UrlError::PrefixTooLong { bytes: KEY_BYTES_MAX + 1 }));
    }

    #[test]
    fn repositories_overlap_when_one_contains_the_other() {
        let overlap = |a: &str, b: &str| url(a).unwrap().overlaps(&url(b).unwrap());
        assert!(overlap("s3://data/a/", "s3://data/a/b/"));
        assert!(overlap("s3://data", "s3://data/a"));
        assert!(!overlap("s3://data/a", "s3://data/ab"));
        assert!(!overlap("s3://data/a", "s3://other/a"));
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        let endpoint = Endpoint {
            url: "http://localhost".into(),
            region: "us-east-1".into(),
            access_key: "public".into(),
            secret_key: "hidden".into(),
        };
        let text = format!("{endpoint:?}");
        assert!(text.contains("public") && !text.contains("hidden"));
    }
}
