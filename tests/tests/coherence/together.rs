//! Several mounts at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{cluster, from_environment, roots};

/// Runs the same on every mount at one time, numbered.
fn on_all<T: Send>(mounts: &[PathBuf], act: impl Fn(usize, &Path) -> T + Sync) -> Vec<T> {
    let (barrier, act) = (Barrier::new(mounts.len()), &act);
    thread::scope(|scope| {
        let started = mounts.iter().enumerate().map(|(number, mount)| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                act(number, mount)
            })
        });
        let started: Vec<_> = started.collect();
        started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// One access to a register, with the moments between which it took place.
#[derive(Debug, Clone, Copy)]
struct Access {
    begun: u64,
    ended: u64,
    register: usize,
    /// Unique among writes of a register; 0: what it held at first.
    value: u64,
    write: bool,
}

/// Each register is a block of this length, filled with its value.
const BLOCK: usize = 4096;
const REGISTERS: usize = 6;

fn access(file: &File, register: usize, write: Option<u64>) -> u64 {
    let at = (register * BLOCK) as u64;
    if let Some(value) = write {
        file.write_all_at(&value.to_le_bytes().repeat(BLOCK / 8), at).expect("write");
        return value;
    }
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, at).expect("read");
    let word = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("eight bytes"));
    let value = word(&block[..8]);
    assert!(block.chunks(8).all(|part| word(part) == value), "a torn write is seen");
    value
}

/// Who writes, when, and whether through a file that stays open.
fn work(mount: &Path, name: &str, number: usize, clock: &AtomicU64, seed: u64) -> Vec<Access> {
    let mut rng = StdRng::seed_from_u64(seed ^ number as u64);
    let open = || OpenOptions::new().read(true).write(true).open(mount.join(name)).expect("open");
    let kept = open();
    let mut done = Vec::new();
    for count in 1..=from_environment("COHERENCE_ACCESSES", 150) {
        let register = rng.random_range(0..REGISTERS);
        let write = rng.random_bool(0.4).then_some(((number as u64 + 1) << 32) | count);
        let fresh = rng.random_bool(0.3);
        let begun = clock.fetch_add(1, Ordering::SeqCst);
        // Opened and closed within: neither may lose or delay anything.
        let value =
            if fresh { access(&open(), register, write) } else { access(&kept, register, write) };
        let ended = clock.fetch_add(1, Ordering::SeqCst);
        done.push(Access { begun, ended, register, value, write: write.is_some() });
    }
    done
}

/// Values are unique, so a history of a register is linearizable if the intervals in which each
/// value must have stood, from the end of the first access that shows it to the beginning of the
/// last, do not contradict each other (Gibbons and Korach, 1997).
fn check(history: &[Access]) -> Result<(), String> {
    let mut zones: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let written = |value| history.iter().find(|access| access.write && access.value == value);
    for access in history {
        let zone = zones.entry(access.value).or_insert((u64::MAX, 0));
        *zone = (zone.0.min(access.ended), zone.1.max(access.begun));
        match written(access.value) {
            None if access.value != 0 => return Err(format!("{access:?}: nobody wrote that")),
            Some(write) if access.ended < write.begun => {
                return Err(format!("{access:?} was before {write:?}"));
            }
            _ => {}
        }
    }
    if let Some(first) = zones.get_mut(&0) {
        first.0 = 0;
    }
    let forward: Vec<_> = zones.iter().filter(|(_, zone)| zone.0 < zone.1).collect();
    for (value, (from, to)) in zones.iter().map(|(value, (a, b))| (value, (a.min(b), a.max(b)))) {
        for (other, zone) in &forward {
            let is_forward = zones[value].0 < zones[value].1;
            let overlap = is_forward && *other != value && *from < zone.1 && zone.0 < *to;
            let within = !is_forward && zone.0 < *from && *to < zone.1;
            if overlap || within {
                return Err(format!("{value:#x} and {other:#x} stood at one time"));
            }
        }
    }
    Ok(())
}

#[test]
fn blocks_written_and_read_from_all_mounts_are_linearizable_registers() {
    let seed = from_environment("COHERENCE_SEED", 41);
    let cluster = cluster(3, &[]);
    let mounts = roots(&cluster);
    // In its inode, in one object, and where every block lies alone in a hole.
    for (name, len) in [("small", 0), ("large", 40 * BLOCK)] {
        fs::write(mounts[0].join(name), vec![0; len.max(REGISTERS * BLOCK)]).expect("make");
        if len == 0 {
            let file = OpenOptions::new().write(true).open(mounts[0].join(name)).expect("open");
            file.set_len(0).and_then(|()| file.set_len((3 * BLOCK) as u64)).expect("truncate");
            file.set_len((REGISTERS * BLOCK) as u64).expect("truncate");
        }
        let clock = AtomicU64::new(1);
        let work = |number, mount: &Path| work(mount, name, number, &clock, seed);
        let all: Vec<_> = on_all(&mounts, work).concat();
        for register in 0..REGISTERS {
            let of = all.iter().filter(|access| access.register == register);
            let history: Vec<_> = of.copied().collect();
            if let Err(error) = check(&history) {
                panic!("COHERENCE_SEED={seed}, {name}, register {register}: {error}\n{history:#?}");
            }
        }
    }
    cluster.finish();
}

