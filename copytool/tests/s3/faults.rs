//! A server that fails, lies or is silent: what is asked again, what is not, and what it is called.

use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use nacre_copytool::error::Trouble;
use nacre_copytool::intents::Intents;
use nacre_copytool::mover::{Download, Upload, Wanted};
use nacre_copytool::{Bucket, MoveError, ObjectMeta, Patience, Precondition, S3Error, Stored};
use tokio_util::sync::CancellationToken;

use crate::proxy::{Act, Proxy};
use crate::world::{File, MIB, World, Written, bucket, mover, patience, unwatched, url};

const KEY: &str = "some/prefix/file";
const ATTEMPTS: usize = 4;

/// A server with one object of 7 bytes, behind a proxy with a plan.
async fn spoiled(
    plan: impl Fn(&str, usize) -> Act + Send + Sync + 'static,
) -> (World, Proxy, Stored) {
    let world = World::start().await;
    let stored = put(&world.bucket().await, "content").await.expect("it can be put");
    let proxy = Proxy::start(&world.endpoint, &world.scope, plan).await;
    (world, proxy, stored)
}

/// The bucket behind the proxy, which has what the server behind that has.
async fn behind(proxy: &Proxy, world: &World) -> Bucket {
    bucket(&proxy.endpoint).with_features(world.bucket().await.features())
}

async fn put(bucket: &Bucket, body: &'static str) -> Result<Stored, S3Error> {
    let user = [("file-mtime".to_owned(), "17ns".to_owned())].into();
    let meta = ObjectMeta { content_type: None, user };
    bucket.put(KEY, Bytes::from_static(body.as_bytes()), &meta, &Precondition::Always).await
}

/// An upload of 20 MiB behind the proxy: its result, and what the server has then.
async fn upload(world: &World, proxy: &Proxy) -> (Result<Stored, MoveError>, Stored) {
    let mover = mover(behind(proxy, world).await, 64 * MIB, world.intents());
    let (cancel, meta, when) =
        (CancellationToken::new(), ObjectMeta::default(), Precondition::Always);
    let job = Upload { key: KEY, size: 20 * MIB, meta: &meta, when: &when };
    let file = File::of(20 * MIB);
    let result = mover.upload(job, &file, ready(Ok(())), unwatched(&cancel)).await;
    let head = world.bucket().await.head(KEY).await.expect("there is an object");
    (result, head.stored)
}

fn trouble(error: &S3Error) -> &Trouble {
    if let S3Error::Transient { trouble, .. } = error { trouble } else { panic!("{error}") }
}

#[tokio::test]
async fn errors_that_pass_are_asked_again_until_they_pass() {
    let plan =
        |_: &str, before| if before < 3 { Act::Refuse(500, "InternalError") } else { Act::Pass };
    let (world, proxy, stored) = spoiled(plan).await;
    let bucket = behind(&proxy, &world).await;
    assert_eq!(bucket.head(KEY).await.unwrap().stored, stored);
    assert_eq!(proxy.count("HEAD", ""), ATTEMPTS);
    assert_eq!(bucket.get_whole(KEY, 7, None).await.unwrap(), "content");
    assert_eq!(proxy.count("GET", ""), ATTEMPTS);
    put(&bucket, "changed").await.unwrap();
    assert_eq!(proxy.count("PUT", ""), ATTEMPTS);
}

#[tokio::test]
async fn a_server_that_is_always_busy_is_asked_so_often_and_no_more() {
    let (world, proxy, stored) = spoiled(|_, _| Act::Refuse(503, "SlowDown")).await;
    let bucket = behind(&proxy, &world).await;
    let error = bucket.get_range(KEY, 0..7, Some(&stored.etag)).await.unwrap_err();
    assert_eq!(error.to_string(), "GetObject s3://data/some/prefix/file: asked to slow down");
    assert_eq!(*trouble(&error), Trouble::SlowDown);
    assert_eq!(proxy.count("GET", ""), ATTEMPTS);
}

