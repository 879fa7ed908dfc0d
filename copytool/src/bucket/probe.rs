//! What linking a repository finds out: whether we may, and what this endpoint can.
//!
//! An object of an odd name is written, read, copied and removed below the prefix. What a server
//! claims counts for nothing: a feature is there if a request that it must refuse is refused.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use uuid::Uuid;

use super::{Bucket, Features, Listing, answer, crc32c};
use crate::error::{Operation, S3Error};
use crate::object::{ETag, ObjectMeta, Precondition, Stored};

/// How the names of these objects begin. They are nobody's files.
pub(crate) const PROBE_NAME: &str = ".nacre-probe-";

const BODY: Bytes = Bytes::from_static(b"written by nacre to see whether it may; delete it");

impl Bucket {
    /// The same bucket with the [`Features`] that it was found to have.
    ///
    /// An error names the first call that is not allowed or does not work, of: list, put, get,
    /// begin and abort an upload, delete.
    ///
    /// # Cancel safety
    /// The object may stay behind: `.nacre-probe-` and a random number, below the prefix.
    pub async fn probe(self) -> Result<Self, S3Error> {
        self.list(Listing::Below(self.url.prefix()), None, 1).await?;
        let key = format!("{}{PROBE_NAME}{}", self.url.prefix(), Uuid::new_v4().simple());
        let found = self.probe_object(&key).await;
        let deleted = self.delete(&key).await;
        let features = found?;
        deleted?;
        Ok(self.with_features(features))
    }

    async fn probe_object(&self, key: &str) -> Result<Features, S3Error> {
        let meta = ObjectMeta::default();
        let stored = self.put(key, BODY, &meta, &Precondition::Always).await?;
        let size = stored.size;
        let read = self.get_whole(key, size, Some(&stored.etag)).await?;
        if read != BODY {
            let call = self.call(Operation::GetObject, key);
            return Err(S3Error::WrongBytes { call, what: "not what was just written" });
        }
        let upload = self.begin_upload(key, &meta).await?;
        self.abort_upload(&upload).await?;
        Ok(Features {
            get_conditions: self.get_condition_works(key).await?,
            copies: self.copy_works(key, &stored).await?,
            // These write, if they are not refused.
            put_conditions: self.put_conditions_work(key).await?,
            checks_crc32c: self.checksum_works(key).await?,
        })
    }

    async fn get_condition_works(&self, key: &str) -> Result<bool, S3Error> {
        let call = self.call(Operation::GetObject, key);
        let attempt = async |_| {
            let request = self.client.get_object().bucket(&call.bucket).key(&call.key);
            let sent = request.if_match(other_etag().quoted()).send().await;
            refused(sent.map_err(|error| answer::refused(&call, error)))
        };
        self.patience.ask(&call, 0, attempt).await
    }

    async fn put_conditions_work(&self, key: &str) -> Result<bool, S3Error> {
        for when in [Precondition::Absent, Precondition::Match(other_etag())] {
            let call = self.call(Operation::PutObject, key);
            let attempt =
                async |_| refused(self.put_once(&call, BODY, &ObjectMeta::default(), &when).await);
            if !self.patience.ask(&call, 0, attempt).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn checksum_works(&self, key: &str) -> Result<bool, S3Error> {
        let call = self.call(Operation::PutObject, key);
        let attempt = async |_| {
            let request = self.client.put_object().bucket(&call.bucket).key(&call.key);
            let request = request.checksum_crc32_c(crc32c(b"other bytes"));
            let sent = request.body(ByteStream::from(BODY)).send().await;
            refused(sent.map_err(|error| answer::refused(&call, error)))
        };
        self.patience.ask(&call, 0, attempt).await
    }

    async fn copy_works(&self, key: &str, stored: &Stored) -> Result<bool, S3Error> {
        let user = [("nacre-probe".to_owned(), "copied".to_owned())].into();
        let meta = ObjectMeta { content_type: None, user };
        match self.copy(key, key, &meta, &stored.etag).await {
            Ok(_) => {}
            // Whatever it has against it: metadata is then exported together with the bytes.
            Err(error) if !error.is_transient() => return Ok(false),
            Err(error) => return Err(error),
        }
        let copied = self.head(key).await?;
        Ok(copied.meta.user == meta.user && copied.stored.size == stored.size)
    }
}

/// Whether a request that must not succeed was refused for the right reason.
fn refused<T>(result: Result<T, S3Error>) -> Result<bool, S3Error> {
    match result {
        Err(S3Error::Changed { .. }) => Ok(true),
        Err(S3Error::WrongBytes { call, .. }) if call.operation == Operation::PutObject => Ok(true),
        Ok(_) | Err(S3Error::Unsupported { .. } | S3Error::Other { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// No object's.
fn other_etag() -> ETag {
    ETag::new("00000000000000000000000000000000")
}
