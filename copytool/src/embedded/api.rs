//! S3's calls, as the protocol crate hands them over, done with the store.

use std::io;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use nacre_model::Timestamp as Time;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, ContentType, CopyObjectInput,
    CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, EncodingType,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Metadata, MetadataDirective, MultipartUpload, Object as WireObject,
    PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::blobs::Written;
use super::catalogue::{Attributes, Object};
use super::listing::{Place, Query, page};
use super::store::{Refused, Store, holds};
use crate::bucket::percent;
use crate::object::{ETag, Precondition};

/// Bytes that are gathered before they are written.
const GATHER_BYTES: usize = 1 << 20;
/// Most keys on a page.
const KEYS_MAX: usize = 1000;

/// One bucket of a store.
pub(super) struct Api {
    bucket: String,
    store: Store,
}

type Answer<T> = S3Result<S3Response<T>>;

impl Api {
    pub(super) fn new(bucket: String, store: Store) -> Self {
        Self { bucket, store }
    }

    fn check(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.check(bucket)?;
        self.store.find(key).ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// What a copy reads from, if it is what the client means.
    fn source(&self, source: &CopySource, when: Option<&str>) -> S3Result<(String, Object)> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented));
        };
        let object = self.find(bucket, key)?;
        if holds(&precondition(when, None), Some(&object)) {
            Ok((key.to_string(), object))
        } else {
            Err(s3_error!(PreconditionFailed))
        }
    }

    /// Writes a body into a blob and compares its CRC-32C with what the client said.
    async fn receive(&self, body: Option<StreamingBlob>, sum: Option<&str>) -> S3Result<Written> {
        let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let mut writer = self.store.writer().await.map_err(internal)?;
        let mut gathered = BytesMut::new();
        while let Some(piece) = body.next().await {
            gathered.extend_from_slice(&piece.map_err(io::Error::other).map_err(internal)?);
            if gathered.len() >= GATHER_BYTES {
                let bytes = gathered.split().freeze();
                writer = self.store.write(writer, bytes).await.map_err(internal)?;
            }
        }
        writer = self.store.write(writer, gathered.freeze()).await.map_err(internal)?;
        let written = writer.finish();
        let actual = BASE64_STANDARD.encode(written.crc32c.to_be_bytes());
        if sum.is_some_and(|sum| sum != actual) {
            self.store.discard(written);
            return Err(s3_error!(BadDigest));
        }
        Ok(written)
    }

    /// Copies a range of an object into a blob.
    async fn copy(&self, object: &Object, range: Range<u64>) -> S3Result<Written> {
        let body = self.store.stream(object, range).await.map_err(internal)?;
        self.receive(Some(StreamingBlob::wrap(body)), None).await
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.check(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let when = precondition(input.if_match.as_deref(), input.if_none_match.as_deref());
        let written = self.receive(input.body, input.checksum_crc32c.as_deref()).await?;
        let attributes = attributes(input.content_type.as_ref(), input.metadata);
        let object = self.store.put(input.key, written, attributes, when).await?;
        let checksum_crc32c = input.checksum_crc32c.and(object.crc32c.clone());
        let e_tag = Some(wire(&object));
        Ok(S3Response::new(PutObjectOutput { e_tag, checksum_crc32c, ..Default::default() }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let object = self.find(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(signed(object.bytes())),
            content_type: object.content_type.as_ref().and_then(|text| text.parse().ok()),
            e_tag: Some(wire(&object)),
            last_modified: Some(time(object.modified())),
            metadata: Some(object.user.into_iter().collect()),
            ..Default::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let input = req.input;
        let object = self.find(&input.bucket, &input.key)?;
        if !holds(&precondition(input.if_match.as_deref(), None), Some(&object)) {
            return Err(s3_error!(PreconditionFailed));
        }
        let size = object.bytes();
        let range = input.range.map(|range| range.check(size)).transpose()?;
        let content_range = range
            .as_ref()
            .map(|range| format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1)));
        let range = range.unwrap_or(0..size);
        let length = range.end.saturating_sub(range.start);
        let whole = length == size;
        let body = self.store.stream(&object, range).await.map_err(internal)?;
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(body)),
            content_length: Some(signed(length)),
            content_range,
            content_type: object.content_type.as_ref().and_then(|text| text.parse().ok()),
            e_tag: Some(wire(&object)),
            last_modified: Some(time(object.modified())),
            checksum_crc32c: object.crc32c.clone().filter(|_| whole),
            metadata: Some(object.user.into_iter().collect()),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.check(&req.input.bucket)?;
        self.store.delete(req.input.key).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let (from, old) = self.source(&input.copy_source, input.copy_source_if_match.as_deref())?;
        let replaces = input
            .metadata_directive
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let attributes = if replaces {
            attributes(input.content_type.as_ref(), input.metadata)
        } else {
            Attributes { content_type: old.content_type.clone(), user: old.user.clone() }
        };
        let object = if from == input.key {
            let when = Precondition::Match(ETag::new(&old.etag));
            self.store.replace_attributes(input.key, attributes, when).await?
        } else {
            let written = self.copy(&old, 0..old.bytes()).await?;
            self.store.put(input.key, written, attributes, Precondition::Always).await?
        };
        let result = CopyObjectResult {
            e_tag: Some(wire(&object)),
            last_modified: Some(time(object.modified())),
            ..Default::default()
        };
        let copy_object_result = Some(result);
        Ok(S3Response::new(CopyObjectOutput { copy_object_result, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let input = req.input;
        self.check(&input.bucket)?;
        let encode = encoding(input.encoding_type.as_ref());
        let token = input.continuation_token.as_deref();
        let token = token.map(|token| Place::from_token(token).ok_or(s3_error!(InvalidArgument)));
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: token.transpose()?.or(input.start_after.map(Place::Key)),
            max: input.max_keys.map_or(KEYS_MAX, |max| usize::try_from(max).unwrap_or_default()),
        };
        let query = Query { max: query.max.min(KEYS_MAX), ..query };
        let (contents, common, next) = self.store.look(|objects| {
            let found = page(objects, &query);
            let listed = found.objects.into_iter().map(|(key, object)| listed(encode(key), object));
            (listed.collect::<Vec<_>>(), found.common, found.next)
        });
        let common = common.iter().map(|text| CommonPrefix { prefix: Some(encode(text)) });
        let common: Vec<_> = common.collect();
        let max_keys = i32::try_from(query.max).ok();
        let count = contents.len().saturating_add(common.len());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix.as_deref().map(encode),
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            key_count: i32::try_from(count).ok(),
            max_keys,
            is_truncated: Some(next.is_some()),
            next_continuation_token: next.map(|place| place.token()),
            contents: Some(contents),
            common_prefixes: Some(common),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let attributes = attributes(input.content_type.as_ref(), input.metadata);
        let upload_id = self.store.begin(input.key.clone(), attributes);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let written = self.receive(input.body, input.checksum_crc32c.as_deref()).await?;
        let etag = self.store.put_part(input.upload_id, input.part_number, written).await?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(quoted(&etag)),
            checksum_crc32c: input.checksum_crc32c,
            ..Default::default()
        }))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let (_, object) = self.source(&input.copy_source, input.copy_source_if_match.as_deref())?;
        let range = input.copy_source_range.as_deref().map(s3s::dto::Range::parse).transpose();
        let range = range.map_err(|error| s3_error!(error, InvalidArgument))?;
        let range = range.map(|range| range.check(object.bytes())).transpose()?;
        let written = self.copy(&object, range.unwrap_or(0..object.bytes())).await?;
        let etag = self.store.put_part(input.upload_id, input.part_number, written).await?;
        let result = CopyPartResult { e_tag: Some(quoted(&etag)), ..Default::default() };
        let copy_part_result = Some(result);
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let when = precondition(input.if_match.as_deref(), input.if_none_match.as_deref());
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let named = named.into_iter().map(|part| {
            let etag =
                part.e_tag.map(|etag| ETag::new(&etag).as_str().to_owned()).unwrap_or_default();
            part.part_number.map(|number| (number, etag))
        });
        let named: Option<Vec<_>> = named.collect();
        let named = named.ok_or_else(|| s3_error!(InvalidPart))?;
        if !named.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let object = self.store.complete(input.upload_id, named, when).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(wire(&object)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.check(&req.input.bucket)?;
        self.store.abort(req.input.upload_id).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let input = req.input;
        self.check(&input.bucket)?;
        let encode = encoding(input.encoding_type.as_ref());
        let prefix = input.prefix.unwrap_or_default();
        let uploads = self.store.uploads().into_iter().filter(|(key, _)| key.starts_with(&prefix));
        let uploads = uploads.map(|(key, id)| MultipartUpload {
            key: Some(encode(&key)),
            upload_id: Some(id),
            ..Default::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(encode(&prefix)),
            encoding_type: input.encoding_type,
            uploads: Some(uploads.collect()),
            is_truncated: Some(false),
            ..Default::default()
        }))
    }
}

