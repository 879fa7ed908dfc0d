//! New metadata for an object that keeps its bytes: copied onto itself within the server.

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
    /// Replaces all metadata of the object with that `ETag`, else [`S3Error::Changed`].
    ///
    /// The object gets a new time, and above [`COPY_BYTES_MAX`] a new `ETag`: record what comes
    /// back. Several servers ignore the condition on the source, so a HEAD before checks it too;
    /// a write between the two is then lost.
    pub async fn copy_onto_itself(
        &self,
        key: &str,
        meta: &ObjectMeta,
        etag: &ETag,
    ) -> Result<Stored, S3Error> {
        self.copy_cut(key, meta, etag, CUT).await
    }

    async fn copy_cut(
        &self,
        key: &str,
        meta: &ObjectMeta,
        etag: &ETag,
        cut: Cut,
    ) -> Result<Stored, S3Error> {
        let call = self.call(Operation::CopyObject, key);
        let found = self.head(key).await?;
        if found.stored.etag != *etag {
            return Err(S3Error::Changed { call });
        }
        if found.stored.size > cut.whole_max {
            return self.copy_in_parts(key, meta, &found, cut.part).await;
        }
        let size = found.stored.size;
        let attempt = async |_| self.copy_once(&call, meta, &found).await;
        self.patience.ask(&call, size / SERVER_SPEEDUP, attempt).await
    }

    async fn copy_once(
        &self,
        call: &Call,
        meta: &ObjectMeta,
        found: &Head,
    ) -> Result<Stored, S3Error> {
        let request = self.client.copy_object().bucket(&call.bucket).key(&call.key);
        let sent = request
            .copy_source(source(call))
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
        key: &str,
        meta: &ObjectMeta,
        found: &Head,
        part_bytes: usize,
    ) -> Result<Stored, S3Error> {
        let upload = self.begin_upload(key, meta).await?;
        let size = found.stored.size;
        let when = Precondition::Match(found.stored.etag.clone());
        let copied = async {
            let mut parts = Vec::new();
            let starts = (0..size).step_by(part_bytes);
            let ends = starts.clone().skip(1).chain([size]);
            for (number, (start, end)) in (1..).zip(starts.zip(ends)) {
                parts.push(self.copy_part(&upload, number, start..end, found).await?);
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
        range: Range<u64>,
        found: &Head,
    ) -> Result<StoredPart, S3Error> {
        let call = self.call(Operation::UploadPartCopy, &upload.key);
        let last = range.end.saturating_sub(1);
        let attempt = async |_| {
            let request = self.client.upload_part_copy().bucket(&call.bucket).key(&call.key);
            let request = request.upload_id(&upload.upload_id).part_number(number);
            let sent = request
                .copy_source(source(&call))
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
fn source(call: &Call) -> String {
    format!("{}/{}", call.bucket, percent::encode(&call.key))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nacre_node::Scope;
    use tokio::net::TcpListener;

    use super::*;
    use crate::embedded::{Served, serve};
    use crate::{Endpoint, Patience};

    /// A bucket of a server in this process.
    async fn bucket(scope: &Scope, dir: &std::path::Path) -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            url: format!("http://{}", listener.local_addr().unwrap()),
            region: "us-east-1".into(),
            access_key: "access".into(),
            secret_key: "secret".into(),
        };
        let served = Served {
            dir: dir.to_owned(),
            bucket: "data".into(),
            access_key: "access".into(),
            secret_key: "secret".into(),
        };
        let inner = scope.clone();
        scope.spawn("server", async move { serve(listener, served, &inner).await.unwrap() });
        Bucket::new(&endpoint, "s3://data".parse().unwrap(), Patience::default())
    }

    #[tokio::test]
    async fn an_object_too_large_for_one_copy_gets_its_metadata_in_parts() {
        let (scope, dir) = (Scope::new(), tempfile::tempdir().unwrap());
        let bucket = bucket(&scope, dir.path()).await;
        let (old, body) = (ObjectMeta::default(), Bytes::from_static(b"content"));
        let stored = bucket.put("ä b", body.clone(), &old, &Precondition::Always).await.unwrap();
        let user = [("file-owner".to_owned(), "7".to_owned())].into();
        let new = ObjectMeta { content_type: Some("text/plain".into()), user };
        for part in [1, 3, 6] {
            let etag = bucket.head("ä b").await.unwrap().stored.etag;
            let cut = Cut { whole_max: 6, part };
            let copied = bucket.copy_cut("ä b", &new, &etag, cut).await.unwrap();
            assert_eq!(copied.size, stored.size);
            assert_eq!(bucket.head("ä b").await.unwrap().meta, new);
            let read = bucket.get_whole("ä b", 7, Some(&copied.etag)).await.unwrap();
            assert_eq!(read, body);
        }
        assert!(bucket.list_uploads("").await.unwrap().is_empty());
        scope.join().await;
    }
}