#[tokio::test]
async fn what_is_forbidden_is_asked_once_and_named() {
    let (world, proxy, _) = spoiled(|_, _| Act::Refuse(403, "AccessDenied")).await;
    let bucket = behind(&proxy, &world).await;
    let denied = |error: S3Error| {
        let S3Error::AccessDenied { permission, .. } = error else { panic!("{error}") };
        permission
    };
    assert_eq!(denied(put(&bucket, "changed").await.unwrap_err()), "s3:PutObject");
    assert_eq!(denied(bucket.head(KEY).await.unwrap_err()), "s3:GetObject");
    assert_eq!(denied(bucket.delete(KEY).await.unwrap_err()), "s3:DeleteObject");
    assert_eq!(denied(bucket.list_uploads("").await.unwrap_err()), "s3:ListBucketMultipartUploads");
    for method in ["PUT", "HEAD", "DELETE", "GET"] {
        assert_eq!(proxy.count(method, ""), 1, "{method}");
    }
}

#[tokio::test]
async fn linking_names_the_permission_that_is_missing() {
    let forbidden = [
        ("GET /data/?list-type=2", "s3:ListBucket"),
        ("PUT ", "s3:PutObject"),
        ("GET /data/some", "s3:GetObject"),
        ("DELETE /data/some/prefix/.nacre-probe", "s3:DeleteObject"),
    ];
    for (start, expected) in forbidden {
        let plan = move |request: &str, _| {
            let upload = request.contains("uploadId");
            let other = request.starts_with("GET") && request.contains("list-type");
            let hit = request.starts_with(start) || (expected == "s3:ListBucket" && other);
            if hit && !upload { Act::Refuse(403, "AccessDenied") } else { Act::Pass }
        };
        let (_world, proxy, _) = spoiled(plan).await;
        let error = bucket(&proxy.endpoint).probe().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("{expected} is needed")), "{start}: {text}");
    }
}

#[tokio::test]
async fn a_server_that_ignores_conditions_and_checksums_is_found_out() {
    // What must be refused succeeds, as it does on servers that do not look.
    fn fine(head: &str, body: &[u8]) -> Vec<u8> {
        let refused = head.starts_with("HTTP/1.1 412") || head.starts_with("HTTP/1.1 400");
        let fine =
            b"HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        if refused { fine.to_vec() } else { [head.as_bytes(), body].concat() }
    }
    let (_world, proxy, _) = spoiled(|_, _| Act::Edit(fine)).await;
    let features = bucket(&proxy.endpoint).probe().await.unwrap().features();
    assert!(!features.checks_crc32c && !features.put_conditions && !features.get_conditions);
}

#[tokio::test]
async fn a_body_that_ends_early_is_fetched_again_and_at_last_an_error() {
    fn cut(head: &str, body: &[u8]) -> Vec<u8> {
        [head.as_bytes(), body.get(..3).unwrap_or(body)].concat()
    }
    let plan = |_: &str, before| if before < 3 { Act::Edit(cut) } else { Act::Pass };
    let (world, proxy, stored) = spoiled(plan).await;
    let bucket = behind(&proxy, &world).await;
    assert_eq!(bucket.get_range(KEY, 0..7, Some(&stored.etag)).await.unwrap(), "content");
    assert_eq!(proxy.count("GET", ""), ATTEMPTS);
    let (world, proxy, _) = spoiled(|_, _| Act::Edit(cut)).await;
    let error = behind(&proxy, &world).await.get_range(KEY, 0..7, None).await.unwrap_err();
    assert_eq!(*trouble(&error), Trouble::Truncated { got: 3, expected: 7 });
    assert_eq!(proxy.count("GET", ""), ATTEMPTS);
}

#[tokio::test]
async fn a_short_body_with_a_length_that_fits_it_is_not_believed() {
    fn shorten(head: &str, body: &[u8]) -> Vec<u8> {
        let head = head.replace("content-length: 7", "content-length: 3");
        [head.as_bytes(), body.get(..3).unwrap_or(body)].concat()
    }
    let (world, proxy, _) = spoiled(|_, _| Act::Edit(shorten)).await;
    let bucket = behind(&proxy, &world).await;
    let error = bucket.get_range(KEY, 0..7, None).await.unwrap_err();
    assert_eq!(*trouble(&error), Trouble::Truncated { got: 3, expected: 7 });
    let error = bucket.get_whole(KEY, 7, None).await.unwrap_err();
    assert!(matches!(error, S3Error::Changed { .. }), "{error}");
}

