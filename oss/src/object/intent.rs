//! The write-intent log: names clean ranges before they are overwritten, so that after a crash
//! only these, and what was never clean, must be checked anew.
//!
//! File `intents`, two areas of 1 MiB, of which one is in force. Numbers are little endian.
//! An area begins with its header:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `NACREWIL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | 1 after a clean stop, else 0 |
//! | 16 | 8 | generation; the valid area with the higher one is in force |
//! | 24 | 36 | zeros |
//! | 60 | 4 | crc32c of bytes 0 to 60 |
//!
//! and from byte 4096 on holds records:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | generation of the area; another one: not of this area's life |
//! | 8 | 8 | start of the range in the object, in bytes |
//! | 16 | 8 | end, exclusive; 2^64-1: whatever follows |
//! | 24 | 24 | object id, as `ObjectId::to_bytes` |
//! | 48 | 12 | zeros |
//! | 60 | 4 | crc32c of bytes 0 to 60 |
//!
//! A record counts by itself: one too many costs a check, one too few would cost data. When an
//! area is full, or mostly void, the other is written: the records that are in force, a sync,
//! then its header, a sync. So a header never stands before its records.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nacre_model::checksum::Crc32c;
use nacre_model::{Fid, ObjectId};
use nacre_node::{Disk, DiskFile};
use parking_lot::{Condvar, Mutex};

use super::header::Reader;
use super::ranges::RangeSet;
use crate::error::OssError;

/// Name of the log in the OST's folder.
pub(crate) const FILE: &str = "intents";
const AREA_BYTES: u64 = 1 << 20;
const RECORDS_START: u64 = 4096;
const RECORD_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"NACREWIL";
const FORMAT: u32 = 1;
const COVERED: usize = RECORD_BYTES - 4;
/// Records that one area holds.
const RECORDS_MAX: u64 = (AREA_BYTES - RECORDS_START) / RECORD_BYTES as u64;
/// Most objects that may have intents at a time: half an area, so that a change of areas always
/// makes room.
pub(crate) const OBJECTS_MAX: usize = 8160;
/// Void records that are borne before the area is written anew.
const VOID_MAX: u64 = 256;

/// The log of one OST.
pub(crate) struct IntentLog {
    file: Arc<dyn DiskFile>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    live: BTreeMap<ObjectId, Live>,
    area: u64,
    generation: u64,
    /// Records in the area.
    used: u64,
    pending: Vec<(ObjectId, u64, u64)>,
    /// How many were asked for, and how many of these are durable.
    queued: u64,
    durable: u64,
    /// Somebody is writing.
    leading: bool,
    failed: bool,
}

#[derive(Default)]
struct Live {
    current: RangeSet,
    /// In force until the object's next header is durable.
    retiring: RangeSet,
}

/// What the leader of a group writes, and how many requests are durable then.
struct Plan {
    area: u64,
    generation: u64,
    /// First record in the area.
    at: u64,
    records: Vec<u8>,
    /// Write a header: the area comes into force. Whether it says that everything is clean.
    header: Option<bool>,
    upto: u64,
}

impl IntentLog {
    /// Opens or makes the log; tells whether the last stop was clean.
    ///
    /// What the log names is in doubt: [`IntentLog::leftover`].
    pub(crate) fn open(disk: &dyn Disk) -> Result<(Self, bool), OssError> {
        let file = make(disk).map_err(OssError::disk("make intent log"))?;
        let (mut inner, clean) = read(&*file)?;
        let plan = inner.switch(false);
        let log = Self { file, inner: Mutex::new(inner), changed: Condvar::new() };
        log.lead(&plan)?;
        Ok((log, clean))
    }

    /// Ranges of an object that the log named when it was opened and that are still in doubt.
    pub(crate) fn leftover(&self, id: ObjectId) -> RangeSet {
        let inner = self.inner.lock();
        inner.live.get(&id).map(|live| live.retiring.clone()).unwrap_or_default()
    }

    /// Names a range; durable on return. Those who ask meanwhile share the next sync.
    pub(crate) fn log(&self, id: ObjectId, start: u64, end: u64) -> Result<(), OssError> {
        let mut inner = self.inner.lock();
        inner.live.entry(id).or_default().current.insert(start, end);
        inner.pending.push((id, start, end));
        inner.queued += 1;
        let mine = inner.queued;
        loop {
            if inner.failed {
                return Err(OssError::Poisoned);
            }
            if inner.durable >= mine {
                return Ok(());
            }
            if inner.leading {
                self.changed.wait(&mut inner);
                continue;
            }
            let plan = inner.append();
            drop(inner);
            self.lead(&plan)?;
            inner = self.inner.lock();
        }
    }

