//! Files to objects and back: whole, or not at all.

use std::future::ready;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use nacre_copytool::bucket::Listing;
use nacre_copytool::intents::{Intents, abort_orphans};
use nacre_copytool::mover::{Busy, Download, PIECE_BYTES, Upload, Wanted, Watch};
use nacre_copytool::{
    ETag, MemoryBudget, MoveError, Mover, ObjectMeta, Precondition, ReportCode, S3Error, Stored,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::world::{File, MIB, PREFIX, World, Written, content, cover, mover, unwatched};

const KEY: &str = "some/prefix/file";

fn meta() -> ObjectMeta {
    let user = [("file-mtime".to_owned(), "17ns".to_owned())].into();
    ObjectMeta { content_type: Some("application/octet-stream".into()), user }
}

async fn upload(mover: &Mover, key: &str, file: &File) -> Result<Stored, MoveError> {
    let cancel = CancellationToken::new();
    let (meta, when) = (meta(), Precondition::Always);
    let job = Upload { key, size: file.size, meta: &meta, when: &when };
    mover.upload(job, file, ready(Ok(())), unwatched(&cancel)).await
}

async fn download(mover: &Mover, etag: &ETag, size: u64) -> Result<Written, MoveError> {
    let (cancel, sink) = (CancellationToken::new(), Written::default());
    let job = Download { key: KEY, etag, size };
    mover.download(job, &sink, &Wanted::default(), unwatched(&cancel)).await?;
    Ok(sink)
}

/// Nothing is under way, for us or for the server.
async fn assert_no_upload(world: &World) {
    let uploads = world.bucket().await.list_uploads("").await.expect("a list");
    assert_eq!(uploads, []);
    assert!(world.intents().pending().is_empty());
}

#[tokio::test]
async fn files_of_every_size_come_back_as_they_were() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 40 * MIB] {
        let arrived = Mutex::new(Vec::new());
        let progress = |range| arrived.lock().push(range);
        let cancel = CancellationToken::new();
        let watch = Watch { progress: &progress, cancel: &cancel };
        let (meta, when) = (meta(), Precondition::Always);
        let job = Upload { key: KEY, size, meta: &meta, when: &when };
        let stored = mover.upload(job, &File::of(size), ready(Ok(())), watch).await.unwrap();
        let head = mover.bucket().head(KEY).await.unwrap();
        assert_eq!((head.stored, head.meta), (stored.clone(), meta));
        assert_eq!(stored.size, size);
        assert_eq!(cover(&arrived.lock()), size);
        arrived.lock().clear();
        let (sink, job) = (Written::default(), Download { key: KEY, etag: &stored.etag, size });
        mover.download(job, &sink, &Wanted::default(), watch).await.unwrap();
        assert_eq!((sink.bytes(), cover(&arrived.lock())), (size, size));
    }
    assert_no_upload(&world).await;
}

#[tokio::test]
async fn a_file_that_changed_leaves_the_old_object_and_no_upload() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    let old = upload(&mover, KEY, &File::of(5)).await.unwrap();
    for size in [7, 20 * MIB] {
        let (cancel, file) = (CancellationToken::new(), File::of(size));
        let (meta, when) = (meta(), Precondition::Always);
        let job = Upload { key: KEY, size, meta: &meta, when: &when };
        let result = mover.upload(job, &file, ready(Err(Busy)), unwatched(&cancel)).await;
        let error = result.unwrap_err();
        assert!(matches!(error, MoveError::Busy(Busy)), "{error}");
        assert_eq!(error.code(), ReportCode::ResourceBusy);
        // The fence comes when all is read.
        assert_eq!(file.reads.load(Ordering::SeqCst), size.div_ceil(PIECE_BYTES));
        assert_eq!(mover.bucket().head(KEY).await.unwrap().stored, old);
        assert_no_upload(&world).await;
    }
}

