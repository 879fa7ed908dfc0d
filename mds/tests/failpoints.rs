//! Every disk call of log, store and snapshots fails once, with EIO and with ENOSPC: the caller
//! gets a clear error, and nothing that was acknowledged is lost.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a helper that fails has found what the test looks for")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nacre_mds::command::{Command, Op, Origin};
use nacre_mds::engine::{Engine, EngineConfig, EngineError};
use nacre_mds::format::{Format, prepare};
use nacre_mds::store::{MetaStore, SledOptions, SledStore, StoreError, View, open_or_renew};
use nacre_mds::{Machine, namespace};
use nacre_model::{Fid, FileKind, Timestamp};
use nacre_node::tasks::Blocking;
use nacre_node::{Disk, OsDisk, Scope};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use tempfile::TempDir;

/// Files that are made in one life.
const FILES: u64 = 40;
/// After so many a snapshot is taken.
const SNAPSHOT_EVERY: u64 = 10;

/// Calls whose failure changes nothing for whoever asks.
const QUIET: [&str; 2] = ["mds::log::remove", "mds::snapshot::read"];

/// Names of all fail points in the sources, so that none is forgotten here.
fn points() -> BTreeSet<String> {
    fn walk(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let quoted = text.split('"').filter(|text| text.starts_with("mds::"));
            names.extend(quoted.map(str::to_owned));
        }
    }
    let mut names = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

fn command(number: u64) -> Command {
    let op = match number {
        1 => Op::AddSequences { first: Fid::SEQ_NORMAL, count: 1 },
        2 => Op::OpenSession {
            client_uuid: "failpoints".to_owned(),
            incarnation: 1,
            hostname: String::new(),
            leases: false,
        },
        _ => Op::Change {
            uid: 0,
            gid: 0,
            op: Wire::Create(v1::CreateOp {
                parent: Some(Fid::ROOT.into()),
                name: name(number),
                mode: FileKind::Regular.mode_bits() | 0o644,
                exclusive: true,
                ..v1::CreateOp::default()
            }),
            new_fid: None,
            placement: Vec::new(),
            held_open: Vec::new(),
            used_by_others: Vec::new(),
        },
    };
    let origin = (number > 2).then_some(Origin { session: 1, slot: 0, xid: number });
    Command { time: Timestamp::default(), origin, op }
}

fn name(number: u64) -> Bytes {
    Bytes::from(format!("file.{number}"))
}

/// What one life of the metadata brought.
#[derive(Debug, Default)]
struct Life {
    /// Errors, with all their causes, and what the disk had said.
    errors: Vec<(String, Option<i32>)>,
    acknowledged: Vec<u64>,
    /// Commands of which it was said that they did not happen.
    refused: Vec<u64>,
}

impl Life {
    fn failed(&mut self, error: &(dyn Error + 'static)) {
        let (mut text, mut said) = (error.to_string(), None);
        let mut next = Some(error);
        while let Some(error) = next {
            said =
                error.downcast_ref::<std::io::Error>().map_or(said, std::io::Error::raw_os_error);
            next = error.source();
            if let Some(cause) = next {
                text = format!("{text}: {cause}");
            }
        }
        self.errors.push((text, said));
    }
}

/// Threads of sled's own let go of the files of the life before some time after it has ended.
async fn store(folder: &Path) -> Result<SledStore, StoreError> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match open_or_renew(&folder.join("store"), &SledOptions { cache_bytes: 1 << 20 }) {
            Err(StoreError::Io { source, .. })
                if source.to_string().contains("could not acquire lock")
                    && Instant::now() < until =>
            {
                tokio::task::yield_now().await;
            }
            done => return done,
        }
    }
}

async fn open(folder: &Path, scope: &Scope) -> Result<Engine<Machine>, Box<dyn Error>> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(folder));
    let store: Arc<dyn MetaStore> = Arc::new(store(folder).await?);
    let format = Format { hash_key: [1, 2], born: Timestamp::default() };
    prepare(&*disk, &*store, "fail", format)?;
    let mut config = EngineConfig::new(disk, store, Blocking::threads(2), scope.clone());
    config.log.segment_bytes = 2 << 10;
    Ok(Engine::open(config, Machine).await?)
}