#[test]
fn a_stale_read_is_not_linearizable() {
    let access =
        |begun, value, write| Access { begun, ended: begun + 1, register: 0, value, write };
    let good = [access(1, 7, true), access(3, 7, false), access(5, 8, true), access(7, 8, false)];
    assert_eq!(check(&good), Ok(()));
    let stale = [access(1, 7, true), access(3, 8, true), access(5, 7, false)];
    assert!(check(&stale).is_err());
    let first = [access(1, 7, true), access(3, 0, false)];
    assert!(check(&first).is_err());
    let back = [access(1, 7, true), access(3, 8, true), access(5, 8, false), access(7, 7, false)];
    assert!(check(&back).is_err());
    assert!(check(&[access(1, 9, false)]).is_err(), "nobody wrote it");
}

#[test]
fn appends_from_all_mounts_are_all_there_and_whole() {
    let cluster = cluster(3, &[]);
    let mounts = roots(&cluster);
    let count = from_environment("COHERENCE_APPENDS", 100);
    on_all(&mounts, |number, mount| {
        let path = mount.join("log");
        let open = || OpenOptions::new().append(true).create(true).open(&path).expect("open");
        let mut file = open();
        for record in 0..count {
            if record % 10 == 9 {
                file = open();
            }
            let line =
                format!("{number} {record} {}\n", "x".repeat(usize::try_from(record).unwrap()));
            file.write_all(line.as_bytes()).expect("append");
        }
    });
    for mount in &mounts {
        let text = fs::read_to_string(mount.join("log")).expect("whole records are text");
        let mut next = vec![0; mounts.len()];
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (number, record): (usize, u64) =
                (words[0].parse().unwrap(), words[1].parse().unwrap());
            assert_eq!(record, next[number], "of mount {number}, seen on {}", mount.display());
            assert_eq!(words[2].len() as u64, record, "{line}");
            next[number] += 1;
        }
        assert_eq!(next, vec![count; mounts.len()], "on {}", mount.display());
    }
    cluster.finish();
}

#[test]
fn of_exclusive_creates_of_a_name_one_wins() {
    let cluster = cluster(3, &[]);
    let mounts = roots(&cluster);
    for round in 0..60 {
        let won = on_all(&mounts, |number, mount| {
            let path = mount.join(format!("lock{round}"));
            match OpenOptions::new().write(true).create_new(true).open(path) {
                Ok(mut file) => write!(file, "{number}").map(|()| true).expect("write"),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
                Err(error) => panic!("{error}"),
            }
        });
        let winners: Vec<usize> = (0..mounts.len()).filter(|number| won[*number]).collect();
        assert_eq!(winners.len(), 1, "round {round}: {won:?}");
        for mount in &mounts {
            let text = fs::read_to_string(mount.join(format!("lock{round}"))).expect("read");
            assert_eq!(text, winners[0].to_string());
        }
    }
    cluster.finish();
}

#[test]
fn files_renamed_from_all_mounts_are_neither_lost_nor_doubled() {
    const FILES: usize = 12;
    let seed = from_environment("COHERENCE_SEED", 41);
    let cluster = cluster(3, &[]);
    let mounts = roots(&cluster);
    for folder in 0..3 {
        fs::create_dir(mounts[0].join(format!("d{folder}"))).expect("mkdir");
    }
    for file in 0..FILES {
        fs::write(mounts[0].join(format!("d0/f{file}")), file.to_string()).expect("write");
    }
    let moved = Mutex::new(0);
    on_all(&mounts, |number, mount| {
        let mut rng = StdRng::seed_from_u64(seed ^ number as u64);
        for _ in 0..200 {
            let file = rng.random_range(0..FILES);
            let [from, to] = [(); 2].map(|()| rng.random_range(0..3));
            let path = |folder: usize| mount.join(format!("d{folder}/f{file}"));
            match fs::rename(path(from), path(to)) {
                Ok(()) => *moved.lock().expect("no panic") += usize::from(from != to),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => panic!("COHERENCE_SEED={seed}: {error}"),
            }
        }
    });
    assert!(*moved.lock().expect("no panic") > FILES, "nothing was moved");
    for mount in &mounts {
        let mut found = BTreeSet::new();
        for folder in 0..3 {
            for entry in fs::read_dir(mount.join(format!("d{folder}"))).expect("list").flatten() {
                let text = fs::read_to_string(entry.path()).expect("what is listed is there");
                assert_eq!(entry.file_name().to_string_lossy(), format!("f{text}"));
                assert!(
                    found.insert(text.clone()),
                    "COHERENCE_SEED={seed}: f{text} is there twice"
                );
            }
        }
        assert_eq!(found.len(), FILES, "COHERENCE_SEED={seed}: {found:?}");
    }
    cluster.finish();
}