#[tokio::test]
async fn a_file_that_is_shorter_than_it_was_is_busy() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    let (meta, when) = (meta(), Precondition::Always);
    for (size, actual) in [(7, 6), (20 * MIB, 20 * MIB - 1), (20 * MIB, 0)] {
        let cancel = CancellationToken::new();
        let job = Upload { key: KEY, size, meta: &meta, when: &when };
        let file = File::of(actual);
        let error = mover.upload(job, &file, ready(Ok(())), unwatched(&cancel)).await.unwrap_err();
        assert!(matches!(error, MoveError::Busy(Busy)), "{error}");
    }
    let page = mover.bucket().list(Listing::Below(PREFIX), None, 10).await.unwrap();
    assert!(page.objects.is_empty());
    assert_no_upload(&world).await;
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    let cancel = CancellationToken::new();
    let size = 64 * MIB;
    let file = File { cancel: Some(cancel.clone()), ..File::of(size) };
    let (meta, when) = (meta(), Precondition::Always);
    let job = Upload { key: KEY, size, meta: &meta, when: &when };
    let error = mover.upload(job, &file, ready(Ok(())), unwatched(&cancel)).await.unwrap_err();
    assert!(matches!(error, MoveError::Cancelled), "{error}");
    assert!(file.reads.load(Ordering::SeqCst) < 8);
    let error = mover.bucket().head(KEY).await.unwrap_err();
    assert!(matches!(error, S3Error::NotFound { .. }), "{error}");
    assert_no_upload(&world).await;
}

#[tokio::test]
async fn a_lost_race_for_the_key_keeps_what_won() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    let ours = upload(&mover, KEY, &File::of(5)).await.unwrap();
    let theirs = upload(&mover, KEY, &File::of(6)).await.unwrap();
    let (meta, when) = (meta(), Precondition::Match(ours.etag));
    for size in [7, 20 * MIB] {
        let (cancel, file) = (CancellationToken::new(), File::of(size));
        let job = Upload { key: KEY, size, meta: &meta, when: &when };
        let error = mover.upload(job, &file, ready(Ok(())), unwatched(&cancel)).await.unwrap_err();
        assert!(matches!(error, MoveError::S3(S3Error::Changed { .. })), "{error}");
        assert_eq!(mover.bucket().head(KEY).await.unwrap().stored, theirs);
        assert_no_upload(&world).await;
    }
}

#[tokio::test]
async fn what_a_crash_left_behind_is_aborted_at_the_next_start() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let intents = world.intents();
    for name in ["a", "b"] {
        let upload = bucket.begin_upload(&format!("{PREFIX}{name}"), &meta()).await.unwrap();
        intents.begun(&upload).await.unwrap();
        bucket.put_part(&upload, 1, Bytes::from_static(b"part")).await.unwrap();
    }
    drop(intents);
    assert_eq!(bucket.list_uploads(PREFIX).await.unwrap().len(), 2);
    assert_eq!(abort_orphans(&bucket, &world.intents()).await.unwrap(), 2);
    assert_eq!(abort_orphans(&bucket, &world.intents()).await.unwrap(), 0);
    assert_no_upload(&world).await;
}

#[tokio::test]
async fn all_transfers_together_stay_within_the_budget() {
    let world = World::start().await;
    let budget = MemoryBudget::new(u32::try_from(24 * MIB).unwrap());
    let bucket = world.bucket().await;
    let intents = std::sync::Arc::new(world.intents());
    let movers: Vec<_> =
        (0..2).map(|_| Mover::new(bucket.clone(), budget.clone(), intents.clone(), 3)).collect();
    let first = File::of(40 * MIB);
    let others = [File::sharing(32 * MIB, &first), File::sharing(5 * MIB, &first)];
    let (a, b, c) = tokio::join!(
        upload(&movers[0], "some/prefix/a", &first),
        upload(&movers[1], "some/prefix/b", &others[0]),
        upload(&movers[1], "some/prefix/c", &others[1]),
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();
    let most = first.alive_max.load(Ordering::SeqCst);
    assert!(most <= 24 * MIB, "{most}");
    // They do run at the same time.
    assert!(most > 8 * MIB, "{most}");
}

#[tokio::test]
async fn a_budget_smaller_than_a_piece_still_moves_files() {
    let world = World::start().await;
    let mover = world.mover(MIB).await;
    let stored = upload(&mover, KEY, &File::of(20 * MIB)).await.unwrap();
    let sink = download(&mover, &stored.etag, stored.size).await.unwrap();
    assert_eq!(sink.bytes(), 20 * MIB);
}

#[tokio::test]
async fn another_object_of_the_key_is_not_mixed_in() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    for size in [5, 20 * MIB] {
        let old = upload(&mover, KEY, &File::of(size + 1)).await.unwrap();
        upload(&mover, KEY, &File::of(size)).await.unwrap();
        let error = download(&mover, &old.etag, old.size).await.unwrap_err();
        assert!(matches!(error, MoveError::S3(S3Error::Changed { .. })), "{error}");
    }
    let old = mover.bucket().head(KEY).await.unwrap().stored;
    mover.bucket().delete(KEY).await.unwrap();
    let error = download(&mover, &old.etag, old.size).await.unwrap_err();
    assert!(matches!(error, MoveError::S3(S3Error::NotFound { .. })), "{error}");
    assert_eq!(error.code(), ReportCode::S3ObjectNotFound);
}

