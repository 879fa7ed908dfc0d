//! One operation at a time, each on a mount chosen at random, against a folder of the kernel's own
//! in-memory file system: every result must be the same.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nacre_tests::wait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::ops::{self, Op};
use crate::perform::{Slots, Value, perform};
use crate::{cluster, from_environment, roots};

/// Operations told of a failed run.
const TRAIL: usize = 60;
/// How long a mapping that was faulted in without a lease may show what was.
const MAPPING_LAG: Duration = Duration::from_millis(500);

type Times = [(i64, i64); 2];

struct Driver {
    mounts: Vec<PathBuf>,
    /// The truth.
    reference: tempfile::TempDir,
    slots: Slots,
    /// On which mount a slot is open.
    slot_mounts: HashMap<usize, usize>,
    truths: Slots,
    /// Last modification and change that a mount told of a path, until something changes.
    times: HashMap<String, Times>,
    trail: VecDeque<String>,
}

impl Driver {
    fn new(mounts: Vec<PathBuf>) -> Self {
        let reference = tempfile::tempdir_in("/dev/shm").expect("a file system in memory");
        Self {
            mounts,
            reference,
            slots: Slots::default(),
            slot_mounts: HashMap::new(),
            truths: Slots::default(),
            times: HashMap::new(),
            trail: VecDeque::new(),
        }
    }

    fn step(&mut self, number: u64, rng: &mut StdRng) -> Result<(), String> {
        let op = ops::draw(rng);
        let mut mount = rng.random_range(0..self.mounts.len());
        if let Op::Open { slot, .. } = &op {
            self.slot_mounts.insert(*slot, mount);
        } else if let Some(slot) = slot_of(&op) {
            mount = self.slot_mounts.get(&slot).copied().unwrap_or(mount);
        }
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        // As the daemons' logs have it.
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = Instant::now();
        let want = perform(self.reference.path(), &mut self.truths, &op);
        let got = perform(&self.mounts[mount], &mut self.slots, &op);
        let (told, took) = (short(&got), begun.elapsed());
        let second = clock.as_secs_f64() % 60.0;
        self.trail.push_back(format!("{second:.6} {number} on m{mount} {op:?}: {told} {took:?}"));
        let mut outcome = same(&got, &want);
        let sizes = (size(&got), size(&want));
        let mapped = matches!(op, Op::HandleMap { .. } | Op::MapRead { .. });
        if outcome.is_err() && mapped && sizes.0 == sizes.1 {
            let again = || {
                let got = perform(&self.mounts[mount], &mut self.slots, &op);
                same(&got, &want).is_ok()
            };
            if wait::until(MAPPING_LAG, again) {
                outcome = Ok(());
            }
        }
        outcome?;
        if !only_looks(&op) {
            self.times.clear();
        }
        match &op {
            Op::Stat { path } => self.look_at_times(mount, path),
            Op::StatAll { path } => (0..self.mounts.len()).try_for_each(|mount| {
                let got = perform(&self.mounts[mount], &mut self.slots, &op);
                same(&got, &want).map_err(|error| format!("m{mount}: {error}"))?;
                self.look_at_times(mount, path)
            }),
            _ => Ok(()),
        }
    }

