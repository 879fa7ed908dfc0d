//! What an object is to the file system.

use bytes::Bytes;
use nacre_proto::v1;

use crate::bucket::Bucket;
use crate::error::S3Error;
use crate::key::{KeyError, path_of};
use crate::object::{Head, Tier};
use crate::posix::{self, FileKind, Imported, MetaError};
use crate::report::ReportCode;

/// Bytes of the longest target that a symbolic link can have.
const TARGET_BYTES_MAX: u64 = 4095;

/// What was found out about a key.
#[derive(Debug)]
pub(super) enum Found {
    /// An object, or that there is none: to be imported.
    Object(v1::ImportedObject),
    /// No file can be what it is.
    Refused(Refusal),
    /// It is being written: the next sweep sees it again.
    Unsettled,
}

/// Why a key is not imported.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// No path is like that.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its attributes cannot be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// No symbolic link can have such a target.
    #[error("a target of {bytes} bytes, or with a NUL byte")]
    Target {
        /// Its length.
        bytes: u64,
    },
    /// The target of a symbolic link cannot be read.
    #[error("a symbolic link in a tier that cannot be read")]
    ColdSymlink,
    /// S3 does not show it.
    #[error(transparent)]
    S3(S3Error),
}

impl Refusal {
    /// What the completion report says.
    pub(super) const fn code(&self) -> ReportCode {
        match self {
            Self::Key(error) => error.code(),
            Self::Meta(error) => error.code(),
            Self::Target { bytes } if *bytes > TARGET_BYTES_MAX => ReportCode::PathSizeTooLong,
            Self::Target { .. } => ReportCode::S3ObjectPathNotPosixCompliant,
            Self::ColdSymlink => ReportCode::S3SymlinkInUnsupportedTier,
            Self::S3(error) => error.code(),
        }
    }
}

/// Looks at what has the key now. An error says something of more than this key.
pub(super) async fn find(bucket: &Bucket, prefix: &str, key: &str) -> Result<Found, S3Error> {
    let (path, kind) = match path_of(prefix, key) {
        Ok(found) => found,
        Err(error) => return Ok(Found::Refused(error.into())),
    };
    let head = match bucket.head(key).await {
        Ok(head) => head,
        Err(S3Error::NotFound { .. }) => return Ok(Found::Object(gone(path, key))),
        Err(error) => return unseen(error),
    };
    let imported = match posix::decode(kind, &head.meta) {
        Ok(imported) => imported,
        Err(error) => return Ok(Found::Refused(error.into())),
    };
    let mut object = describe(path, key, &head, &imported);
    match (imported.kind, head.tier) {
        (FileKind::Symlink, Tier::Cold) => return Ok(Found::Refused(Refusal::ColdSymlink)),
        (FileKind::Symlink, Tier::Online) => match target(bucket, key, &head).await {
            Ok(Ok(target)) => object.target = target,
            Ok(Err(refusal)) => return Ok(Found::Refused(refusal)),
            Err(error) => return unseen(error),
        },
        (FileKind::File, Tier::Cold) => {
            let code = ReportCode::S3ObjectInUnsupportedTier;
            tracing::warn!(key, %code, "imported, but its bytes cannot be read as they are");
        }
        (FileKind::File, Tier::Online) | (FileKind::Directory, Tier::Online | Tier::Cold) => {}
    }
    Ok(Found::Object(object))
}

/// The target of a symbolic link, which is the object's body.
async fn target(
    bucket: &Bucket,
    key: &str,
    head: &Head,
) -> Result<Result<Bytes, Refusal>, S3Error> {
    let bytes = head.stored.size;
    if !(1..=TARGET_BYTES_MAX).contains(&bytes) {
        return Ok(Err(Refusal::Target { bytes }));
    }
    let target = bucket.get_whole(key, bytes, Some(&head.stored.etag)).await?;
    if target.contains(&0) { Ok(Err(Refusal::Target { bytes })) } else { Ok(Ok(target)) }
}

/// What an error of S3 about one key means: that key, or all of them.
fn unseen(error: S3Error) -> Result<Found, S3Error> {
    match &error {
        // Between the questions.
        S3Error::NotFound { .. } | S3Error::Changed { .. } => Ok(Found::Unsettled),
        S3Error::AccessDenied { .. }
        | S3Error::ColdTier { .. }
        | S3Error::Unsupported { .. }
        | S3Error::Other { .. } => Ok(Found::Refused(Refusal::S3(error))),
        S3Error::NoBucket { .. }
        | S3Error::Credentials { .. }
        | S3Error::Transient { .. }
        | S3Error::WrongBytes { .. } => Err(error),
    }
}

fn gone(path: &str, key: &str) -> v1::ImportedObject {
    v1::ImportedObject {
        path: path.to_owned(),
        key: key.to_owned(),
        gone: true,
        ..v1::ImportedObject::default()
    }
}

fn describe(path: &str, key: &str, head: &Head, imported: &Imported) -> v1::ImportedObject {
    v1::ImportedObject {
        path: path.to_owned(),
        key: key.to_owned(),
        gone: false,
        mode: imported.kind.type_bits() | imported.permissions.unwrap_or_default(),
        has_perm: imported.permissions.is_some(),
        uid: imported.uid,
        gid: imported.gid,
        atime: imported.atime.map(Into::into),
        mtime: imported.mtime.or(head.last_modified).map(Into::into),
        has_mtime: imported.mtime.is_some(),
        target: Bytes::new(),
        etag: head.stored.etag.as_str().to_owned(),
        version_id: head.stored.version_id.clone().unwrap_or_default(),
        size: head.stored.size,
    }
}