#[tokio::test]
async fn bytes_that_do_not_fit_their_checksum_are_refused() {
    fn flip(head: &str, body: &[u8]) -> Vec<u8> {
        let flipped: Vec<_> = body.iter().map(|byte| byte ^ 1).collect();
        [head.as_bytes(), &flipped].concat()
    }
    let (world, proxy, _) = spoiled(|_, _| Act::Edit(flip)).await;
    let error = behind(&proxy, &world).await.get_whole(KEY, 7, None).await.unwrap_err();
    assert!(matches!(error, S3Error::WrongBytes { what: "CRC-32C", .. }), "{error}");
    assert_eq!(proxy.count("GET", ""), ATTEMPTS);
}

#[tokio::test]
async fn bytes_that_are_spoiled_on_the_way_there_are_sent_again() {
    let plan = |request: &str, before| match before {
        0 if request.starts_with("PUT") => Act::Refuse(400, "BadDigest"),
        1 if request.starts_with("PUT") => Act::Refuse(400, "XAmzContentSHA256Mismatch"),
        _ => Act::Pass,
    };
    let (world, proxy, _) = spoiled(plan).await;
    let bucket = behind(&proxy, &world).await;
    put(&bucket, "changed").await.unwrap();
    assert_eq!(proxy.count("PUT", ""), 3);
    assert_eq!(bucket.get_whole(KEY, 7, None).await.unwrap(), "changed");
}

#[tokio::test]
async fn another_range_or_another_etag_in_the_answer_is_noticed() {
    fn shift(head: &str, body: &[u8]) -> Vec<u8> {
        [head.replace("bytes 0-3/7", "bytes 1-4/7").as_bytes(), body].concat()
    }
    fn other_etag(head: &str, body: &[u8]) -> Vec<u8> {
        [head.replace("etag: \"", "etag: \"0").as_bytes(), body].concat()
    }
    let (world, proxy, _) = spoiled(|_, _| Act::Edit(shift)).await;
    let error = behind(&proxy, &world).await.get_range(KEY, 0..4, None).await.unwrap_err();
    assert!(matches!(error, S3Error::WrongBytes { what: "another range", .. }), "{error}");
    let (world, proxy, stored) = spoiled(|_, _| Act::Edit(other_etag)).await;
    let bucket = behind(&proxy, &world).await;
    let error = bucket.get_range(KEY, 0..4, Some(&stored.etag)).await.unwrap_err();
    assert!(matches!(error, S3Error::Changed { .. }), "{error}");
    assert_eq!(proxy.count("GET", ""), 1);
}

#[tokio::test]
async fn silence_ends_after_the_time_it_may_take() {
    let (_world, proxy, _) = spoiled(|_, _| Act::Hang).await;
    let answer = Duration::from_millis(50);
    let patience = Patience { answer, rate_min: u32::MAX, attempts: 2, ..patience() };
    let bucket = Bucket::new(&proxy.endpoint, url(), patience);
    let error = bucket.head(KEY).await.unwrap_err();
    assert_eq!(*trouble(&error), Trouble::Timeout(answer));
    assert_eq!(proxy.count("HEAD", ""), 2);
}

#[tokio::test]
async fn nobody_there_is_a_broken_connection() {
    let world = World::start().await;
    let endpoint = world.endpoint.clone();
    world.scope.join().await;
    let error = bucket(&endpoint).head(KEY).await.unwrap_err();
    assert_eq!(*trouble(&error), Trouble::Connection);
}

#[tokio::test]
async fn a_part_that_is_forbidden_ends_the_upload_and_keeps_the_object() {
    let plan = |request: &str, _| {
        let second = request.contains("partNumber=2");
        if second { Act::Refuse(403, "AccessDenied") } else { Act::Pass }
    };
    let (world, proxy, old) = spoiled(plan).await;
    let (result, found) = upload(&world, &proxy).await;
    let error = result.unwrap_err();
    assert!(matches!(error, MoveError::S3(S3Error::AccessDenied { .. })), "{error}");
    assert_eq!(found, old);
    assert_eq!(proxy.count("PUT", "partNumber=2"), 1);
    assert_eq!(proxy.count("DELETE", "uploadId"), 1);
    assert!(world.bucket().await.list_uploads("").await.unwrap().is_empty());
    assert!(world.intents().pending().is_empty());
}

