//! Power goes at any moment: on real files, in a folder where only what was synced is durable and
//! every name needs a sync of its folder.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nacre_node::disk::mem::Crash;
use nacre_tests::cut::objects::{self, Objects};
use nacre_tests::cut::plug::{Cut, Plug};
use nacre_tests::cut::worker::{Told, Worker};
use nacre_tests::cutfs::CutFolder;
use nacre_tests::wait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Ways in which it ends, one after the other: of every five rounds, one kills the process only.
const CRASHES: [Crash; 5] =
    [Crash::DropAll, Crash::Prefix, Crash::Pages, Crash::Sectors, Crash::Process];
/// Folders that live through cuts, one after the other.
const FOLDERS: u64 = 24;
/// Cuts of each.
const CUTS: usize = 12;
/// Commands that a process carries out at most.
const COMMANDS: u64 = 400;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// `CUT_SEED` is the first, `CUT_FOLDERS` says how many.
fn seeds() -> std::ops::Range<u64> {
    let first = from_environment("CUT_SEED", 0);
    first..first + from_environment("CUT_FOLDERS", FOLDERS)
}

/// Ways to end that a folder leaves out at first, so that each begins with another.
fn skipped(seed: u64) -> usize {
    usize::try_from(seed).unwrap_or_default() % CRASHES.len()
}

/// The metadata of one folder, cut off again and again.
struct Metadata {
    folder: CutFolder,
    mount: tempfile::TempDir,
    seed: u64,
    /// Commands that must be there at the next start.
    durable: u64,
    rebuilt: u64,
}

impl Metadata {
    fn new(seed: u64) -> Self {
        let mount = tempfile::tempdir().expect("a folder can be made");
        let folder = CutFolder::mount(mount.path()).expect("FUSE is there");
        Self { folder, mount, seed, durable: 0, rebuilt: 0 }
    }

    fn start(&self, commands: u64, more: &[&str]) -> Worker {
        let program = Path::new(env!("CARGO_BIN_EXE_nacre-cutter"));
        Worker::start(program, self.mount.path(), self.seed, commands, more)
            .expect("the worker was built with this test")
    }

    /// Works until the plug is pulled, and drops what was not durable.
    fn cut(&mut self, cut: Cut, crash: Crash, seed: u64) -> Told {
        let plug = Plug::of(self.folder.disk(), cut);
        let worker = self.start(COMMANDS, &[]);
        worker.await_told(|told| told.done || told.failed.is_some() || plug.is_pulled());
        let told = worker.kill();
        self.folder.disk().set_fault(None);
        self.folder.crash(crash, seed);
        self.learn(&told, plug.is_pulled(), crash);
        told
    }

    /// What a process has told must be true.
    fn learn(&mut self, told: &Told, cut_off: bool, crash: Crash) {
        let when = format!("folder {}, {crash:?}: {told:?}", self.seed);
        assert!(cut_off || told.done, "failed with power on: {when}");
        assert_eq!(told.wrong, None, "{when}");
        if let Some(opened) = told.opened {
            assert!(opened >= self.durable, "only {opened} of {} are left: {when}", self.durable);
            // What a start has shown stays.
            self.durable = opened;
        }
        self.rebuilt += u64::from(told.rebuilt.is_some());
        let kept = if crash == Crash::Process { told.seen.max(told.synced) } else { told.synced };
        self.durable = self.durable.max(kept);
    }

    /// Opens it once more without any trouble.
    fn look(&mut self) -> u64 {
        let told = self.start(0, &[]).close();
        assert!(told.closed && told.opened.is_some(), "folder {}: {told:?}", self.seed);
        self.learn(&told, false, Crash::Process);
        self.durable
    }
}