/// Opens, makes files from number `first` on, takes snapshots, and closes.
async fn live(folder: &Path, first: u64, files: u64) -> Life {
    let (mut life, scope) = (Life::default(), Scope::new());
    let engine = match open(folder, &scope).await {
        Ok(engine) => engine,
        Err(error) => {
            life.failed(&*error);
            return life;
        }
    };
    for number in first..first + files {
        match engine.submit(command(number), number.is_multiple_of(5)).await {
            Ok(_) => life.acknowledged.push(number),
            Err(error) => {
                if matches!(error, EngineError::NoSpace(_)) {
                    life.refused.push(number);
                }
                life.failed(&error);
            }
        }
        if number.is_multiple_of(SNAPSHOT_EVERY)
            && let Err(error) = engine.snapshot().await
        {
            life.failed(&error);
        }
    }
    drop(engine);
    scope.join().await;
    life
}

fn has(view: &dyn View, number: u64) -> bool {
    namespace::read::lookup(view, Fid::ROOT, &name(number)).is_ok()
}

/// A folder whose store is lost, so that the next life uses snapshot and log; with the end of the
/// log torn.
async fn prepared() -> (TempDir, u64) {
    let folder = TempDir::new().unwrap();
    let life = live(folder.path(), 1, FILES).await;
    assert_eq!(life.errors, Vec::new());
    // Behind the last snapshot, so that there is something to replay.
    let more = live(folder.path(), FILES + 1, 5).await;
    assert_eq!(more.errors, Vec::new());
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    let log = folder.path().join("log");
    let newest = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let file = std::fs::File::options().write(true).open(newest).unwrap();
    let len = file.metadata().unwrap().len();
    std::os::unix::fs::FileExt::write_all_at(&file, b"torn", len - 8).unwrap();
    (folder, FILES + 6)
}

/// Everything acknowledged is there, and nothing that was refused.
async fn check(folder: &Path, lives: &[&Life], point: &str) {
    let scope = Scope::new();
    let engine = open(folder, &scope).await.unwrap();
    for life in lives {
        for number in life.acknowledged.iter().filter(|number| **number > 2) {
            assert!(has(engine.view(), *number), "{point}: file {number} was acknowledged");
        }
        for number in &life.refused {
            assert!(!has(engine.view(), *number), "{point}: file {number} was refused");
        }
    }
    assert_eq!(namespace::check(engine.view()).unwrap(), Vec::new(), "{point}");
    drop(engine);
    scope.join().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_disk_call_may_fail_and_nothing_acknowledged_is_lost() {
    let scenario = fail::FailScenario::setup();
    let points = points();
    assert!(points.len() >= 15, "{points:?}");

    // All of them are passed when nothing fails.
    let passed: Vec<Arc<AtomicU64>> = points.iter().map(|_| Arc::default()).collect();
    let (folder, first) = prepared().await;
    for (point, count) in points.iter().zip(&passed) {
        let count = Arc::clone(count);
        fail::cfg_callback(point, move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    }
    let life = live(folder.path(), first, FILES).await;
    points.iter().for_each(|point| fail::remove(point));
    assert_eq!(life.errors, Vec::new());
    for (point, count) in points.iter().zip(&passed) {
        assert!(count.load(Ordering::Relaxed) > 0, "{point} is never passed");
    }

    for point in &points {
        for (name, errno) in [("EIO", 5), ("ENOSPC", 28)] {
            let (folder, first) = prepared().await;
            fail::cfg(point, &format!("1*return({name})")).unwrap();
            let life = live(folder.path(), first, FILES).await;
            fail::remove(point);
            let when = format!("{point} with {name}");
            match life.errors.first() {
                Some((text, said)) => {
                    assert_eq!(*said, Some(errno), "{when}: {text}");
                    // The part; what was tried and with what stands behind it.
                    let parts = ["log: ", "store: ", "snapshot: "];
                    assert!(parts.iter().any(|part| text.contains(part)), "{when}: {text}");
                }
                // What is superfluous stays until it can be removed; behind the newest snapshot
                // there is an older one.
                None => assert!(QUIET.contains(&point.as_str()), "{when}: nobody was told"),
            }
            check(folder.path(), &[&life], &when).await;
        }
    }
    scenario.teardown();
}