#[tokio::test]
async fn an_upload_that_cannot_be_aborted_stays_among_the_intents() {
    let plan = |request: &str, _| {
        let part = request.contains("partNumber=2") || request.starts_with("DELETE");
        if part { Act::Refuse(503, "SlowDown") } else { Act::Pass }
    };
    let (world, proxy, old) = spoiled(plan).await;
    let (result, found) = upload(&world, &proxy).await;
    assert!(matches!(result, Err(MoveError::S3(S3Error::Transient { .. }))));
    assert_eq!(found, old);
    assert_eq!(proxy.count("PUT", "partNumber=2"), ATTEMPTS);
    let left = world.bucket().await.list_uploads("").await.unwrap();
    assert_eq!(world.intents().pending(), left);
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_not_a_conflict_with_ourselves() {
    // The second POST completes the upload; the first begins it.
    let plan = |request: &str, before| {
        let completes = request.starts_with("POST") && request.contains("uploadId") && before == 1;
        if completes { Act::Lose } else { Act::Pass }
    };
    let (world, proxy, _) = spoiled(plan).await;
    let (result, found) = upload(&world, &proxy).await;
    assert_eq!(result.unwrap(), found);
    assert_eq!(found.size, 20 * MIB);
    let plan = |request: &str, before| {
        if request.starts_with("PUT") && before == 0 { Act::Lose } else { Act::Pass }
    };
    let (world, proxy, old) = spoiled(plan).await;
    let user = [("file-mtime".to_owned(), "18ns".to_owned())].into();
    let (meta, when) = (ObjectMeta { content_type: None, user }, Precondition::Match(old.etag));
    let bucket = behind(&proxy, &world).await;
    let stored = bucket.put(KEY, Bytes::from_static(b"new"), &meta, &when).await.unwrap();
    assert_eq!(world.bucket().await.head(KEY).await.unwrap().stored, stored);
    assert_eq!(proxy.count("PUT", ""), 2);
}

#[tokio::test]
async fn a_download_survives_what_passes() {
    let plan = |request: &str, before| {
        if request.starts_with("GET") && before % 2 == 0 { Act::Lose } else { Act::Pass }
    };
    let (world, proxy, _) = spoiled(plan).await;
    let (result, _) = upload(&world, &proxy).await;
    let stored = result.unwrap();
    let mover = mover(behind(&proxy, &world).await, 64 * MIB, world.intents());
    let (cancel, sink) = (CancellationToken::new(), Written::default());
    let job = Download { key: KEY, etag: &stored.etag, size: stored.size };
    mover.download(job, &sink, &Wanted::default(), unwatched(&cancel)).await.unwrap();
    assert_eq!(sink.bytes(), 20 * MIB);
}

#[tokio::test]
async fn an_upload_that_is_done_but_told_in_unknown_words_is_recognized() {
    // As moto does: another word of the same length.
    fn reworded(head: &str, body: &[u8]) -> Vec<u8> {
        let words = String::from_utf8_lossy(body).replace("UploadResult", "UploadAnswer");
        [head.as_bytes(), words.as_bytes()].concat()
    }
    let plan = |request: &str, _| {
        let completes = request.starts_with("POST") && request.contains("uploadId=");
        if completes { Act::Edit(reworded) } else { Act::Pass }
    };
    let (world, proxy, before) = spoiled(plan).await;
    let (result, there) = upload(&world, &proxy).await;
    assert_eq!(result.unwrap(), there);
    assert_ne!(there.etag, before.etag);
    assert_eq!(proxy.count("POST", "uploadId="), 1);
    // Nothing was done, and the answer is as odd.
    let lost =
        |_: &str, _| Act::Edit(|_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n<a".to_vec());
    let plan = move |request: &str, before| {
        let completes = request.starts_with("POST") && request.contains("uploadId=");
        if completes { lost(request, before) } else { Act::Pass }
    };
    let (world, proxy, before) = spoiled(plan).await;
    let bucket = behind(&proxy, &world).await;
    let pending = bucket.begin_upload(KEY, &ObjectMeta::default()).await.unwrap();
    let when = Precondition::Match(before.etag.clone());
    let meta =
        ObjectMeta { content_type: None, user: [("file-mtime".into(), "17ns".into())].into() };
    let completed = bucket.complete_upload(&pending, &[], before.size, &meta, &when).await;
    assert!(matches!(completed, Err(S3Error::WrongBytes { .. })), "{completed:?}");
}
