//! The SDK's answers and errors in our words.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use nacre_model::Timestamp;

use crate::error::{Call, S3Error, Source, Trouble};
use crate::object::ETag;

/// Of an answer that says that all is well and then is none.
pub(super) const UNREADABLE: &str = "the answer cannot be read";

/// What a failed call means.
pub(super) fn refused<E>(call: &Call, error: SdkError<E, HttpResponse>) -> S3Error
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let call = call.clone();
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let code = code.unwrap_or_default().to_owned();
    let unmade = matches!(error, SdkError::ConstructionFailure(_));
    let source: Option<Source> = Some(error.into());
    match status {
        Some(status) => by_status(call, status, code, source),
        None if unmade => S3Error::Other { call, status: 0, code: "not sent".into(), source },
        None => S3Error::Transient { call, trouble: Trouble::Connection, source },
    }
}

/// The code decides if there is one: some errors come with status 200, as the server had begun to
/// answer before it knew. An answer to HEAD has no code.
fn by_status(call: Call, status: u16, code: String, source: Option<Source>) -> S3Error {
    let transient = |call, trouble, source| S3Error::Transient { call, trouble, source };
    let server = Trouble::Server { status };
    match code.as_str() {
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            transient(call, Trouble::SlowDown, source)
        }
        // The conflict is a conditional write that met another one: the condition decides next time.
        "RequestTimeout"
        | "InternalError"
        | "ServiceUnavailable"
        | "ConditionalRequestConflict" => transient(call, server, source),
        "NotImplemented" => S3Error::Unsupported { call },
        "NoSuchBucket" => S3Error::NoBucket { call },
        "NoSuchKey" | "NoSuchUpload" => S3Error::NotFound { call },
        "PreconditionFailed" | "InvalidRange" => S3Error::Changed { call },
        "InvalidObjectState" => S3Error::ColdTier { call },
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => {
            S3Error::WrongBytes { call, what: "the server received others than we sent" }
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "NotSignedUp"
        | "RequestTimeTooSkewed" => S3Error::Credentials { call, code },
        "AccessDenied" => denied(call),
        _ => match status {
            429 => transient(call, Trouble::SlowDown, source),
            501 | 405 => S3Error::Unsupported { call },
            500..=599 => transient(call, server, source),
            404 => S3Error::NotFound { call },
            412 | 416 => S3Error::Changed { call },
            401 | 403 => denied(call),
            200..=299 if code.is_empty() => S3Error::WrongBytes { call, what: UNREADABLE },
            _ => S3Error::Other { call, status, code, source },
        },
    }
}

fn denied(call: Call) -> S3Error {
    let permission = call.operation.permission();
    S3Error::AccessDenied { call, permission }
}

/// The `ETag` that every answer about an object must have.
pub(super) fn etag(call: &Call, header: Option<&str>) -> Result<ETag, S3Error> {
    let missing = || S3Error::WrongBytes { call: call.clone(), what: "the answer has no ETag" };
    header.map(ETag::new).ok_or_else(missing)
}

/// A length that may not be negative.
pub(super) fn length(call: &Call, length: Option<i64>) -> Result<u64, S3Error> {
    let what = "the answer has no length";
    let missing = || S3Error::WrongBytes { call: call.clone(), what };
    length.and_then(|length| u64::try_from(length).ok()).ok_or_else(missing)
}

/// A time as the SDK has it.
pub(super) fn time(time: &DateTime) -> Timestamp {
    Timestamp { secs: time.secs(), nanos: time.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Operation;
    use crate::report::ReportCode;

    fn told(status: u16, code: &str) -> S3Error {
        let operation = Operation::PutObject;
        let call = Call { operation, bucket: "data".into(), key: "a".into() };
        by_status(call, status, code.into(), None)
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        assert!(matches!(told(404, "NoSuchBucket"), S3Error::NoBucket { .. }));
        assert!(matches!(told(404, "NoSuchKey"), S3Error::NotFound { .. }));
        assert!(matches!(told(404, ""), S3Error::NotFound { .. }));
        assert!(matches!(told(200, "NoSuchUpload"), S3Error::NotFound { .. }));
        assert_ne!(told(404, "NoSuchBucket").code(), ReportCode::S3ObjectNotFound);
    }

    #[test]
    fn a_refusal_names_the_permission_or_the_credentials() {
        let denied = told(403, "AccessDenied").to_string();
        assert_eq!(denied, "PutObject s3://data/a: access denied, s3:PutObject is needed");
        assert!(matches!(told(403, "SignatureDoesNotMatch"), S3Error::Credentials { .. }));
        assert_eq!(told(403, "").code(), ReportCode::S3AccessDenied);
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        for (status, code) in [(500, "InternalError"), (503, "SlowDown"), (429, ""), (502, "")] {
            assert!(told(status, code).is_transient(), "{status} {code}");
        }
        for (status, code) in [(501, "NotImplemented"), (412, ""), (403, ""), (404, ""), (400, "")]
        {
            assert!(!told(status, code).is_transient(), "{status} {code}");
        }
    }

    #[test]
    fn an_archived_object_has_its_own_code() {
        let code = told(403, "InvalidObjectState").code();
        assert_eq!(code, ReportCode::S3ObjectInUnsupportedTier);
    }
}
