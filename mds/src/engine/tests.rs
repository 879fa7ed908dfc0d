//! The engine under a toy machine: a map of names to numbers, and a counter.

use std::sync::Arc;

use nacre_model::{Effect, Errno, Retry, ServiceError};
use nacre_node::disk::mem::{Crash, DiskCall, MemDisk};
use nacre_node::tasks::{Blocking, Scope};

use super::*;
use crate::store::{Batch, KEY_END, MemStore, SledOptions, StoreError, Txn, Visit, open_or_renew};

/// Adds `amount` to the number of `name`; resending the same `xid` gives the first answer.
#[derive(Debug, Clone, PartialEq)]
struct Add {
    name: u8,
    amount: u64,
    xid: u64,
}

struct Toy;

#[derive(Debug, thiserror::Error)]
enum ToyError {
    /// At amount 13.
    #[error("amount 13 is refused")]
    Unlucky,
    /// From a log that a test damaged.
    #[error("bad bytes")]
    Bytes,
    /// From the store, as it is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError for ToyError {
    fn errno(&self) -> Errno {
        Errno::EINVAL
    }
    fn retry(&self) -> Retry {
        Retry::Never
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

fn number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

impl StateMachine for Toy {
    type Command = Add;
    type Outcome = u64;
    type Error = ToyError;

    fn apply(&mut self, txn: &mut Txn<'_>, add: &Add) -> Result<u64, ToyError> {
        let reply = [&[2][..], &add.xid.to_be_bytes()].concat();
        if let Some(answer) = txn.get(&reply)? {
            return Ok(number(Some(answer)));
        }
        let key = vec![1, add.name];
        let sum = number(txn.get(&key)?) + add.amount;
        txn.put(key, sum.to_le_bytes().to_vec());
        if add.amount == 13 {
            return Err(ToyError::Unlucky);
        }
        txn.put(reply, sum.to_le_bytes().to_vec());
        Ok(sum)
    }

    fn encode(&self, add: &Add, out: &mut Vec<u8>) {
        out.push(add.name);
        out.extend_from_slice(&add.amount.to_le_bytes());
        out.extend_from_slice(&add.xid.to_le_bytes());
    }

    fn decode(&self, bytes: &[u8]) -> Result<Add, ToyError> {
        let at = |at: usize| {
            let chunk = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or(ToyError::Bytes)?;
            Ok::<_, ToyError>(u64::from_le_bytes(*chunk))
        };
        Ok(Add { name: *bytes.first().ok_or(ToyError::Bytes)?, amount: at(1)?, xid: at(9)? })
    }
}

fn config<S: MetaStore>(disk: &MemDisk, store: &Arc<S>) -> EngineConfig {
    let (disk, store) = (Arc::new(disk.clone()), Arc::clone(store));
    let mut config = EngineConfig::new(disk, store, Blocking::Inline, Scope::new());
    config.applier = Applier::Task;
    config.log.segment_bytes = 16 << 10;
    config
}

fn add(name: u8, amount: u64, xid: u64) -> Add {
    Add { name, amount, xid }
}

async fn open<S: MetaStore>(disk: &MemDisk, store: &Arc<S>) -> (Engine<Toy>, Scope) {
    let config = config(disk, store);
    let scope = config.scope.clone();
    (Engine::open(config, Toy).await.unwrap(), scope)
}

#[tokio::test]
async fn answers_are_seen_by_readers_and_replayed_after_a_restart() {
    let (disk, store) = (MemDisk::default(), Arc::new(MemStore::default()));
    let (engine, scope) = open(&disk, &store).await;
    for xid in 0..1000 {
        engine.submit(add(7, 1, xid), false).await.unwrap();
        assert_eq!(number(engine.view().get(&[1, 7]).unwrap()), xid + 1);
    }
    let refused = engine.submit(add(7, 13, 5000), false).await.unwrap_err();
    assert!(matches!(refused, EngineError::Refused(ToyError::Unlucky)));
    assert_eq!(number(engine.view().get(&[1, 7]).unwrap()), 1000);
    assert_eq!(engine.applied(), 1000);
    let head = Head::load(engine.view()).unwrap();
    drop(engine);
    scope.join().await;

    let fresh = Arc::new(MemStore::default());
    let (engine, _scope) = open(&disk, &fresh).await;
    assert_eq!(Head::load(engine.view()).unwrap(), head);
    assert_eq!(engine.submit(add(7, 1, 500), false).await.unwrap(), 501, "a resend");
    assert_eq!(engine.applied(), 1000);
}

/// A store that keeps, at a crash, its last checkpoint and some of the batches behind it.
#[derive(Default)]
struct CrashStore {
    live: MemStore,
    kept: parking_lot::Mutex<(Vec<Batch>, usize)>,
}

impl CrashStore {
    fn after_crash(&self, crash: Crash, seed: u64) -> Arc<Self> {
        let (batches, checkpoint) = self.kept.lock().clone();
        let since = batches.len() - checkpoint;
        let keep = match crash {
            Crash::Process => since,
            Crash::DropAll => 0,
            Crash::Prefix | Crash::Pages | Crash::Sectors => {
                usize::try_from(seed).unwrap() % (since + 1)
            }
        };
        let new = Self::default();
        for batch in &batches[..checkpoint + keep] {
            new.apply(batch).unwrap();
        }
        new.checkpoint().unwrap();
        Arc::new(new)
    }
}

impl View for CrashStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.live.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.live.scan(from, to, visit)
    }
}