    /// What the log names of an object now stands until [`IntentLog::retire`]; what it names
    /// from now on stands longer.
    pub(crate) fn begin_retiring(&self, id: ObjectId) {
        if let Some(live) = self.inner.lock().live.get_mut(&id) {
            let current = std::mem::take(&mut live.current);
            live.retiring.insert_all(&current);
        }
    }

    /// A header that makes the retiring ranges clean is durable.
    pub(crate) fn retire(&self, id: ObjectId) {
        let mut inner = self.inner.lock();
        if let Some(live) = inner.live.get_mut(&id) {
            live.retiring.clear();
            if live.current.is_empty() {
                inner.live.remove(&id);
            }
        }
    }

    /// The object is no more: nothing of it is in doubt.
    pub(crate) fn forget(&self, id: ObjectId) {
        self.inner.lock().live.remove(&id);
    }

    /// Writes the area anew if most of it is void, so that a crash finds little to check.
    pub(crate) fn compact(&self) -> Result<(), OssError> {
        let plan = {
            let mut inner = self.inner.lock();
            let live = u64::try_from(inner.live.len()).unwrap_or(u64::MAX);
            let void = inner.used.saturating_sub(live);
            if inner.leading || inner.failed || void == 0 || (live > 0 && void < VOID_MAX) {
                return Ok(());
            }
            inner.switch(false)
        };
        self.lead(&plan)
    }

    /// Says that everything is clean, if the log names nothing.
    pub(crate) fn close(&self) -> Result<(), OssError> {
        let plan = {
            let mut inner = self.inner.lock();
            if inner.leading || inner.failed || !inner.live.is_empty() {
                return Ok(());
            }
            inner.switch(true)
        };
        self.lead(&plan)
    }

    /// Writes and syncs without the lock: whoever asks meanwhile waits, as `leading` is set.
    fn lead(&self, plan: &Plan) -> Result<(), OssError> {
        let done = self.carry_out(plan);
        let mut inner = self.inner.lock();
        inner.leading = false;
        match done {
            Ok(()) => {
                inner.area = plan.area;
                inner.generation = plan.generation;
                inner.used = plan.at + plan.count();
                inner.durable = plan.upto;
            }
            Err(_) => inner.failed = true,
        }
        self.changed.notify_all();
        done.map_err(OssError::disk("write intent log"))
    }

    fn carry_out(&self, plan: &Plan) -> io::Result<()> {
        let start = plan.area * AREA_BYTES;
        let at = start + RECORDS_START + plan.at * RECORD_BYTES as u64;
        if !plan.records.is_empty() {
            point!("oss::intent::write");
            self.file.write_at(&plan.records, at)?;
            self.sync()?;
        }
        if let Some(clean) = plan.header {
            point!("oss::intent::write_header");
            self.file.write_at(&area_header(plan.generation, clean), start)?;
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        point!("oss::intent::sync");
        self.file.sync_data()
    }
}

impl Plan {
    fn count(&self) -> u64 {
        u64::try_from(self.records.len() / RECORD_BYTES).unwrap_or(u64::MAX)
    }
}

impl Inner {
    /// Takes the lead for what is pending.
    fn append(&mut self) -> Plan {
        let count = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        if self.used.saturating_add(count) > RECORDS_MAX {
            return self.switch(false);
        }
        self.leading = true;
        let pending = std::mem::take(&mut self.pending);
        let records =
            pending.iter().flat_map(|&(id, start, end)| record(self.generation, id, start, end));
        Plan {
            area: self.area,
            generation: self.generation,
            at: self.used,
            records: records.collect(),
            header: None,
            upto: self.queued,
        }
    }

