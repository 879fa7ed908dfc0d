//! Objects written in parts: begun, sent, then completed or aborted.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::{Bucket, answer, crc32c, length, user_metadata};
use crate::error::{Call, Operation, S3Error};
use crate::object::{ObjectMeta, PendingUpload, Precondition, Stored, StoredPart};

/// Most parts of an upload.
pub const PARTS_MAX: u32 = 10_000;

impl Bucket {
    /// Begins an upload. Until it is completed or aborted it keeps its parts, unseen and paid for.
    pub async fn begin_upload(
        &self,
        key: &str,
        meta: &ObjectMeta,
    ) -> Result<PendingUpload, S3Error> {
        let call = self.call(Operation::CreateMultipartUpload, key);
        let attempt = async |_| {
            let algorithm = self.features.checks_crc32c.then_some(ChecksumAlgorithm::Crc32C);
            let request = self.client.create_multipart_upload();
            let request = request.bucket(&call.bucket).key(&call.key);
            let request = request.set_metadata(Some(user_metadata(meta)));
            let request = request.set_content_type(meta.content_type.clone());
            let sent = request.set_checksum_algorithm(algorithm).send();
            let answer = sent.await.map_err(|error| answer::refused(&call, error))?;
            let upload_id = answer.upload_id().map(str::to_owned);
            let what = "the answer has no upload id";
            upload_id.ok_or_else(|| S3Error::WrongBytes { call: call.clone(), what })
        };
        let upload_id = self.patience.ask(&call, 0, attempt).await?;
        Ok(PendingUpload { key: key.to_owned(), upload_id })
    }

    /// Sends one part; the same number again replaces it. Numbers begin at 1.
    pub async fn put_part(
        &self,
        upload: &PendingUpload,
        number: i32,
        body: Bytes,
    ) -> Result<StoredPart, S3Error> {
        let call = self.call(Operation::UploadPart, &upload.key);
        let sum = crc32c(&body);
        let size = length(&body);
        let attempt = async |_| {
            let request = self.client.upload_part().bucket(&call.bucket).key(&call.key);
            let request = request.upload_id(&upload.upload_id).part_number(number);
            let checked = self.features.checks_crc32c.then(|| sum.clone());
            let request = request.set_checksum_crc32_c(checked.clone());
            let sent = request.body(ByteStream::from(body.clone())).send();
            let answer = sent.await.map_err(|error| answer::refused(&call, error))?;
            if answer.checksum_crc32_c().is_some_and(|echo| echo != sum) {
                let what = "the server stored others than we sent";
                return Err(S3Error::WrongBytes { call: call.clone(), what });
            }
            let etag = answer::etag(&call, answer.e_tag())?.quoted();
            Ok(StoredPart { number, etag, crc32c: checked })
        };
        self.patience.ask(&call, size, attempt).await
    }

    /// Makes the parts the object, in the order of their numbers. Only now, and all at once, does
    /// it replace what had the key.
    ///
    /// `meta` is what the upload was begun with, to recognize the object should the answer be lost.
    ///
    /// # Cancel safety
    /// The object may or may not have been written.
    pub async fn complete_upload(
        &self,
        upload: &PendingUpload,
        parts: &[StoredPart],
        size: u64,
        meta: &ObjectMeta,
        when: &Precondition,
    ) -> Result<Stored, S3Error> {
        self.check_unsupported(&upload.key, when).await?;
        let call = self.call(Operation::CompleteMultipartUpload, &upload.key);
        let attempt =
            async |failed: u32| match self.complete_once(&call, upload, parts, size, when).await {
                // Perhaps by our own attempt, whose answer was lost.
                Err(S3Error::NotFound { .. } | S3Error::Changed { .. }) if failed > 0 => {
                    self.recognize(&call, size, meta).await
                }
                // Done, and told in words that the SDK does not know, as moto does.
                Err(error @ S3Error::WrongBytes { what: answer::UNREADABLE, .. }) => {
                    let made = self.recognize(&call, size, meta).await;
                    let is_new = |made: &Stored| *when != Precondition::Match(made.etag.clone());
                    made.ok().filter(is_new).ok_or(error)
                }
                result => result,
            };
        // The server may copy all of it first.
        self.patience.ask(&call, size / SERVER_SPEEDUP, attempt).await
    }

    async fn complete_once(
        &self,
        call: &Call,
        upload: &PendingUpload,
        parts: &[StoredPart],
        size: u64,
        when: &Precondition,
    ) -> Result<Stored, S3Error> {
        let parts = parts.iter().map(completed).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload();
        let request = request.bucket(&call.bucket).key(&call.key).upload_id(&upload.upload_id);
        let request = match when {
            Precondition::Always => request,
            Precondition::Absent => request.if_none_match("*"),
            Precondition::Match(etag) => request.if_match(etag.quoted()),
        };
        let sent = request.multipart_upload(parts).send();
        let answer = sent.await.map_err(|error| answer::refused(call, error))?;
        let etag = answer::etag(call, answer.e_tag())?;
        Ok(Stored { etag, version_id: answer.version_id().map(str::to_owned), size })
    }

    /// Gives up an upload and its parts; that there is none is success.
    pub async fn abort_upload(&self, upload: &PendingUpload) -> Result<(), S3Error> {
        let call = self.call(Operation::AbortMultipartUpload, &upload.key);
        let attempt = async |_| {
            let request = self.client.abort_multipart_upload();
            let request = request.bucket(&call.bucket).key(&call.key).upload_id(&upload.upload_id);
            match request.send().await.map_err(|error| answer::refused(&call, error)) {
                Ok(_) | Err(S3Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.patience.ask(&call, 0, attempt).await
    }
}

/// How many times faster than our slowest line a server is assumed to move its own bytes.
pub(super) const SERVER_SPEEDUP: u64 = 64;

fn completed(part: &StoredPart) -> CompletedPart {
    CompletedPart::builder()
        .part_number(part.number)
        .e_tag(&part.etag)
        .set_checksum_crc32_c(part.crc32c.clone())
        .build()
}