    /// As long as nobody changes anything, all mounts tell the same.
    fn look_at_times(&mut self, mount: usize, path: &str) -> Result<(), String> {
        let Ok(metadata) = fs::symlink_metadata(self.mounts[mount].join(path)) else {
            return Ok(());
        };
        let now =
            [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())];
        let before = *self.times.entry(path.to_owned()).or_insert(now);
        if before == now { Ok(()) } else { Err(format!("m{mount}: times {before:?}, now {now:?}")) }
    }

    /// Everything there is, on every mount.
    fn compare_all(&mut self) -> Result<(), String> {
        for mount in self.mounts.clone() {
            self.compare(&mount, "").map_err(|error| format!("{}: {error}", mount.display()))?;
        }
        Ok(())
    }

    fn compare(&mut self, mount: &Path, path: &str) -> Result<(), String> {
        let op = Op::List { path: path.to_owned() };
        self.both(mount, &op)?;
        let names = fs::read_dir(self.reference.path().join(path)).map_err(|e| e.to_string())?;
        for entry in names.flatten() {
            let child = Path::new(path).join(entry.file_name()).display().to_string();
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            self.both(mount, &Op::Stat { path: child.clone() })?;
            if kind.is_dir() {
                self.compare(mount, &child)?;
            } else if kind.is_file() {
                self.both(mount, &Op::Read { path: child })?;
            } else {
                self.both(mount, &Op::Readlink { path: child })?;
            }
        }
        Ok(())
    }

    fn both(&mut self, mount: &Path, op: &Op) -> Result<(), String> {
        let want = perform(self.reference.path(), &mut self.truths, op);
        let got = perform(mount, &mut self.slots, op);
        same(&got, &want).map_err(|error| format!("{op:?}: {error}"))
    }
}

fn size(result: &io::Result<Value>) -> Option<usize> {
    if let Ok(Value::Bytes(bytes)) = result { Some(bytes.len()) } else { None }
}

fn short(result: &io::Result<Value>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("errno {:?}", error.raw_os_error()),
    }
}

fn same(got: &io::Result<Value>, want: &io::Result<Value>) -> Result<(), String> {
    let equal = match (got, want) {
        (Ok(Value::Bytes(got)), Ok(Value::Bytes(want))) if got.len() == want.len() => {
            let Some(at) = got.iter().zip(want).position(|(got, want)| got != want) else {
                return Ok(());
            };
            let wrong = got.iter().zip(want).filter(|(got, want)| got != want).count();
            return Err(format!(
                "byte {at} of {} is {}, should be {}; {wrong} are wrong",
                got.len(),
                got[at],
                want[at]
            ));
        }
        (Ok(got), Ok(want)) => got == want,
        (Err(got), Err(want)) => got.raw_os_error() == want.raw_os_error(),
        _ => false,
    };
    if equal { Ok(()) } else { Err(format!("{}, should be {}", short(got), short(want))) }
}

fn slot_of(op: &Op) -> Option<usize> {
    match op {
        Op::Close { slot }
        | Op::HandleWrite { slot, .. }
        | Op::HandleRead { slot }
        | Op::HandleMap { slot }
        | Op::HandleStat { slot }
        | Op::HandleTruncate { slot, .. }
        | Op::HandleSync { slot } => Some(*slot),
        _ => None,
    }
}

fn only_looks(op: &Op) -> bool {
    matches!(
        op,
        Op::Stat { .. }
            | Op::StatAll { .. }
            | Op::Read { .. }
            | Op::MapRead { .. }
            | Op::List { .. }
            | Op::Getxattr { .. }
            | Op::Readlink { .. }
            | Op::HandleRead { .. }
            | Op::HandleMap { .. }
            | Op::HandleStat { .. }
    )
}

#[test]
fn what_one_mount_did_every_mount_sees() {
    let count = from_environment("COHERENCE_OPS", 3000);
    let seed = from_environment("COHERENCE_SEED", 41);
    let cluster = cluster(3, &[]);
    let mut driver = Driver::new(roots(&cluster));
    let mut rng = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    for number in 0..count {
        if let Err(error) = driver.step(number, &mut rng) {
            let trail: Vec<_> = driver.trail.iter().map(String::as_str).collect();
            panic!("COHERENCE_SEED={seed}\n{}\n{error}", trail.join("\n"));
        }
    }
    println!("seed {seed}: {count} operations in {:?}", begun.elapsed());
    if let Err(error) = driver.compare_all() {
        panic!("COHERENCE_SEED={seed}, after all operations: {error}");
    }
    drop(driver);
    cluster.finish();
}
