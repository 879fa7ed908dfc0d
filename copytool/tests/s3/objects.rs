//! Single calls: what goes in comes out, and what is refused says why.

use bytes::Bytes;
use nacre_copytool::bucket::Listing;
use nacre_copytool::key::{KeyKind, key_of};
use nacre_copytool::object::{Head, Page};
use nacre_copytool::posix::{FileKind, PosixMeta, decode};
use nacre_copytool::{Bucket, ETag, Features, ObjectMeta, Precondition, ReportCode, S3Error};
use nacre_model::Timestamp;

use crate::world::{PREFIX, World, bucket};

async fn put(bucket: &Bucket, key: &str, body: &'static [u8]) -> ETag {
    let meta = ObjectMeta::default();
    let put = bucket.put(key, Bytes::from_static(body), &meta, &Precondition::Always);
    put.await.expect("it can be put").etag
}

fn keys(page: &Page) -> Vec<&str> {
    page.objects.iter().map(|object| object.key.as_str()).collect()
}

#[tokio::test]
async fn the_server_in_this_process_has_every_feature_and_the_probe_leaves_nothing() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let all =
        Features { checks_crc32c: true, put_conditions: true, get_conditions: true, copies: true };
    assert_eq!(bucket.features(), all);
    let page = bucket.list(Listing::Below(""), None, 10).await.unwrap();
    assert_eq!(page, Page::default());
    assert!(bucket.list_uploads("").await.unwrap().is_empty());
}

#[tokio::test]
async fn attributes_of_a_file_come_back_from_s3() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let posix = PosixMeta {
        kind: FileKind::File,
        permissions: 0o2750,
        uid: 1000,
        gid: 100,
        atime: Timestamp { secs: 1_700_000_000, nanos: 1 },
        mtime: Timestamp { secs: -1, nanos: 999_999_999 },
    };
    let meta = posix.encode(&ObjectMeta::default()).unwrap();
    let key = key_of(PREFIX, "dir/ä b+c".as_bytes(), KeyKind::Leaf).unwrap();
    let body = Bytes::from_static(b"content");
    let stored = bucket.put(&key, body.clone(), &meta, &Precondition::Always).await.unwrap();
    let Head { stored: found, meta: back, .. } = bucket.head(&key).await.unwrap();
    assert_eq!(found, stored);
    assert_eq!(back, meta);
    let imported = decode(KeyKind::Leaf, &back).unwrap();
    assert_eq!(imported.permissions, Some(0o2750));
    assert_eq!((imported.atime, imported.mtime), (Some(posix.atime), Some(posix.mtime)));
    assert_eq!(bucket.get_whole(&key, 7, Some(&stored.etag)).await.unwrap(), body);
    assert_eq!(bucket.get_range(&key, 2..5, Some(&stored.etag)).await.unwrap(), "nte");
}

#[tokio::test]
async fn metadata_alone_is_replaced_and_the_bytes_stay() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let key = "some/prefix/ä b";
    let etag = put(&bucket, key, b"content").await;
    let user = [("file-owner".to_owned(), "7".to_owned())].into();
    let meta = ObjectMeta { content_type: Some("text/plain".into()), user };
    let stored = bucket.copy(key, key, &meta, &etag).await.unwrap();
    let head = bucket.head(key).await.unwrap();
    assert_eq!((head.meta, head.stored.etag), (meta.clone(), stored.etag.clone()));
    assert_eq!(bucket.get_whole(key, 7, Some(&stored.etag)).await.unwrap(), "content");
    let other = ETag::new("other");
    let error = bucket.copy(key, key, &meta, &other).await.unwrap_err();
    assert!(matches!(error, S3Error::Changed { .. }));
}

#[tokio::test]
async fn every_page_size_lists_every_key_once_and_in_order() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let names = ["a", "a b", "a&<>", "a+b", "a/", "a/b", "a/c/d", "a\u{1}", "b", "ä"];
    let mut sorted: Vec<_> = names.iter().map(|name| format!("{PREFIX}{name}")).collect();
    sorted.sort();
    for key in &sorted {
        put(&bucket, key, b"").await;
    }
    put(&bucket, "elsewhere", b"").await;
    for max in [1, 3, 1000] {
        let (mut seen, mut next) = (Vec::new(), None);
        loop {
            let page = bucket.list(Listing::Below(PREFIX), next.as_deref(), max).await.unwrap();
            seen.extend(keys(&page).into_iter().map(str::to_owned));
            assert!(page.objects.iter().all(|object| object.etag.is_some()));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, sorted, "{max}");
    }
    let level = bucket.list(Listing::Level("some/prefix/a/"), None, 10).await.unwrap();
    assert_eq!(keys(&level), ["some/prefix/a/", "some/prefix/a/b"]);
    assert_eq!(level.common_prefixes, ["some/prefix/a/c/"]);
}