impl From<Refused> for S3Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Condition => s3_error!(PreconditionFailed),
            Refused::NoUpload => s3_error!(NoSuchUpload),
            Refused::NoPart => s3_error!(InvalidPart),
            Refused::Io(error) => internal(error),
        }
    }
}

fn internal(error: io::Error) -> S3Error {
    S3Error::internal_error(error)
}

fn precondition(matches: Option<&str>, none_matches: Option<&str>) -> Precondition {
    if none_matches == Some("*") {
        return Precondition::Absent;
    }
    matches.map_or(Precondition::Always, |etag| Precondition::Match(ETag::new(etag)))
}

fn attributes(content_type: Option<&ContentType>, metadata: Option<Metadata>) -> Attributes {
    let content_type = content_type.map(ToString::to_string);
    Attributes { content_type, user: metadata.into_iter().flatten().collect() }
}

fn wire(object: &Object) -> String {
    quoted(&object.etag)
}

fn quoted(etag: &str) -> String {
    ETag::new(etag).quoted()
}

fn listed(key: String, object: &Object) -> WireObject {
    WireObject {
        key: Some(key),
        size: Some(signed(object.bytes())),
        e_tag: Some(wire(object)),
        last_modified: Some(time(object.modified())),
        ..Default::default()
    }
}

/// How keys are written in this answer.
fn encoding(asked: Option<&EncodingType>) -> fn(&str) -> String {
    if asked.is_some_and(|asked| asked.as_str() == EncodingType::URL) {
        percent::encode
    } else {
        str::to_owned
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Our own clock's times, which are after the epoch.
fn time(time: Time) -> Timestamp {
    let seconds = u64::try_from(time.secs).unwrap_or_default();
    Timestamp::from(UNIX_EPOCH + Duration::new(seconds, time.nanos))
}