impl MetaStore for CrashStore {
    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.kept.lock().0.push(batch.clone());
        self.live.apply(batch)
    }
    fn checkpoint(&self) -> Result<(), StoreError> {
        let mut kept = self.kept.lock();
        kept.1 = kept.0.len();
        Ok(())
    }
    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

const COMMANDS: u64 = 60;

fn command(xid: u64) -> Add {
    add(u8::try_from(xid % 5).unwrap(), xid + 100, xid)
}

/// What a run got acknowledged: how many commands at all, and how many on the disk.
#[derive(Debug, Default, Clone, Copy)]
struct Acked {
    seen: u64,
    durable: u64,
}

/// Submits every command in order until something fails.
async fn work(engine: &Engine<Toy>, seed: u64) -> Acked {
    let mut acked = Acked::default();
    for xid in 1..=COMMANDS {
        let sync = (xid + seed).is_multiple_of(7);
        let Ok(sum) = engine.submit(command(xid), sync).await else { break };
        assert_eq!(sum, (1..=xid).filter(|x| x % 5 == xid % 5).map(|x| x + 100).sum::<u64>());
        acked.seen = xid;
        if sync {
            acked.durable = xid;
        }
        if (xid + seed).is_multiple_of(25) && engine.snapshot().await.is_err() {
            break;
        }
    }
    acked
}