/// Commands that a folder has lived through, and how often its store was rebuilt.
fn lives(seed: u64) -> (u64, u64) {
    let mut metadata = Metadata::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    for (round, crash) in CRASHES.into_iter().cycle().skip(skipped(seed)).take(CUTS).enumerate() {
        let cut = match round {
            // Every sync point of the making of a folder, over all of them.
            0 => Cut::Sync(seed * 3),
            _ if rng.random() => Cut::Sync(rng.random_range(0..80)),
            _ => Cut::Call(rng.random_range(0..500)),
        };
        metadata.cut(cut, crash, rng.random());
    }
    (metadata.look(), metadata.rebuilt)
}

#[test]
fn metadata_survives_every_power_cut_with_all_that_was_synced() {
    let began = Instant::now();
    let (mut cuts, mut commands, mut rebuilt) = (0, 0, 0);
    for seed in seeds() {
        let (lived, times) = lives(seed);
        cuts += CUTS;
        commands += lived;
        rebuilt += times;
    }
    println!(
        "{cuts} cuts, {commands} commands survived, {rebuilt} stores rebuilt, {:?}",
        began.elapsed()
    );
}

#[test]
fn what_nobody_syncs_is_on_the_disk_a_moment_later() {
    let mut metadata = Metadata::new(77);
    let worker = metadata.start(50, &["lazy"]);
    let told = worker.await_told(|told| told.done || told.failed.is_some());
    assert!(told.done, "{told:?}");
    let began = Instant::now();
    // The promise is 100 ms; the machine may be slow.
    let quiet = wait::until(Duration::from_secs(5), || {
        metadata.folder.disk().unsynced(Path::new("log")) == 0
    });
    assert!(quiet, "something of the log is still not on the disk after {:?}", began.elapsed());
    println!("all of the log was on the disk after {:?}", began.elapsed());
    let told = worker.kill();
    metadata.folder.crash(Crash::DropAll, 0);
    assert_eq!((told.synced, metadata.look()), (0, told.seen));
}

#[test]
fn a_damaged_store_is_rebuilt_from_the_log_though_power_goes_in_the_middle_of_that() {
    for sync in 0..20 {
        let mut metadata = Metadata::new(100 + sync);
        metadata.cut(Cut::Never, Crash::Process, 0);
        // As a server leaves it that has met damage.
        let mark = metadata.mount.path().join("store.suspect");
        std::fs::write(&mark, "for a test").expect("power is on");
        for path in [mark.as_path(), metadata.mount.path()] {
            File::open(path).and_then(|file| file.sync_all()).expect("power is on");
        }
        let crash = if sync % 2 == 0 { Crash::DropAll } else { Crash::Pages };
        metadata.cut(Cut::Sync(sync), crash, sync);
        metadata.look();
        assert!(metadata.rebuilt > 0, "sync {sync}: the mark was not seen");
    }
}

#[test]
fn objects_survive_every_power_cut_with_all_that_was_committed() {
    let began = Instant::now();
    let (mut cuts, mut operations) = (0, 0);
    for seed in seeds() {
        let mount = tempfile::tempdir().expect("a folder can be made");
        let folder = CutFolder::mount(mount.path()).expect("FUSE is there");
        let (mut objects, mut rng) = (Objects::default(), StdRng::seed_from_u64(seed));
        for (boot, crash) in (1..).zip(CRASHES.iter().cycle().skip(skipped(seed)).take(CUTS)) {
            let cut = if rng.random() {
                Cut::Sync(rng.random_range(0..60))
            } else {
                Cut::Call(rng.random_range(0..250))
            };
            let plug = Plug::of(folder.disk(), cut);
            let opened = objects::open(mount.path(), boot);
            match &opened {
                Ok(store) => operations += objects.work(store, &mut rng, 100),
                Err(error) => assert!(plug.is_pulled(), "{error}"),
            }
            drop(opened);
            folder.disk().set_fault(None);
            folder.crash(*crash, rng.random());
            cuts += 1;
            let store = objects::open(mount.path(), boot + 1000).expect("power is on");
            objects
                .check(&store)
                .unwrap_or_else(|error| panic!("{seed}, {crash:?}, {cut:?}: {error:#}"));
        }
    }
    println!("{cuts} cuts, {operations} operations, {:?}", began.elapsed());
}
