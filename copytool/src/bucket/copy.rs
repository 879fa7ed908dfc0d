//! New metadata for an object that keeps its bytes: copied onto itself within the server.

use aws_sdk_s3::types::MetadataDirective;

use super::multipart::SERVER_SPEEDUP;
use super::{Bucket, answer, percent, user_metadata};
use crate::error::{Call, Operation, S3Error};
use crate::object::{ETag, Head, ObjectMeta, PendingUpload, Precondition, Stored, StoredPart};

/// Largest object that S3 copies in one request; larger ones are copied in parts.
pub const COPY_BYTES_MAX: u64 = 5 << 30;

/// Bytes of a part of a copy: an object of S3's maximum of 5 TiB then has half the parts that it
/// may have.
const COPY_PART_BYTES: u64 = 1 << 30;

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
        let call = self.call(Operation::CopyObject, key);
        let found = self.head(key).await?;
        if found.stored.etag != *etag {
            return Err(S3Error::Changed { call });
        }
        if found.stored.size > COPY_BYTES_MAX {
            return self.copy_in_parts(key, meta, &found).await;
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
    ) -> Result<Stored, S3Error> {
        let upload = self.begin_upload(key, meta).await?;
        let size = found.stored.size;
        let when = Precondition::Match(found.stored.etag.clone());
        let copied = async {
            let mut parts = Vec::new();
            for (number, start) in (1..).zip((0..size).step_by(step())) {
                let end = start.saturating_add(COPY_PART_BYTES).min(size);
                parts.push(self.copy_part(&upload, number, start, end, found).await?);
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
        start: u64,
        end: u64,
        found: &Head,
    ) -> Result<StoredPart, S3Error> {
        let call = self.call(Operation::UploadPartCopy, &upload.key);
        let attempt = async |_| {
            let request = self.client.upload_part_copy().bucket(&call.bucket).key(&call.key);
            let request = request.upload_id(&upload.upload_id).part_number(number);
            let sent = request
                .copy_source(source(&call))
                .copy_source_if_match(found.stored.etag.quoted())
                .copy_source_range(format!("bytes={start}-{}", end.saturating_sub(1)))
                .send();
            let answer = sent.await.map_err(|error| answer::refused(&call, error))?;
            let result = answer.copy_part_result();
            let etag = answer::etag(&call, result.and_then(|result| result.e_tag()))?.quoted();
            let crc32c = result.and_then(|result| result.checksum_crc32_c());
            Ok(StoredPart { number, etag, crc32c: crc32c.map(str::to_owned) })
        };
        let bytes = end.saturating_sub(start);
        self.patience.ask(&call, bytes / SERVER_SPEEDUP, attempt).await
    }
}

fn step() -> usize {
    usize::try_from(COPY_PART_BYTES).expect("a gibibyte fits")
}

/// What is copied from, as its header wants it.
fn source(call: &Call) -> String {
    format!("{}/{}", call.bucket, percent::encode(&call.key))
}
