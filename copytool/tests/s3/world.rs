//! A server, and files that are watched while they are read and written.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nacre_copytool::embedded::{Served, serve};
use nacre_copytool::mover::{Sink, Source, Watch};
use nacre_copytool::{Bucket, BucketUrl, Endpoint, FileIntents, MemoryBudget, Mover, Patience};
use nacre_node::tasks::Blocking;
use nacre_node::{OsDisk, Scope};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const PREFIX: &str = "some/prefix/";

/// A server of S3 over a folder of its own.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) endpoint: Endpoint,
    pub(crate) scope: Scope,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let scope = Scope::new();
        let endpoint = start_server(dir.path(), &scope).await;
        Self { dir, endpoint, scope }
    }

    /// Ends the server and starts another one over the same folder.
    pub(crate) async fn restart(&mut self) {
        self.scope.join().await;
        self.scope = Scope::new();
        self.endpoint = start_server(self.dir.path(), &self.scope).await;
    }

    /// The bucket, probed.
    pub(crate) async fn bucket(&self) -> Bucket {
        bucket(&self.endpoint).probe().await.expect("the server does everything")
    }

    pub(crate) fn intents(&self) -> FileIntents {
        let disk = Arc::new(OsDisk::new(self.dir.path()));
        FileIntents::open(disk, Path::new("intents"), Blocking::threads(1)).expect("intents")
    }

    /// A mover of three pieces at a time with a budget of so many bytes.
    pub(crate) async fn mover(&self, budget: u64) -> Mover {
        mover(self.bucket().await, budget, self.intents())
    }
}

pub(crate) fn mover(bucket: Bucket, budget: u64, intents: FileIntents) -> Mover {
    let budget = MemoryBudget::new(u32::try_from(budget).expect("a small budget"));
    Mover::new(bucket, budget, Arc::new(intents), 3)
}

/// A bucket of whatever is at that endpoint, asked with little patience.
pub(crate) fn bucket(endpoint: &Endpoint) -> Bucket {
    Bucket::new(endpoint, url(), patience())
}

pub(crate) fn url() -> BucketUrl {
    format!("s3://data/{PREFIX}").parse().expect("a good URL")
}

pub(crate) fn patience() -> Patience {
    Patience {
        attempts: 4,
        pause_first: Duration::from_millis(1),
        pause_max: Duration::from_millis(2),
        ..Patience::default()
    }
}

async fn start_server(dir: &Path, scope: &Scope) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let endpoint = Endpoint {
        url: format!("http://{address}"),
        region: "us-east-1".into(),
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    let served = Served {
        dir: dir.join("s3"),
        bucket: "data".into(),
        access_key: endpoint.access_key.clone(),
        secret_key: endpoint.secret_key.clone(),
    };
    let inner = scope.clone();
    scope.spawn("server", async move {
        serve(listener, served, &inner).await.expect("the folder can be used");
    });
    endpoint
}

/// What every file here has in that range: no two pieces are alike.
pub(crate) fn content(range: Range<u64>) -> Vec<u8> {
    let length = usize::try_from(range.end - range.start).expect("a small range");
    let mut bytes = Vec::with_capacity(length + 16);
    // Word by word, as these tests are not optimized.
    for index in range.start / 8..range.end.div_ceil(8) {
        let word = index.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.drain(..usize::try_from(range.start % 8).expect("less than 8"));
    bytes.truncate(length);
    bytes
}

/// A file that counts how many of the bytes that were read from it are still in memory.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// What it has.
    pub(crate) size: u64,
    /// Called before each read.
    pub(crate) reads: AtomicU64,
    pub(crate) alive: Arc<AtomicU64>,
    pub(crate) alive_max: Arc<AtomicU64>,
    /// Cancels this at the third read.
    pub(crate) cancel: Option<CancellationToken>,
}

impl File {
    pub(crate) fn of(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    pub(crate) fn sharing(size: u64, other: &Self) -> Self {
        let (alive, alive_max) = (Arc::clone(&other.alive), Arc::clone(&other.alive_max));
        Self { size, alive, alive_max, ..Self::default() }
    }
}

/// Bytes that say when they are gone.
struct Counted(Vec<u8>, Arc<AtomicU64>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len() as u64, Ordering::SeqCst);
    }
}

impl Source for File {
    async fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Bytes> {
        let reads = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(cancel) = self.cancel.as_ref().filter(|_| reads == 3) {
            cancel.cancel();
        }
        let end = offset.saturating_add(bytes).min(self.size);
        let bytes = content(offset.min(end)..end);
        let alive = self.alive.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        self.alive_max.fetch_max(alive + bytes.len() as u64, Ordering::SeqCst);
        Ok(Bytes::from_owner(Counted(bytes, Arc::clone(&self.alive))))
    }
}

/// A file that remembers in which order it was written, and compares what is written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) ranges: Mutex<Vec<Range<u64>>>,
}

impl Written {
    /// How much of the file was written, all of it once.
    pub(crate) fn bytes(&self) -> u64 {
        cover(&self.ranges.lock())
    }
}

impl Sink for Written {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let range = offset..offset + bytes.len() as u64;
        assert!(content(range.clone()) == bytes, "wrong bytes at {offset}");
        self.ranges.lock().push(range);
        Ok(())
    }
}

/// The end of ranges that begin at 0 and do not overlap; panics if they are not so.
pub(crate) fn cover(ranges: &[Range<u64>]) -> u64 {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| (range.start, range.end));
    sorted.iter().fold(0, |end, range| {
        assert_eq!(range.start, end, "{sorted:?}");
        range.end
    })
}

/// Nobody stops it, nobody looks.
pub(crate) fn unwatched(cancel: &CancellationToken) -> Watch<'_> {
    Watch { progress: &|_| {}, cancel }
}
