//! Objects of bytes that the bucket has already, copied within the server: under another key, or
//! onto themselves, with other metadata.

use std::ops::Range;

use aws_sdk_s3::types::MetadataDirective;

use super::multipart::SERVER_SPEEDUP;
use super::{Bucket, answer, percent, user_metadata};
use crate::error::{Call, Operation, S3Error};
use crate::object::{ETag, Head, ObjectMeta, PendingUpload, Precondition, Stored, StoredPart};

/// Largest object that S3 copies in one request; larger ones are copied in parts.
pub const COPY_BYTES_MAX: u64 = 5 << 30;

/// How an object is cut for copying.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Bytes of the largest object that is copied in one request.
    whole_max: u64,
    /// Bytes of a part of a larger one.
    part: usize,
}

/// An object of S3's maximum of 5 TiB then has half the parts that it may have.
const CUT: Cut = Cut { whole_max: COPY_BYTES_MAX, part: 1 << 30 };

impl Bucket {
    /// Makes the object `to` of the bytes of `from`, which must have that `ETag`, else
    /// [`S3Error::Changed`], and of this metadata. The two may be one: then only its metadata is
    /// replaced. Whatever else had the key `to` is replaced as well.
    ///
    /// The object gets a new time, and often a new `ETag`: record what comes back. Several servers
    /// ignore the condition on the source, so a HEAD before checks it too; what is written between
    /// the two is copied, or, if the two are one, lost.
    ///
    /// # Cancel safety
    /// The object may or may not have been written; above [`COPY_BYTES_MAX`] an upload may stay.
    pub async fn copy(
        &self,
        from: &str,
        to: &str,
        meta: &ObjectMeta,
        etag: &ETag,
    ) -> Result<Stored, S3Error> {
        let found = self.head_of(from, etag).await?;
        self.copy_found(from, to, meta, &found).await
    }

    /// The same, where a HEAD has found the source already.
    pub(crate) async fn copy_found(
        &self,
        from: &str,
        to: &str,
        meta: &ObjectMeta,
        found: &Head,
    ) -> Result<Stored, S3Error> {
        self.copy_cut(from, to, meta, found, CUT).await
    }

    async fn copy_cut(
        &self,
        from: &str,
        to: &str,
        meta: &ObjectMeta,
        found: &Head,
        cut: Cut,
    ) -> Result<Stored, S3Error> {
        let size = found.stored.size;
        if size > cut.whole_max {
            return self.copy_in_parts(from, to, meta, found, cut.part).await;
        }
        let call = self.call(Operation::CopyObject, to);
        let attempt = async |failed: u32| match self.copy_once(&call, from, meta, found).await {
            // Perhaps by our own attempt, whose answer was lost: it may have changed the source.
            Err(S3Error::Changed { .. }) if failed > 0 && from == to => {
                self.recognize(&call, size, meta).await
            }
            result => result,
        };
        self.patience.ask(&call, size / SERVER_SPEEDUP, attempt).await
    }

    async fn copy_once(
        &self,
        call: &Call,
        from: &str,
        meta: &ObjectMeta,
        found: &Head,
    ) -> Result<Stored, S3Error> {
        let request = self.client.copy_object().bucket(&call.bucket).key(&call.key);
        let sent = request
            .copy_source(source(&call.bucket, from))
            .copy_source_if_match(found.stored.etag.quoted())
            .metadata_directive(MetadataDirective::Replace)
            .set_content_type(meta.content_type.clone())
            .set_metadata(Some(user_metadata(meta)))
            .send();
        let answer = sent.await.map_err(|error| answer::refused(call, error))?;
        let result = answer.copy_object_result();
        let etag = answer::etag(call, result.and_then(|result| result.e_tag()))?;
        let version_id = answer.version_id().map(str::to_owned);
        Ok(Stored { etag, version_id, size: found.stored.size })
    }

    async fn copy_in_parts(
        &self,
        from: &str,
        to: &str,
        meta: &ObjectMeta,
        found: &Head,
        part_bytes: usize,
    ) -> Result<Stored, S3Error> {
        let upload = self.begin_upload(to, meta).await?;
        let size = found.stored.size;
        let when = if from == to {
            Precondition::Match(found.stored.etag.clone())
        } else {
            Precondition::Always
        };
        let copied = async {
            let mut parts = Vec::new();
            let starts = (0..size).step_by(part_bytes);
            let ends = starts.clone().skip(1).chain([size]);
            for (number, (start, end)) in (1..).zip(starts.zip(ends)) {
                parts.push(self.copy_part(&upload, number, from, start..end, found).await?);
            }
            self.complete_upload(&upload, &parts, size, meta, &when).await
        };
        let result = copied.await;
        if result.is_err() {
            // What went wrong first is what matters.
            let _: Result<(), S3Error> = self.abort_upload(&upload).await;
        }
        result
    }

