//! Listings, page by page.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object, ObjectStorageClass};

use super::{Bucket, answer, percent};
use crate::error::{Call, Operation, S3Error};
use crate::object::{ETag, Listed, Page, PendingUpload, Tier};

/// Most keys that S3 puts on a page.
pub const LIST_KEYS_MAX: i32 = 1000;

/// Which keys to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing<'a> {
    /// All that begin so.
    Below(&'a str),
    /// Those that begin so and have no further slash, except at their end; and what the others
    /// have in common up to their next slash.
    Level(&'a str),
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
enum Start<'a> {
    First,
    /// After this key.
    After(&'a str),
    /// Where the page before ended.
    Continuation(&'a str),
}

impl<'a> Start<'a> {
    fn after(self) -> Option<&'a str> {
        match self {
            Self::After(key) => Some(key),
            Self::First | Self::Continuation(_) => None,
        }
    }

    fn continuation(self) -> Option<&'a str> {
        match self {
            Self::Continuation(token) => Some(token),
            Self::First | Self::After(_) => None,
        }
    }
}

impl Bucket {
    /// One page of keys. `continuation` is the last page's [`Page::next`]; `max` is at most
    /// [`LIST_KEYS_MAX`].
    pub async fn list(
        &self,
        listing: Listing<'_>,
        continuation: Option<&str>,
        max: i32,
    ) -> Result<Page, S3Error> {
        let start = continuation.map_or(Start::First, Start::Continuation);
        self.list_from(listing, start, max).await
    }

    /// The first page of the keys behind `after`, which need not exist; all are behind the empty
    /// one. Its [`Page::next`] goes on as after [`Bucket::list`]. Should a server not know the
    /// question, the pages begin with the first key all the same.
    pub async fn list_after(
        &self,
        listing: Listing<'_>,
        after: &str,
        max: i32,
    ) -> Result<Page, S3Error> {
        let start = if after.is_empty() { Start::First } else { Start::After(after) };
        self.list_from(listing, start, max).await
    }

    async fn list_from(
        &self,
        listing: Listing<'_>,
        start: Start<'_>,
        max: i32,
    ) -> Result<Page, S3Error> {
        let (prefix, delimiter) = match listing {
            Listing::Below(prefix) => (prefix, None),
            Listing::Level(prefix) => (prefix, Some("/".to_owned())),
        };
        let call = self.call(Operation::ListObjectsV2, prefix);
        let attempt = async |_| {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&call.bucket)
                .prefix(prefix)
                .set_delimiter(delimiter.clone())
                .set_continuation_token(start.continuation().map(str::to_owned))
                .set_start_after(start.after().map(str::to_owned))
                .max_keys(max)
                // XML cannot hold every character that a key can.
                .encoding_type(EncodingType::Url);
            let answer = request.send().await.map_err(|error| answer::refused(&call, error))?;
            page(&call, start, &answer)
        };
        self.patience.ask(&call, 0, attempt).await
    }

    /// Uploads below the prefix that nobody finished; at most one page of them.
    /// [`S3Error::Unsupported`] where the server does not tell.
    pub async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, S3Error> {
        let call = self.call(Operation::ListMultipartUploads, prefix);
        let attempt = async |_| {
            let request = self.client.list_multipart_uploads().bucket(&call.bucket).prefix(prefix);
            let request = request.encoding_type(EncodingType::Url);
            let answer = request.send().await.map_err(|error| answer::refused(&call, error))?;
            let encoded = answer.encoding_type() == Some(&EncodingType::Url);
            let pending = answer.uploads().iter().map(|upload| {
                let key = key(&call, encoded, upload.key())?;
                let upload_id = upload.upload_id().ok_or_else(|| odd(&call, "no upload id"))?;
                Ok(PendingUpload { key, upload_id: upload_id.to_owned() })
            });
            pending.collect()
        };
        self.patience.ask(&call, 0, attempt).await
    }
}

fn page(call: &Call, start: Start<'_>, answer: &ListObjectsV2Output) -> Result<Page, S3Error> {
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let objects = answer.contents().iter().map(|object| listed(call, encoded, object));
    let prefixes =
        answer.common_prefixes().iter().map(|common| key(call, encoded, common.prefix()));
    let more = answer.is_truncated() == Some(true);
    let next = answer.next_continuation_token().filter(|_| more).map(str::to_owned);
    if more && next.as_deref().is_none_or(|next| Some(next) == start.continuation()) {
        return Err(odd(call, "a listing that does not go on"));
    }
    Ok(Page {
        objects: objects.collect::<Result<_, _>>()?,
        common_prefixes: prefixes.collect::<Result<_, _>>()?,
        next,
    })
}

fn listed(call: &Call, encoded: bool, object: &Object) -> Result<Listed, S3Error> {
    let cold = [ObjectStorageClass::Glacier, ObjectStorageClass::DeepArchive];
    let is_cold = object.storage_class().is_some_and(|class| cold.contains(class));
    Ok(Listed {
        key: key(call, encoded, object.key())?,
        size: answer::length(call, object.size())?,
        etag: object.e_tag().map(ETag::new),
        last_modified: object.last_modified().map(answer::time),
        tier: if is_cold { Tier::Cold } else { Tier::Online },
    })
}

/// A key of the answer, which must be one that was asked for.
fn key(call: &Call, encoded: bool, text: Option<&str>) -> Result<String, S3Error> {
    let text = text.ok_or_else(|| odd(call, "an entry without a key"))?;
    let key = if encoded { percent::decode(text) } else { Some(text.to_owned()) };
    let key = key.ok_or_else(|| odd(call, "a key that is not encoded as promised"))?;
    if key.starts_with(&call.key) { Ok(key) } else { Err(odd(call, "a key outside the prefix")) }
}

fn odd(call: &Call, what: &'static str) -> S3Error {
    S3Error::WrongBytes { call: call.clone(), what }
}
