//! Servers that die, fall silent and come back.

use std::time::Duration;

use bytes::Bytes;
use nacre_client::{Caller, Client, OpenFile, WriteFlags};
use nacre_model::{Errno, LayoutTemplate, OstIndex, ServiceError};
use nacre_tests::inside::Cluster;
use tokio::time::Instant;

use super::{component, make, name, node, read, write};

const LARGE: usize = 3 << 20;

/// A layout of one stripe on one OST.
fn on_ost(index: u16) -> LayoutTemplate {
    let mut one = component(nacre_model::layout::EOF, 1);
    one.stripe_index = Some(OstIndex(index));
    LayoutTemplate { components: vec![one] }
}

async fn write_and_close(client: &Client, file: &OpenFile, data: &[u8]) -> Option<Errno> {
    let data = Bytes::copy_from_slice(data);
    let written = client.write(file, 0, data, WriteFlags::default()).await;
    let flushed = client.flush(file).await;
    written.map(|_| ()).and(flushed).err().map(|error| error.errno())
}

/// A client whose `flush` waits for the data.
async fn closing_client(cluster: &Cluster) -> Client {
    cluster.client_with(|config| config.sync_on_close = true).await.unwrap()
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = work.await;
    assert!(started.elapsed() < limit, "{what} took {:?}", started.elapsed());
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_ost_gives_eio_at_once_and_others_continue_and_it_is_used_again() {
    let mut cluster = Cluster::start(2).await.unwrap();
    let client = closing_client(&cluster).await;
    let data = vec![7; LARGE];
    let dead = make(&client, "dead", Some(on_ost(1))).await;
    let live = make(&client, "live", Some(on_ost(0))).await;
    assert_eq!(write_and_close(&client, &dead, &data).await, None);
    assert_eq!(write_and_close(&client, &live, &data).await, None);

    cluster.kill_ost(1).await;
    let limit = Duration::from_secs(1);
    let error = within(limit, "read", client.read(&dead, 0, 4096)).await.unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    let error = within(limit, "write", write_and_close(&client, &dead, &data)).await;
    assert_eq!(error, Some(Errno::EIO));
    // Told once.
    assert_eq!(client.flush(&dead).await.err().map(|e| e.errno()), None);
    let attr = within(limit, "getattr", client.getattr(dead.fid())).await.unwrap();
    assert_eq!(attr.size, LARGE as u64);
    assert_eq!(read(&client, &live, 0, LARGE as u64).await, data);

    cluster.start_ost(1).await.unwrap();
    let back = async {
        while client.read(&dead, 0, 4096).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(Duration::from_secs(5), "return", back).await;
    assert_eq!(read(&client, &dead, 0, LARGE as u64).await, data);
    assert_eq!(write_and_close(&client, &dead, &data).await, None);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_ost_gives_eio_within_five_seconds_and_listing_goes_on() {
    let cluster = Cluster::start(2).await.unwrap();
    let client = closing_client(&cluster).await;
    let data = vec![7; LARGE];
    let silent = make(&client, "silent", Some(on_ost(1))).await;
    let live = make(&client, "live", Some(on_ost(0))).await;
    assert_eq!(write_and_close(&client, &silent, &data).await, None);
    assert_eq!(write_and_close(&client, &live, &data).await, None);

    cluster.net.silence(&Cluster::ost_address(1), true);
    let limit = Duration::from_secs(5);
    let large = vec![1; 16 << 20];
    let write = within(limit, "write", write_and_close(&client, &silent, &large));
    assert_eq!(write.await, Some(Errno::EIO));
    let error = within(limit, "read", client.read(&silent, 0, 4096)).await.unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    within(limit, "getattr", client.getattr(silent.fid())).await.unwrap();
    assert_eq!(read(&client, &live, 0, LARGE as u64).await, data);

    cluster.net.silence(&Cluster::ost_address(1), false);
    let back = async {
        while client.read(&silent, 0, 4096).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(Duration::from_secs(10), "return", back).await;
    assert_eq!(write_and_close(&client, &silent, &data).await, None);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_is_sent_again_when_an_ost_was_restarted_before_the_commit() {
    let mut cluster = Cluster::start(1).await.unwrap();
    let client = closing_client(&cluster).await;
    let data = vec![9; LARGE];
    let file = make(&client, "again", Some(on_ost(0))).await;
    assert_eq!(write_and_close(&client, &file, &data).await, None);
    cluster.kill_ost(0).await;
    cluster.start_ost(0).await.unwrap();
    client.fsync(&file, false).await.unwrap();
    assert_eq!(read(&client, &file, 0, LARGE as u64).await, data);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applications_wait_for_a_dead_mds_and_go_on() {
    let mut cluster = Cluster::start(1).await.unwrap();
    let client = closing_client(&cluster).await;
    let file = make(&client, "before", None).await;
    write(&client, &file, 0, b"small").await;
    cluster.kill_mds().await;
    let work = tokio::spawn({
        let client = client.clone();
        async move {
            client.flush(&file).await.unwrap();
            let (root, during) = (client.root(), name("during"));
            let made = client.create(Caller::default(), root, &during, node(None));
            made.await.unwrap();
            file
        }
    });
    // Nothing answers: the work cannot be done.
    let mut work = work;
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut work).await.is_err());
    cluster.start_mds().unwrap();
    let file = tokio::time::timeout(Duration::from_secs(20), work).await.unwrap().unwrap();
    assert_eq!(read(&client, &file, 0, 100).await, b"small");
    let attr = client.lookup(client.root(), &name("during")).await.unwrap();
    assert_eq!(attr.size, 0);
    client.release(file).await.unwrap();
    cluster.stop().await;
}