#[cfg(test)]
mod tests {
    use nacre_model::Timestamp;
    use nacre_node::Scope;
    use tempfile::TempDir;

    use super::*;
    use crate::object::{ETag, ObjectMeta, Precondition, Stored};
    use crate::testing;

    const PREFIX: &str = "some/prefix/";
    const MTIME: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 5 };
    const MODIFIED: Timestamp = Timestamp { secs: 1_800_000_000, nanos: 0 };

    fn meta(fields: &[(&str, &str)]) -> ObjectMeta {
        let user = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ObjectMeta { content_type: None, user: user.collect() }
    }

    fn described(fields: &[(&str, &str)], key: &str) -> v1::ImportedObject {
        let (path, kind) = path_of(PREFIX, key).unwrap();
        let stored = Stored { etag: ETag::new("\"e\""), version_id: None, size: 7 };
        let head =
            Head { stored, last_modified: Some(MODIFIED), meta: meta(fields), tier: Tier::Online };
        let imported = posix::decode(kind, &head.meta).unwrap();
        describe(path, key, &head, &imported)
    }

    /// A server, and an object for each key.
    async fn with(objects: &[(&str, &'static [u8], &ObjectMeta)]) -> (Scope, TempDir, Bucket) {
        let (scope, dir) = (Scope::new(), tempfile::tempdir().unwrap());
        let bucket = testing::bucket(&scope, dir.path()).await;
        for (key, body, meta) in objects {
            let body = Bytes::from_static(body);
            bucket.put(key, body, meta, &Precondition::Always).await.unwrap();
        }
        (scope, dir, bucket)
    }

    #[test]
    fn what_the_metadata_does_not_say_is_not_made_up() {
        let object = described(&[], "some/prefix/a/b");
        assert_eq!((object.path.as_str(), object.key.as_str()), ("a/b", "some/prefix/a/b"));
        assert_eq!((object.mode, object.has_perm), (0o100_000, false));
        assert_eq!((object.uid, object.gid, object.atime), (None, None, None));
        assert_eq!((object.mtime, object.has_mtime), (Some(MODIFIED.into()), false));
        assert_eq!((object.etag.as_str(), object.version_id.as_str()), ("e", ""));
        assert_eq!((object.size, object.gone), (7, false));
    }

    #[test]
    fn what_the_metadata_says_is_taken_and_the_slash_decides() {
        let fields = [
            ("file-permissions", "0100640"),
            ("file-owner", "0"),
            ("file-group", "100"),
            ("file-mtime", "1700000000000000005ns"),
        ];
        let file = described(&fields, "some/prefix/a");
        assert_eq!((file.mode, file.has_perm), (0o100_640, true));
        assert_eq!((file.uid, file.gid), (Some(0), Some(100)));
        assert_eq!((file.mtime, file.has_mtime), (Some(MTIME.into()), true));
        let directory = described(&fields, "some/prefix/a/");
        assert_eq!((directory.path.as_str(), directory.mode), ("a", 0o040_640));
    }

    #[tokio::test]
    async fn a_symbolic_link_has_its_body_as_target() {
        let link = meta(&[("file-permissions", "0120777")]);
        let odd: [(&str, &[u8]); 2] = [("some/prefix/empty", b""), ("some/prefix/nul", b"a\0b")];
        let objects = [
            ("some/prefix/link", b"../ta\xffget".as_slice(), &link),
            (odd[0].0, odd[0].1, &link),
            (odd[1].0, odd[1].1, &link),
        ];
        let (scope, _dir, bucket) = with(&objects).await;
        let found = find(&bucket, PREFIX, "some/prefix/link").await.unwrap();
        let Found::Object(object) = found else { panic!("{found:?}") };
        assert_eq!((object.mode, &object.target[..]), (0o120_777, b"../ta\xffget".as_slice()));
        for (key, body) in odd {
            let found = find(&bucket, PREFIX, key).await.unwrap();
            let Found::Refused(refusal) = found else { panic!("{found:?}") };
            assert!(matches!(refusal, Refusal::Target { bytes } if bytes == body.len() as u64));
            assert_eq!(refusal.code(), ReportCode::S3ObjectPathNotPosixCompliant);
        }
        scope.join().await;
    }

    #[tokio::test]
    async fn a_key_that_has_no_object_is_gone() {
        let (scope, _dir, bucket) = with(&[]).await;
        let found = find(&bucket, PREFIX, "some/prefix/a/").await.unwrap();
        let Found::Object(object) = found else { panic!("{found:?}") };
        assert_eq!(object, gone("a", "some/prefix/a/"));
        assert!(object.gone);
        scope.join().await;
    }

    #[tokio::test]
    async fn odd_keys_and_odd_attributes_are_refused_with_their_code() {
        let pipe = meta(&[("file-permissions", "0010644")]);
        let owner = meta(&[("file-owner", "somebody")]);
        let objects: [(&str, &[u8], _); 2] =
            [("some/prefix/pipe", b"", &pipe), ("some/prefix/owner", b"", &owner)];
        let (scope, _dir, bucket) = with(&objects).await;
        let odd = [
            ("some/prefix/a//b", ReportCode::S3ObjectPathNotPosixCompliant),
            ("some/prefix/../b", ReportCode::S3ObjectPathNotPosixCompliant),
            ("some/other/b", ReportCode::InternalError),
            ("some/prefix/pipe", ReportCode::S3ObjectTypeMismatch),
            ("some/prefix/owner", ReportCode::S3Error),
        ];
        for (key, code) in odd {
            let found = find(&bucket, PREFIX, key).await.unwrap();
            let Found::Refused(refusal) = found else { panic!("{key}: {found:?}") };
            assert_eq!(refusal.code(), code, "{key}");
        }
        scope.join().await;
    }
}
