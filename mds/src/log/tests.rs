use std::sync::Arc;

use nacre_node::disk::mem::{Crash, DiskCall, MemDisk};
use nacre_node::{Disk, DiskFile};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const SEGMENT: u64 = 4096;

fn config() -> LogConfig {
    LogConfig { dir: PathBuf::from("log"), segment_bytes: SEGMENT }
}

/// A payload that says which record it belongs to.
fn payload(index: u64) -> Vec<u8> {
    let len = usize::try_from(8 + index * 37 % 90).unwrap();
    index.to_le_bytes().iter().copied().cycle().take(len).collect()
}

/// Opens, and checks that the records are those of `from..`, each with its own payload.
fn recover(disk: &MemDisk, from: u64) -> Result<(Log, u64), LogError> {
    let reader = LogReader::open(Arc::new(disk.clone()), config())?;
    let mut next = from;
    let log = reader.recover(from, &mut |record| {
        assert_eq!((record.term, record.index), (1, next));
        assert_eq!(record.payload, payload(next));
        next += 1;
        Ok::<_, LogError>(())
    })?;
    assert_eq!(log.last_index() + 1, next);
    Ok((log, next - 1))
}

fn append(log: &mut Log, count: u64) -> Result<(), LogError> {
    for _ in 0..count {
        let index = log.last_index() + 1;
        assert_eq!(log.push(1, &payload(index))?, index);
    }
    log.commit()
}

fn first_segment(disk: &MemDisk) -> Arc<dyn DiskFile> {
    disk.open(&segment::path_of(Path::new("log"), 1)).unwrap()
}

