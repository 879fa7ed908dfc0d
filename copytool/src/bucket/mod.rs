//! One bucket of one endpoint: S3's calls with their answers checked.
//!
//! Servers of S3 differ in what they ignore. So a condition in a request is a hint to the server
//! and the answer is compared here; a length, a range and a checksum are compared as well. Every
//! call is repeated within [`Patience`], and every error names the call, the bucket and the key.

mod answer;
mod copy;
mod get;
mod list;
mod multipart;
pub(crate) mod percent;
mod probe;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::StorageClass;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use crate::error::{Call, Operation, S3Error};
use crate::location::{BucketUrl, Endpoint};
use crate::object::{ETag, Head, ObjectMeta, Precondition, Stored, Tier};
use crate::retry::Patience;

pub use copy::COPY_BYTES_MAX;
pub use list::{LIST_KEYS_MAX, Listing};
pub use multipart::PARTS_MAX;
pub(crate) use probe::PROBE_NAME;

/// What this endpoint does beyond what all do; [`Bucket::probe`] finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four findings, independent of each other")]
pub struct Features {
    /// It checks the CRC-32C of what it receives and refuses other bytes.
    pub checks_crc32c: bool,
    /// It refuses a PUT whose `If-Match` or `If-None-Match` does not hold.
    pub put_conditions: bool,
    /// It refuses a GET whose `If-Match` does not hold.
    pub get_conditions: bool,
    /// It copies an object onto itself with new metadata.
    pub copies: bool,
}

/// A bucket, the prefix below which our keys lie, and how to ask for them.
///
/// Cheap to clone: clones share their connections. Keys are whole, with the prefix.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    url: BucketUrl,
    patience: Patience,
    features: Features,
}

impl Bucket {
    /// Makes the client; asks nothing yet.
    pub fn new(endpoint: &Endpoint, url: BucketUrl, patience: Patience) -> Self {
        let client = Client::from_conf(config(endpoint, &patience));
        Self { client, url, patience, features: Features::default() }
    }

    /// The same bucket, used as `features` allow.
    #[must_use]
    pub fn with_features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Which bucket it is.
    pub const fn url(&self) -> &BucketUrl {
        &self.url
    }