/// Commands that the state holds: always the first so many.
fn held(view: &dyn View) -> u64 {
    let mut xids = Vec::new();
    view.scan(&[2], &[3], &mut |key, _| {
        xids.push(u64::from_be_bytes(key[1..].try_into().unwrap()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert!(xids.iter().copied().eq(1..=xids.len() as u64), "a prefix: {xids:?}");
    for name in 0..5 {
        let sum: u64 = xids.iter().filter(|xid| **xid % 5 == name).map(|xid| xid + 100).sum();
        let key = [1, u8::try_from(name).unwrap()];
        assert_eq!(number(view.get(&key).unwrap()), sum);
    }
    xids.len() as u64
}

/// The hash of the state after each command, by a run without faults.
async fn hashes() -> Vec<u64> {
    let (engine, _scope) = open(&MemDisk::default(), &Arc::new(MemStore::default())).await;
    let mut hashes = vec![0];
    for xid in 1..=COMMANDS {
        engine.submit(command(xid), false).await.unwrap();
        hashes.push(Head::load(engine.view()).unwrap().hash);
    }
    hashes
}

fn checked(view: &dyn View, hashes: &[u64]) -> u64 {
    let head = Head::load(view).unwrap();
    assert_eq!(held(view), head.applied);
    assert_eq!(head.hash, hashes[usize::try_from(head.applied).unwrap()]);
    head.applied
}

#[tokio::test]
async fn crashes_at_every_call_lose_nothing_that_was_acknowledged() {
    let hashes = hashes().await;
    for crash in [Crash::Process, Crash::DropAll, Crash::Prefix, Crash::Pages, Crash::Sectors] {
        for seed in 0..60 {
            let (disk, mut store) = (MemDisk::default(), Arc::new(CrashStore::default()));
            let mut acked = Acked::default();
            for life in 0..3 {
                disk.power_off_at(disk.calls() + (seed * 7 + life * 11) % 130);
                let config = config(&disk, &store);
                let scope = config.scope.clone();
                if let Ok(engine) = Engine::open(config, Toy).await {
                    let now = work(&engine, seed).await;
                    acked.seen = acked.seen.max(now.seen);
                    acked.durable = acked.durable.max(now.durable);
                }
                scope.stop();
                disk.crash(crash, seed + life);
                store = store.after_crash(crash, seed * 5 + life);
                let (engine, scope) = open(&disk, &store).await;
                let has = checked(engine.view(), &hashes);
                let must = if crash == Crash::Process { acked.seen } else { acked.durable };
                assert!(has >= must, "{crash:?} {seed} {life}: {has} of {acked:?}");
                acked.seen = has;
                scope.join().await;
            }
            let (engine, scope) = open(&disk, &store).await;
            work(&engine, seed).await;
            assert_eq!(checked(engine.view(), &hashes), COMMANDS, "all were sent again");
            scope.join().await;
        }
    }
}

#[tokio::test]
async fn every_call_that_fails_once_gives_an_error_and_loses_nothing() {
    let hashes = hashes().await;
    for errno in [5, 28] {
        for at in 0..80 {
            let (disk, store) = (MemDisk::default(), Arc::new(CrashStore::default()));
            let fail = move |n, _| (n == at).then(|| std::io::Error::from_raw_os_error(errno));
            disk.set_fault(Some(Box::new(fail)));
            let config = config(&disk, &store);
            let scope = config.scope.clone();
            let mut acked = Acked::default();
            if let Ok(engine) = Engine::open(config, Toy).await {
                acked = work(&engine, at).await;
            }
            scope.stop();
            disk.set_fault(None);
            disk.crash(Crash::Process, at);
            let store = store.after_crash(Crash::Process, at);
            let (engine, scope) = open(&disk, &store).await;
            assert!(checked(engine.view(), &hashes) >= acked.seen, "call {at}");
            assert_eq!(work(&engine, at).await.seen, COMMANDS);
            scope.join().await;
        }
    }
}

#[tokio::test]
async fn after_a_failed_sync_every_command_is_refused() {
    let (disk, store) = (MemDisk::default(), Arc::new(MemStore::default()));
    let (engine, _scope) = open(&disk, &store).await;
    engine.submit(command(1), true).await.unwrap();
    let broken =
        |_, call| (call == DiskCall::SyncData).then(|| std::io::Error::from_raw_os_error(5));
    disk.set_fault(Some(Box::new(broken)));
    assert!(matches!(engine.submit(command(2), true).await, Err(EngineError::Poisoned(_))));
    assert!(matches!(*engine.failed().await, Poison::Log(_)));
    disk.set_fault(None);
    assert!(engine.submit(command(3), false).await.is_err());
    assert!(matches!(engine.sync().await, Err(EngineError::Poisoned(_))));
}

fn dump(view: &dyn View) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    view.scan(&[1], &KEY_END, &mut |key, value| {
        pairs.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    pairs
}

#[tokio::test]
async fn a_lost_store_is_rebuilt_from_snapshots_taken_under_load() {
    let (disk, store) = (MemDisk::default(), Arc::new(MemStore::default()));
    let (engine, scope) = open(&disk, &store).await;
    let writer = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for xid in 1..3000 {
                engine.submit(add(3, 1, xid), false).await.unwrap();
            }
        })
    };
    let mut snapshots = 0;
    while !writer.is_finished() {
        engine.snapshot().await.unwrap();
        snapshots += 1;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(snapshots > 1);
    engine.snapshot().await.unwrap();
    engine.snapshot().await.unwrap();
    let (expected, head) = (dump(engine.view()), Head::load(engine.view()).unwrap());
    scope.join().await;
    let logs = disk.list(std::path::Path::new("log")).unwrap();
    assert_ne!(logs.first().unwrap(), "0000000000000001.log", "old log is purged");

    for half_filled in [false, true] {
        let fresh = Arc::new(MemStore::default());
        if half_filled {
            crate::snapshot::clear(&*fresh).unwrap();
            fresh.apply(&Batch::from([(vec![9], Some(vec![1]))])).unwrap();
        }
        let (engine, scope) = open(&disk, &fresh).await;
        assert_eq!(dump(engine.view()), expected);
        assert_eq!(Head::load(engine.view()).unwrap(), head);
        scope.join().await;
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over_and_without_any_nothing_is_served() {
    let (disk, store) = (MemDisk::default(), Arc::new(MemStore::default()));
    let (engine, scope) = open(&disk, &store).await;
    for xid in 1..900 {
        engine.submit(add(1, 1, xid), false).await.unwrap();
        if xid % 250 == 0 {
            engine.snapshot().await.unwrap();
        }
    }
    let expected = dump(engine.view());
    scope.join().await;
    let names = disk.list(std::path::Path::new("snapshots")).unwrap();
    let [older, newer] = names.as_slice() else { panic!("{names:?}") };
    for (name, survives) in [(newer, true), (older, false)] {
        let path = std::path::Path::new("snapshots").join(name);
        disk.open(&path).unwrap().write_at(b"!", 40).unwrap();
        let opened = Engine::open(config(&disk, &Arc::new(MemStore::default())), Toy).await;
        match opened {
            Ok(engine) => assert!(survives && dump(engine.view()) == expected),
            Err(OpenError::Unrecoverable { applied: 0, .. }) => assert!(!survives),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_for_the_disk_share_its_syncs() {
    let (disk, store) = (MemDisk::default(), Arc::new(MemStore::default()));
    let mut config = config(&disk, &store);
    config.applier = Applier::Thread;
    config.blocking = Blocking::threads(2);
    config.log.segment_bytes = 1 << 20;
    let scope = config.scope.clone();
    let engine = Engine::open(config, Toy).await.unwrap();
    let syncs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&syncs);
    disk.set_fault(Some(Box::new(move |_, call| {
        counter.fetch_add(u64::from(call == DiskCall::SyncData), Ordering::Relaxed);
        None
    })));
    let clients: Vec<_> = (0..500)
        .map(|xid| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.submit(add(1, 1, xid), true).await.map(drop) })
        })
        .collect();
    for client in clients {
        client.await.unwrap().unwrap();
    }
    assert!(syncs.load(Ordering::Relaxed) < 250, "{syncs:?} syncs for 500 waits");
    disk.set_fault(None);
    scope.join().await;
    disk.crash(Crash::DropAll, 0);
    let (engine, _scope) = open(&disk, &Arc::new(MemStore::default())).await;
    assert_eq!(engine.applied(), 500);
}

/// An engine over real files.
async fn open_on(dir: &std::path::Path) -> (Engine<Toy>, Scope) {
    let disk = Arc::new(nacre_node::OsDisk::new(dir));
    let options = SledOptions { cache_bytes: 1 << 20 };
    let store = Arc::new(open_or_renew(&dir.join("store"), &options).unwrap());
    let scope = Scope::new();
    let mut config = EngineConfig::new(disk, store, Blocking::threads(2), scope.clone());
    config.log.segment_bytes = 16 << 10;
    (Engine::open(config, Toy).await.unwrap(), scope)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_sled_is_rebuilt_to_the_same_state() {
    let dir = tempfile::TempDir::new().unwrap();
    let (engine, scope) = open_on(dir.path()).await;
    for xid in 1..600 {
        engine.submit(add(u8::try_from(xid % 200).unwrap(), xid + 100, xid), false).await.unwrap();
        if xid % 200 == 0 {
            engine.snapshot().await.unwrap();
        }
    }
    let (expected, head) = (dump(engine.view()), Head::load(engine.view()).unwrap());
    drop(engine);
    scope.join().await;
    for damage in 0..4_usize {
        let path = dir.path().join("store/db");
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            0 => bytes.truncate(bytes.len() / 3),
            1 => bytes.iter_mut().skip(5000).step_by(701).for_each(|byte| *byte ^= 0x20),
            2 => bytes.fill(0xa5),
            _ => bytes.clear(),
        }
        std::fs::write(&path, bytes).unwrap();
        let (engine, scope) = open_on(dir.path()).await;
        assert_eq!(Head::load(engine.view()).unwrap(), head, "damage {damage}");
        assert_eq!(dump(engine.view()), expected, "damage {damage}");
        drop(engine);
        scope.join().await;
    }
}