#[test]
fn records_come_back_in_order_over_many_segments() {
    let disk = MemDisk::default();
    let (mut log, last) = recover(&disk, 1).unwrap();
    assert_eq!(last, 0);
    for group in 1..20 {
        append(&mut log, group).unwrap();
    }
    assert!(disk.list(Path::new("log")).unwrap().len() > 3);
    for from in [1, 2, 50, 100, 190, 191] {
        assert_eq!(recover(&disk, from).unwrap().1, 190, "from {from}");
    }
    // Kill -9 takes nothing that was committed.
    disk.crash(Crash::Process, 0);
    assert_eq!(recover(&disk, 1).unwrap().1, 190);
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_size() {
    let disk = MemDisk::default();
    let (mut log, _) = recover(&disk, 1).unwrap();
    append(&mut log, 300).unwrap();
    append(&mut log, 3).unwrap();
    assert_eq!(recover(&disk, 1).unwrap().1, 303);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_written_over() {
    let whole = MemDisk::default();
    let (mut log, _) = recover(&whole, 1).unwrap();
    let mut ends = vec![64];
    for _ in 0..6 {
        append(&mut log, 1).unwrap();
        ends.push(log_end(&whole));
    }
    let mut image = vec![0; usize::try_from(SEGMENT).unwrap()];
    first_segment(&whole).read_at(&mut image, 0).unwrap();
    for torn in 64..=ends[6] {
        let disk = MemDisk::default();
        drop(recover(&disk, 1).unwrap());
        first_segment(&disk).write_at(&image[..torn], 0).unwrap();
        let (mut log, last) = recover(&disk, 1).unwrap();
        let whole = ends.iter().filter(|end| **end <= torn + 7).count() as u64 - 1;
        // Zeros at a record's end may be missing: what follows is zero anyway.
        assert!(last == whole || last + 1 == whole, "{torn}: {last} of {whole}");
        append(&mut log, 2).unwrap();
        assert_eq!(recover(&disk, 1).unwrap().1, last + 2);
    }
}

/// Where the zeros of the first segment begin, rounded up to a record's place.
fn log_end(disk: &MemDisk) -> usize {
    let mut image = vec![0; usize::try_from(SEGMENT).unwrap()];
    first_segment(disk).read_at(&mut image, 0).unwrap();
    let used = image.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    used.next_multiple_of(8)
}

#[test]
fn a_flipped_bit_before_a_record_that_calls_it_durable_is_damage() {
    let disk = MemDisk::default();
    let (mut log, _) = recover(&disk, 1).unwrap();
    let mut ends = Vec::new();
    for _ in 0..8 {
        append(&mut log, 1).unwrap();
        log.syncer().sync().unwrap();
        ends.push(log_end(&disk));
    }
    let file = first_segment(&disk);
    let (mut damaged, mut cut) = (0, 0);
    for at in 64..ends[7] {
        let mut byte = [0];
        file.read_at(&mut byte, at as u64).unwrap();
        let image = MemDisk::default();
        drop(recover(&image, 1).unwrap());
        let mut bytes = vec![0; usize::try_from(SEGMENT).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes[at] ^= 1 << (at % 8);
        first_segment(&image).write_at(&bytes, 0).unwrap();
        let record = ends.iter().filter(|end| **end <= at).count() as u64 + 1;
        match recover(&image, 1) {
            Err(LogError::Damaged { index, .. }) => {
                assert_eq!(index, record, "byte {at}");
                damaged += 1;
            }
            // Nothing behind the last record says that it had been durable; and the zeros
            // between records belong to none.
            Ok((_, last)) => {
                assert!(last == 8 || (last == 7 && record == 8), "byte {at}: {last}");
                cut += u32::from(last == 7);
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(damaged > 400 && cut > 30, "{damaged} {cut}");
}

#[test]
fn a_bad_record_before_good_ones_that_were_never_synced_is_a_torn_tail() {
    let disk = MemDisk::default();
    let (mut log, _) = recover(&disk, 1).unwrap();
    append(&mut log, 3).unwrap();
    log.syncer().sync().unwrap();
    let end = log_end(&disk);
    append(&mut log, 5).unwrap();
    first_segment(&disk).write_at(&[0xee; 8], end as u64).unwrap();
    assert_eq!(recover(&disk, 1).unwrap().1, 3);
}

#[test]
fn a_lost_segment_is_damage_and_a_purged_one_is_a_gap() {
    let disk = MemDisk::default();
    let (mut log, _) = recover(&disk, 1).unwrap();
    for _ in 0..30 {
        append(&mut log, 5).unwrap();
        log.syncer().sync().unwrap();
    }
    let firsts = segment::list(&disk, Path::new("log")).unwrap();
    log.syncer().purge(firsts[1]).unwrap();
    assert!(
        matches!(recover(&disk, 1), Err(LogError::Gap { needed: 1, oldest }) if oldest == firsts[1])
    );
    assert_eq!(recover(&disk, firsts[1]).unwrap().1, 150);
    disk.remove(&segment::path_of(Path::new("log"), firsts[2])).unwrap();
    assert!(matches!(recover(&disk, firsts[1]), Err(LogError::Damaged { .. })));
}

#[test]
fn a_full_disk_refuses_a_group_and_harms_nothing() {
    let disk = MemDisk::default();
    let (mut log, _) = recover(&disk, 1).unwrap();
    append(&mut log, 10).unwrap();
    disk.set_fault(Some(Box::new(|_, call| {
        (call == DiskCall::Allocate).then(|| io::Error::from_raw_os_error(28))
    })));
    while append(&mut log, 10).is_ok() {}
    let last = log.last_index();
    assert!(matches!(append(&mut log, 10), Err(LogError::NoSpace { .. })));
    assert_eq!(log.last_index(), last);
    disk.set_fault(None);
    append(&mut log, 10).unwrap();
    log.syncer().sync().unwrap();
    disk.crash(Crash::DropAll, 0);
    assert_eq!(recover(&disk, 1).unwrap().1, last + 10);
}

#[test]
fn after_a_failed_write_or_sync_the_log_is_not_used_on() {
    for failing in [DiskCall::Write, DiskCall::SyncData] {
        let disk = MemDisk::default();
        let (mut log, _) = recover(&disk, 1).unwrap();
        append(&mut log, 3).unwrap();
        let fail = move |_, call| (call == failing).then(|| io::Error::from_raw_os_error(5));
        disk.set_fault(Some(Box::new(fail)));
        let failed = append(&mut log, 1).and_then(|()| log.syncer().sync().map(drop));
        assert!(matches!(failed, Err(LogError::Io { .. })));
        disk.set_fault(None);
        assert!(matches!(append(&mut log, 1), Err(LogError::Poisoned)));
        assert!(matches!(log.syncer().sync(), Err(LogError::Poisoned)));
        assert!(recover(&disk, 1).unwrap().1 >= 3);
    }
}

/// Appends and syncs until the disk fails. What was known to be durable, and what was written.
fn work(disk: &MemDisk, durable: u64, rng: &mut StdRng) -> (u64, u64) {
    let Ok((mut log, last)) = recover(disk, 1) else { return (durable, durable) };
    let (mut durable, mut written) = (last, last);
    for _ in 0..12 {
        if append(&mut log, rng.random_range(1..12)).is_err() {
            break;
        }
        written = log.last_index();
        if rng.random_ratio(1, 3) {
            match log.syncer().sync() {
                Ok(index) => durable = index,
                Err(_) => break,
            }
        }
    }
    (durable, written)
}

#[test]
fn power_cuts_at_every_call_lose_nothing_that_was_synced() {
    let mut cuts = 0;
    for crash in Crash::POWER {
        for seed in 0..100 {
            let mut rng = StdRng::seed_from_u64(seed);
            let disk = MemDisk::default();
            disk.power_off_at(seed);
            let mut durable = 0;
            // Three lives: tails are cut, written over and cut again.
            for life in 0..3 {
                let written;
                (durable, written) = work(&disk, durable, &mut rng);
                disk.crash(crash, seed * 3 + life);
                cuts += 1;
                let (log, last) = recover(&disk, 1).unwrap_or_else(|error| {
                    panic!("{crash:?} {seed} {life}: {error}");
                });
                assert!(last >= durable, "{crash:?} {seed}: {last} of {durable}");
                assert!(last <= written.max(durable), "{crash:?} {seed}: {last} of {written}");
                // What recovery has shown is durable.
                durable = last;
                drop(log);
                disk.power_off_at(disk.calls() + rng.random_range(0..60));
            }
        }
    }
    assert_eq!(cuts, 1200);
}