#[tokio::test]
async fn what_somebody_waits_for_is_fetched_first() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let budget = MemoryBudget::new(u32::try_from(8 * MIB).unwrap());
    let mover = Mover::new(bucket, budget, std::sync::Arc::new(world.intents()), 1);
    let stored = upload(&mover, KEY, &File::of(30 * MIB)).await.unwrap();
    let (sink, wanted) = (Written::default(), Wanted::default());
    wanted.want(29 * MIB..30 * MIB);
    let wants = wanted.clone();
    // After the first piece somebody else wants another one.
    let progress = move |range: std::ops::Range<u64>| {
        if range.start == 24 * MIB {
            wants.want(16 * MIB..16 * MIB + 1);
        }
    };
    let cancel = CancellationToken::new();
    let watch = Watch { progress: &progress, cancel: &cancel };
    let job = Download { key: KEY, etag: &stored.etag, size: stored.size };
    mover.download(job, &sink, &wanted, watch).await.unwrap();
    let order: Vec<_> = sink.ranges.lock().iter().map(|range| range.start / PIECE_BYTES).collect();
    assert_eq!(order, [3, 2, 0, 1]);
}

#[tokio::test]
async fn a_cancelled_download_stops() {
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    let stored = upload(&mover, KEY, &File::of(64 * MIB)).await.unwrap();
    let (sink, cancel) = (Written::default(), CancellationToken::new());
    let stop = cancel.clone();
    let progress = move |_| stop.cancel();
    let watch = Watch { progress: &progress, cancel: &cancel };
    let job = Download { key: KEY, etag: &stored.etag, size: stored.size };
    let result = mover.download(job, &sink, &Wanted::default(), watch).await;
    assert!(matches!(result, Err(MoveError::Cancelled)));
    assert!(sink.ranges.lock().len() < 8);
}

#[tokio::test]
async fn a_part_may_be_sent_again_and_the_last_one_counts() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let upload = bucket.begin_upload(KEY, &meta()).await.unwrap();
    bucket.put_part(&upload, 1, Bytes::from_static(b"first")).await.unwrap();
    let part = bucket.put_part(&upload, 1, content(0..5).into()).await.unwrap();
    let when = Precondition::Absent;
    let stored = bucket.complete_upload(&upload, &[part], 5, &meta(), &when).await.unwrap();
    let mover = mover(bucket, MIB, world.intents());
    assert_eq!(download(&mover, &stored.etag, 5).await.unwrap().bytes(), 5);
}

/// Transfers may run in tasks of their own.
#[tokio::test]
async fn transfers_can_move_between_threads() {
    fn sendable<T: Send>(future: T) -> T {
        future
    }
    let world = World::start().await;
    let mover = world.mover(64 * MIB).await;
    let (cancel, file, sink) = (CancellationToken::new(), File::of(5), Written::default());
    let (meta, when, wanted) = (meta(), Precondition::Always, Wanted::default());
    let job = Upload { key: KEY, size: 5, meta: &meta, when: &when };
    let uploaded = sendable(mover.upload(job, &file, ready(Ok(())), unwatched(&cancel))).await;
    let etag = uploaded.unwrap().etag;
    let job = Download { key: KEY, etag: &etag, size: 5 };
    sendable(mover.download(job, &sink, &wanted, unwatched(&cancel))).await.unwrap();
    assert_eq!(sink.bytes(), 5);
}