    async fn copy_part(
        &self,
        upload: &PendingUpload,
        number: i32,
        from: &str,
        range: Range<u64>,
        found: &Head,
    ) -> Result<StoredPart, S3Error> {
        let call = self.call(Operation::UploadPartCopy, &upload.key);
        let last = range.end.saturating_sub(1);
        let attempt = async |_| {
            let request = self.client.upload_part_copy().bucket(&call.bucket).key(&call.key);
            let request = request.upload_id(&upload.upload_id).part_number(number);
            let sent = request
                .copy_source(source(&call.bucket, from))
                .copy_source_if_match(found.stored.etag.quoted())
                .copy_source_range(format!("bytes={}-{last}", range.start))
                .send();
            let answer = sent.await.map_err(|error| answer::refused(&call, error))?;
            let result = answer.copy_part_result();
            let etag = answer::etag(&call, result.and_then(|result| result.e_tag()))?.quoted();
            let crc32c = result.and_then(|result| result.checksum_crc32_c());
            Ok(StoredPart { number, etag, crc32c: crc32c.map(str::to_owned) })
        };
        let bytes = range.end.saturating_sub(range.start);
        self.patience.ask(&call, bytes / SERVER_SPEEDUP, attempt).await
    }
}

/// What is copied from, as its header wants it.
fn source(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}", percent::encode(key))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nacre_node::Scope;

    use super::*;
    use crate::testing;

    const BODY: Bytes = Bytes::from_static(b"content");

    fn owner(uid: &str) -> ObjectMeta {
        let user = [("file-owner".to_owned(), uid.to_owned())].into();
        ObjectMeta { content_type: Some("text/plain".into()), user }
    }

    #[tokio::test]
    async fn an_object_too_large_for_one_copy_is_copied_in_parts() {
        let (scope, dir) = (Scope::new(), tempfile::tempdir().unwrap());
        let bucket = testing::bucket(&scope, dir.path()).await;
        let old = ObjectMeta::default();
        let stored = bucket.put("ä b", BODY, &old, &Precondition::Always).await.unwrap();
        let new = owner("7");
        for (part, to) in [(1, "ä b"), (3, "ä b"), (6, "ä b"), (3, "c+d"), (6, "c+d")] {
            let found = bucket.head("ä b").await.unwrap();
            let cut = Cut { whole_max: 6, part };
            let copied = bucket.copy_cut("ä b", to, &new, &found, cut).await.unwrap();
            assert_eq!(copied.size, stored.size);
            assert_eq!(bucket.head(to).await.unwrap().meta, new);
            assert_eq!(bucket.get_whole(to, 7, Some(&copied.etag)).await.unwrap(), BODY);
        }
        assert!(bucket.list_uploads("").await.unwrap().is_empty());
        scope.join().await;
    }

    #[tokio::test]
    async fn a_copy_under_another_key_leaves_its_source_and_replaces_what_was_there() {
        let (scope, dir) = (Scope::new(), tempfile::tempdir().unwrap());
        let bucket = testing::bucket(&scope, dir.path()).await;
        let always = Precondition::Always;
        let stored = bucket.put("ä b", BODY, &owner("1"), &always).await.unwrap();
        bucket.put("c+d", Bytes::new(), &owner("2"), &always).await.unwrap();
        let copied = bucket.copy("ä b", "c+d", &owner("3"), &stored.etag).await.unwrap();
        let head = bucket.head("c+d").await.unwrap();
        assert_eq!((&head.stored, &head.meta), (&copied, &owner("3")));
        assert_eq!(bucket.get_whole("c+d", 7, Some(&copied.etag)).await.unwrap(), BODY);
        assert_eq!(bucket.head("ä b").await.unwrap().meta, owner("1"));
        scope.join().await;
    }

    #[tokio::test]
    async fn a_source_that_is_another_or_none_is_not_copied() {
        let (scope, dir) = (Scope::new(), tempfile::tempdir().unwrap());
        let bucket = testing::bucket(&scope, dir.path()).await;
        let stored = bucket.put("a", BODY, &owner("1"), &Precondition::Always).await.unwrap();
        let other = ETag::new("other");
        let error = bucket.copy("a", "b", &owner("2"), &other).await.unwrap_err();
        assert!(matches!(error, S3Error::Changed { .. }), "{error}");
        let error = bucket.copy("c", "b", &owner("2"), &stored.etag).await.unwrap_err();
        assert!(matches!(error, S3Error::NotFound { .. }), "{error}");
        let error = bucket.head("b").await.unwrap_err();
        assert!(matches!(error, S3Error::NotFound { .. }), "{error}");
        scope.join().await;
    }
}