#[tokio::test]
async fn a_listing_can_begin_behind_any_key() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let sorted = ["a", "a+b", "a/", "a/b", "b", "ä"].map(|name| format!("{PREFIX}{name}"));
    for key in &sorted {
        put(&bucket, key, b"").await;
    }
    let below = Listing::Below(PREFIX);
    let from = |index: usize| sorted[index..].iter().map(String::as_str).collect::<Vec<_>>();
    for (index, after) in sorted.iter().enumerate() {
        let page = bucket.list_after(below, after, 1000).await.unwrap();
        assert_eq!(keys(&page), from(index + 1), "{after}");
    }
    // A key that is not there; the beginning; and how it goes on.
    let page = bucket.list_after(below, "some/prefix/a/a", 1000).await.unwrap();
    assert_eq!(keys(&page), from(3));
    let page = bucket.list_after(below, "", 2).await.unwrap();
    assert_eq!(keys(&page), from(0)[..2]);
    let page = bucket.list_after(below, "some/prefix/a", 2).await.unwrap();
    assert_eq!(keys(&page), from(1)[..2]);
    let page = bucket.list(below, page.next.as_deref(), 1000).await.unwrap();
    assert_eq!(keys(&page), from(3));
}

#[tokio::test]
async fn only_the_object_that_is_meant_is_deleted() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let key = "some/prefix/a";
    let old = put(&bucket, key, b"content").await;
    let new = put(&bucket, key, b"of somebody else").await;
    let error = bucket.delete_if(key, &old).await.unwrap_err();
    assert!(matches!(error, S3Error::Changed { .. }), "{error}");
    assert_eq!(bucket.head(key).await.unwrap().stored.etag, new);
    bucket.delete_if(key, &new).await.unwrap();
    let error = bucket.head(key).await.unwrap_err();
    assert!(matches!(error, S3Error::NotFound { .. }), "{error}");
    bucket.delete_if(key, &new).await.unwrap();
}

#[tokio::test]
async fn conditions_hold_or_nothing_is_written() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let blind = bucket.clone().with_features(Features::default());
    let meta = ObjectMeta::default();
    // The second checks by itself what the first leaves to the server.
    for (number, bucket) in [bucket, blind].iter().enumerate() {
        let key = format!("{PREFIX}{number}");
        let first = Bytes::from_static(b"first");
        let absent = Precondition::Absent;
        let stored = bucket.put(&key, first.clone(), &meta, &absent).await.unwrap();
        let other = Precondition::Match(ETag::new("other"));
        for when in [absent, other] {
            let error = bucket.put(&key, Bytes::new(), &meta, &when).await.unwrap_err();
            assert!(matches!(error, S3Error::Changed { .. }), "{error}");
            assert_eq!(error.code(), ReportCode::ResourceBusy);
        }
        let same = Precondition::Match(stored.etag.clone());
        assert_eq!(bucket.get_whole(&key, 5, Some(&stored.etag)).await.unwrap(), first);
        bucket.put(&key, Bytes::from_static(b"second"), &meta, &same).await.unwrap();
        let error = bucket.get_range(&key, 0..5, Some(&stored.etag)).await.unwrap_err();
        assert!(matches!(error, S3Error::Changed { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_is_gone_is_not_found_and_may_be_deleted_again() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let key = "some/prefix/a";
    put(&bucket, key, b"content").await;
    bucket.delete(key).await.unwrap();
    bucket.delete(key).await.unwrap();
    for error in [
        bucket.head(key).await.unwrap_err(),
        bucket.get_range(key, 0..1, None).await.unwrap_err(),
        bucket.get_whole(key, 0, None).await.unwrap_err(),
    ] {
        assert!(matches!(error, S3Error::NotFound { .. }), "{error}");
        assert_eq!(error.code(), ReportCode::S3ObjectNotFound);
        assert_eq!(error.call().key, key);
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_means_that_the_object_changed() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let key = "some/prefix/a";
    put(&bucket, key, b"content").await;
    for range in [5..9, 7..8, 100..200] {
        let error = bucket.get_range(key, range, None).await.unwrap_err();
        assert!(matches!(error, S3Error::Changed { .. }), "{error}");
    }
    let error = bucket.get_whole(key, 6, None).await.unwrap_err();
    assert!(matches!(error, S3Error::Changed { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_credentials_are_told_apart() {
    let world = World::start().await;
    let mut endpoint = world.endpoint.clone();
    endpoint.secret_key = "other".into();
    let error = bucket(&endpoint).probe().await.unwrap_err();
    assert!(matches!(error, S3Error::Credentials { .. }), "{error}");
    assert_eq!(error.code(), ReportCode::S3AccessDenied);
    let url = "s3://other/".parse().unwrap();
    let other = Bucket::new(&world.endpoint, url, crate::world::patience());
    let error = other.probe().await.unwrap_err();
    assert!(matches!(error, S3Error::NoBucket { .. }), "{error}");
}

#[tokio::test]
async fn the_server_keeps_objects_over_a_restart_and_forgets_uploads() {
    let mut world = World::start().await;
    let before = world.bucket().await;
    let etag = put(&before, "some/prefix/kept", b"content").await;
    put(&before, "some/prefix/deleted", b"content").await;
    before.delete("some/prefix/deleted").await.unwrap();
    before.begin_upload("some/prefix/upload", &ObjectMeta::default()).await.unwrap();
    world.restart().await;
    let after = world.bucket().await;
    let page = after.list(Listing::Below(PREFIX), None, 10).await.unwrap();
    assert_eq!(keys(&page), ["some/prefix/kept"]);
    assert_eq!(after.get_whole("some/prefix/kept", 7, Some(&etag)).await.unwrap(), "content");
    assert!(after.list_uploads("").await.unwrap().is_empty());
}