    /// Takes the lead to write all that is in force, what is pending included, to the other area.
    fn switch(&mut self, clean: bool) -> Plan {
        self.leading = true;
        self.pending.clear();
        let generation = self.generation + 1;
        let all = |live: &Live| {
            let mut all = live.retiring.clone();
            all.insert_all(&live.current);
            all
        };
        let count: usize = self.live.values().map(|live| all(live).iter().count()).sum();
        let apart = u64::try_from(count).is_ok_and(|count| count <= RECORDS_MAX / 2);
        let mut records = Vec::with_capacity(count * RECORD_BYTES);
        for (&id, live) in &self.live {
            let ranges = all(live);
            if apart {
                for (start, end) in ranges.iter() {
                    records.extend_from_slice(&record(generation, id, start, end));
                }
            } else if let Some((start, end)) = ranges.hull() {
                records.extend_from_slice(&record(generation, id, start, end));
            }
        }
        Plan {
            area: 1 - self.area,
            generation,
            at: 0,
            records,
            header: Some(clean),
            upto: self.queued,
        }
    }
}

fn make(disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(Path::new(FILE))?;
    if file.len()? < 2 * AREA_BYTES {
        file.allocate(0, 2 * AREA_BYTES, true)?;
        file.sync_data()?;
        disk.sync_dir(Path::new(""))?;
    }
    Ok(file)
}

/// What the log of a folder that nobody serves names.
pub(crate) fn leftovers(disk: &dyn Disk) -> Result<BTreeMap<ObjectId, RangeSet>, OssError> {
    let file = match disk.open(Path::new(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(OssError::disk("open intent log")(error)),
    };
    let (inner, _) = read(&*file)?;
    Ok(inner.live.into_iter().map(|(id, live)| (id, live.retiring)).collect())
}

/// What the area in force says, and whether the stop before was clean.
fn read(file: &dyn DiskFile) -> Result<(Inner, bool), OssError> {
    let mut areas = Vec::new();
    let mut bad = 0;
    for area in [0, 1] {
        let mut bytes = [0; RECORD_BYTES];
        read_at(file, &mut bytes, area * AREA_BYTES)?;
        match parse_header(&bytes) {
            Some((generation, clean)) => areas.push((generation, area, clean)),
            None => bad += usize::from(bytes.iter().any(|&byte| byte != 0)),
        }
    }
    let Some((generation, area, clean)) = areas.into_iter().max() else {
        // The other area is written from the second start on: with one of them empty, none was
        // ever in force, and what is bad was torn when the target was new.
        let what = "neither area has a valid header";
        return match bad {
            0 => Ok((Inner::default(), true)),
            1 => Ok((Inner::default(), false)),
            _ => Err(OssError::BadFile { file: FILE, what }),
        };
    };
    let len = usize::try_from(AREA_BYTES - RECORDS_START).expect("a MiB fits");
    let mut bytes = vec![0; len];
    read_at(file, &mut bytes, area * AREA_BYTES + RECORDS_START)?;
    let mut inner = Inner { area, generation, ..Inner::default() };
    for record in bytes.as_chunks::<RECORD_BYTES>().0 {
        if let Some((id, start, end)) = parse_record(record, generation) {
            inner.live.entry(id).or_default().retiring.insert(start, end);
        }
    }
    Ok((inner, clean))
}

fn read_at(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> Result<(), OssError> {
    let mut read = || {
        point!("oss::intent::read");
        file.read_at(bytes, offset)
    };
    read().map(drop).map_err(OssError::disk("read intent log"))
}

fn sealed(mut bytes: Vec<u8>) -> [u8; RECORD_BYTES] {
    bytes.resize(COVERED, 0);
    let crc = Crc32c::of(&bytes);
    bytes.extend_from_slice(&crc.0.to_le_bytes());
    bytes.try_into().expect("padded to 60 bytes and 4 more")
}

fn unsealed(bytes: &[u8; RECORD_BYTES]) -> Option<Reader<'_>> {
    let (covered, crc) = bytes.split_at_checked(COVERED)?;
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    (Crc32c::of(covered).0 == crc).then_some(Reader(covered))
}

fn area_header(generation: u64, clean: bool) -> [u8; RECORD_BYTES] {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&u32::from(clean).to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    sealed(bytes)
}

fn parse_header(bytes: &[u8; RECORD_BYTES]) -> Option<(u64, bool)> {
    let mut at = unsealed(bytes)?;
    let known = at.take::<8>()? == *MAGIC && at.u32()? == FORMAT;
    let clean = at.u32()? == 1;
    let generation = at.u64()?;
    // The highest is never reached by counting: refused, so that it can be counted on.
    (known && generation < u64::MAX).then_some((generation, clean))
}

fn record(generation: u64, id: ObjectId, start: u64, end: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    for word in [generation, start, end] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&id.to_bytes());
    sealed(bytes)
}

fn parse_record(bytes: &[u8; RECORD_BYTES], generation: u64) -> Option<(ObjectId, u64, u64)> {
    // Most are not of this life: told by the first word, without a checksum.
    if Reader(bytes).u64()? != generation {
        return None;
    }
    let mut at = unsealed(bytes)?;
    let (_, start, end) = (at.u64()?, at.u64()?, at.u64()?);
    Some((object_id(&at.take()?), start, end))
}

/// The inverse of [`ObjectId::to_bytes`].
pub(crate) fn object_id(bytes: &[u8; 24]) -> ObjectId {
    let (fid, rest) = bytes.split_first_chunk::<16>().expect("16 of 24 bytes");
    let [c0, c1, s0, s1, g @ ..] = rest else { unreachable!("8 bytes are left of 24") };
    let generation = u32::from_be_bytes(g.try_into().expect("4 of 8 bytes are left"));
    ObjectId {
        fid: Fid::from_bytes(*fid),
        component: u16::from_be_bytes([*c0, *c1]),
        stripe: u16::from_be_bytes([*s0, *s1]),
        generation,
    }
}