    /// What the endpoint was found to do.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Writes an object in one request.
    ///
    /// Where the endpoint ignores conditions, `when` is checked by a HEAD before, which another
    /// writer can slip past.
    ///
    /// # Cancel safety
    /// The object may or may not have been written.
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        meta: &ObjectMeta,
        when: &Precondition,
    ) -> Result<Stored, S3Error> {
        self.check_unsupported(key, when).await?;
        let call = self.call(Operation::PutObject, key);
        let size = length(&body);
        let attempt = async |failed: u32| match self.put_once(&call, body.clone(), meta, when).await
        {
            // Perhaps by our own attempt, whose answer was lost.
            Err(S3Error::Changed { .. }) if failed > 0 => self.recognize(&call, size, meta).await,
            result => result,
        };
        self.patience.ask(&call, size, attempt).await
    }

    async fn put_once(
        &self,
        call: &Call,
        body: Bytes,
        meta: &ObjectMeta,
        when: &Precondition,
    ) -> Result<Stored, S3Error> {
        let sum = crc32c(&body);
        let size = length(&body);
        let request = self.client.put_object().bucket(&call.bucket).key(&call.key);
        let request = match when {
            Precondition::Always => request,
            Precondition::Absent => request.if_none_match("*"),
            Precondition::Match(etag) => request.if_match(etag.quoted()),
        };
        let sent = request
            .set_content_type(meta.content_type.clone())
            .set_metadata(Some(user_metadata(meta)))
            .set_checksum_crc32_c(self.features.checks_crc32c.then(|| sum.clone()))
            .body(ByteStream::from(body))
            .send();
        let answer = sent.await.map_err(|error| answer::refused(call, error))?;
        if answer.checksum_crc32_c().is_some_and(|echo| echo != sum) {
            let what = "the server stored others than we sent";
            return Err(S3Error::WrongBytes { call: call.clone(), what });
        }
        let etag = answer::etag(call, answer.e_tag())?;
        Ok(Stored { etag, version_id: answer.version_id().map(str::to_owned), size })
    }

    /// What is known of an object without reading it.
    pub async fn head(&self, key: &str) -> Result<Head, S3Error> {
        let call = self.call(Operation::HeadObject, key);
        let attempt = async |_| {
            let request = self.client.head_object().bucket(&call.bucket).key(&call.key);
            let answer = request.send().await.map_err(|error| answer::refused(&call, error))?;
            head(&call, &answer)
        };
        self.patience.ask(&call, 0, attempt).await
    }

    /// Removes an object; that there is none is success.
    pub async fn delete(&self, key: &str) -> Result<(), S3Error> {
        let call = self.call(Operation::DeleteObject, key);
        let attempt = async |_| {
            let request = self.client.delete_object().bucket(&call.bucket).key(&call.key);
            match request.send().await.map_err(|error| answer::refused(&call, error)) {
                Ok(_) | Err(S3Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.patience.ask(&call, 0, attempt).await
    }

    /// Removes an object if it is still the one with that `ETag`, else [`S3Error::Changed`]; that
    /// there is none is success.
    ///
    /// Few servers know conditions on deleting, so a HEAD before checks it, which another writer
    /// can slip past.
    pub async fn delete_if(&self, key: &str, etag: &ETag) -> Result<(), S3Error> {
        match self.head_of(key, etag).await {
            Ok(_) => self.delete(key).await,
            Err(S3Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is known of the object with that `ETag`; of another one, [`S3Error::Changed`].
    pub(crate) async fn head_of(&self, key: &str, etag: &ETag) -> Result<Head, S3Error> {
        let found = self.head(key).await?;
        if found.stored.etag == *etag {
            return Ok(found);
        }
        Err(S3Error::Changed { call: self.call(Operation::HeadObject, key) })
    }

    /// Checks what this endpoint would not.
    async fn check_unsupported(&self, key: &str, when: &Precondition) -> Result<(), S3Error> {
        if self.features.put_conditions || *when == Precondition::Always {
            return Ok(());
        }
        let found = match self.head(key).await {
            Ok(head) => Some(head.stored.etag),
            Err(S3Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let holds = match when {
            Precondition::Always => true,
            Precondition::Absent => found.is_none(),
            Precondition::Match(etag) => found.as_ref() == Some(etag),
        };
        let changed = || S3Error::Changed { call: self.call(Operation::PutObject, key) };
        if holds { Ok(()) } else { Err(changed()) }
    }

    /// After an attempt whose answer was lost: whether the object is what we wrote. Length and
    /// metadata tell, which has the file's times in nanoseconds.
    async fn recognize(
        &self,
        call: &Call,
        size: u64,
        meta: &ObjectMeta,
    ) -> Result<Stored, S3Error> {
        let head = self.head(&call.key).await?;
        if head.stored.size == size && head.meta.user == meta.user {
            Ok(head.stored)
        } else {
            Err(S3Error::Changed { call: call.clone() })
        }
    }

    fn call(&self, operation: Operation, key: &str) -> Call {
        Call { operation, bucket: self.url.bucket().to_owned(), key: key.to_owned() }
    }
}

/// The SDK as this crate wants it: paths rather than host names, as most servers know no other;
/// checksums only where we give them, as its own trailers fail on several; no retries, as
/// [`Patience`] does them.
fn config(endpoint: &Endpoint, patience: &Patience) -> aws_sdk_s3::Config {
    let keys = (endpoint.access_key.clone(), endpoint.secret_key.clone());
    let credentials = Credentials::new(keys.0, keys.1, None, None, "nacre");
    // Sooner than the limit of an attempt that moves much, later than that of one that moves nothing.
    let grace = patience.answer.saturating_mul(2);
    let stalled = StalledStreamProtectionConfig::enabled().grace_period(grace).build();
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http_client(&endpoint.url))
        .endpoint_url(&endpoint.url)
        .region(Region::new(endpoint.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(patience.connect).build())
        .stalled_stream_protection(stalled)
        .build()
}

/// With TLS only where it is needed: it reads, and warns of, the machine's certificates.
fn http_client(url: &str) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    if url.starts_with("https:") {
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    } else {
        builder.build_http()
    }
}

/// CRC-32C as S3 writes it: base64 of the big-endian sum.
fn crc32c(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(bytes).to_be_bytes())
}

/// How many bytes these are.
pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("no machine has longer ones")
}

fn user_metadata(meta: &ObjectMeta) -> std::collections::HashMap<String, String> {
    meta.user.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn head(call: &Call, answer: &HeadObjectOutput) -> Result<Head, S3Error> {
    let user = answer.metadata().into_iter().flatten();
    Ok(Head {
        stored: Stored {
            etag: answer::etag(call, answer.e_tag())?,
            version_id: answer.version_id().map(str::to_owned),
            size: answer::length(call, answer.content_length())?,
        },
        last_modified: answer.last_modified().map(answer::time),
        meta: ObjectMeta {
            content_type: answer.content_type().map(str::to_owned),
            user: user.map(|(key, value)| (key.to_ascii_lowercase(), value.clone())).collect(),
        },
        tier: tier(answer),
    })
}

fn tier(answer: &HeadObjectOutput) -> Tier {
    let cold = [StorageClass::Glacier, StorageClass::DeepArchive];
    let archived = answer.storage_class().is_some_and(|class| cold.contains(class))
        || answer.archive_status().is_some();
    // `ongoing-request="false"`: somebody had it restored, and a copy can be read.
    let restored = answer.restore().is_some_and(|restore| restore.contains("\"false\""));
    if archived && !restored { Tier::Cold } else { Tier::Online }
}
