//! Works on the metadata of one folder until its disk fails: `nacre-cutter FOLDER SEED COMMANDS
//! [lazy]`.
//!
//! Log, snapshots and store are those of a metadata server, only smaller and busier. What it says
//! on its standard output is told in `nacre_tests::cut::worker`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nacre_mds::engine::{Engine, EngineConfig};
use nacre_mds::format::{Format, prepare};
use nacre_mds::store::{Gathered, MetaStore, Opened, SledOptions, SledStore, open_or_renew};
use nacre_mds::{Machine, namespace};
use nacre_node::tasks::Blocking;
use nacre_node::{Disk, OsDisk, Scope};
use nacre_tests::cut::load::{self, Load, Reference};
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Commands in flight.
const HANDS: u64 = 4;
/// Of each hand's commands, one in so many waits for the disk.
const SYNC_EVERY: u64 = 6;

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: then nobody needs to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The store panics in its own threads when its disk fails, which here is no news.
fn quiet_store() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|at| !at.file().contains("/sled-")) {
            loud(panic);
        }
    }));
}

fn store(folder: &Path) -> anyhow::Result<Arc<dyn MetaStore>> {
    let (dir, options) = (folder.join("store"), SledOptions { cache_bytes: 4 << 20 });
    let store = match SledStore::open(&dir, &options)? {
        Opened::Ready(store) => store,
        Opened::MustRebuild(reason) => {
            say(&format!("rebuilt {reason}"));
            open_or_renew(&dir, &options)?
        }
    };
    Ok(Arc::new(Gathered::new(store)))
}

async fn open(folder: &Path, scope: &Scope, lazy: bool) -> anyhow::Result<Engine<Machine>> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(folder));
    let store = store(folder).context("store")?;
    let (hash_key, born) = load::FORMAT;
    prepare(&*disk, &*store, load::FSNAME, Format { hash_key, born }).context("format")?;
    let mut config = EngineConfig::new(disk, store, Blocking::threads(2), scope.clone());
    if !lazy {
        // Everything that happens now and then in a server happens here all the time.
        config.checkpoint_interval = Duration::from_millis(20);
    }
    config.log.segment_bytes = 64 << 10;
    config.snapshot_log_bytes = 192 << 10;
    Engine::open(config, Machine).await.context("engine")
}

async fn hand(
    engine: Engine<Machine>,
    load: Arc<Mutex<Load>>,
    upto: u64,
    lazy: bool,
) -> anyhow::Result<()> {
    for turn in 1.. {
        if load.lock().made() >= upto {
            break;
        }
        let sync = !lazy && turn % SYNC_EVERY == 0;
        let number = Arc::new(Mutex::new(0));
        let (load, tell) = (Arc::clone(&load), Arc::clone(&number));
        // Made on the applier: the order in which they are made is the order of the log.
        let build = move |_: &dyn nacre_mds::store::View| {
            let mut load = load.lock();
            let command = load.step();
            *tell.lock() = load.made();
            Ok(command)
        };
        engine.submit_with(sync, build).await?;
        say(&format!("{} {}", if sync { "synced" } else { "seen" }, *number.lock()));
    }
    Ok(())
}

async fn work(folder: &Path, seed: u64, commands: u64, lazy: bool) -> anyhow::Result<()> {
    let scope = Scope::new();
    let engine = open(folder, &scope, lazy).await?;
    let found = engine.applied();
    let (expected, load) = Reference::new(seed).advance(found).context("reference")?;
    if let Some(difference) = load::difference(engine.view(), &expected).context("rows")? {
        say(&format!("wrong {found} commands, but {difference}"));
    }
    let findings = namespace::check(engine.view()).context("check")?;
    if !findings.is_empty() {
        say(&format!("wrong {found} commands, but {findings:?}"));
    }
    say(&format!("opened {found}"));

    let load = Arc::new(Mutex::new(load));
    let mut hands = JoinSet::new();
    for _ in 0..HANDS {
        hands.spawn(hand(engine.clone(), Arc::clone(&load), found + commands, lazy));
    }
    while let Some(done) = hands.join_next().await {
        done??;
    }
    say("done");
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
    drop(engine);
    scope.join().await;
    say("closed");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    quiet_store();
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("FOLDER")?);
    let seed: u64 = arguments.next().context("SEED")?.parse()?;
    let commands: u64 = arguments.next().context("COMMANDS")?.parse()?;
    // Asks for no sync itself, and leaves checkpoints to their usual time.
    let lazy = arguments.next().is_some_and(|word| word == "lazy");
    if let Err(error) = work(&folder, seed, commands, lazy).await {
        say(&format!("failed {error:#}"));
    }
    // A store whose disk is gone cannot be closed.
    std::process::exit(0)
}
