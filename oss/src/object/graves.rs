//! Which objects were destroyed, so that a late write cannot bring one back.
//!
//! Two files, `graves.gone` (the inode is gone) and `graves.replaced` (the inode lives on with
//! other objects: readers are to be told too). Each is a ring of 65,536 records, the newest
//! taking the place of the oldest; numbers are little endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | sequence number from 1 on; its record is number sequence mod 65,536 |
//! | 8 | 24 | object id, as `ObjectId::to_bytes` |
//! | 32 | 28 | zeros |
//! | 60 | 4 | crc32c of bytes 0 to 60 |
//!
//! A record counts by itself; one that does not verify was never acknowledged.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use nacre_model::ObjectId;
use nacre_model::checksum::Crc32c;
use nacre_node::{Disk, DiskFile};
use parking_lot::Mutex;

use super::header::Reader;
use super::intent::object_id;
use crate::error::OssError;

/// Most objects that either ring remembers.
pub(crate) const GRAVES_MAX: usize = 1 << 16;
const GONE: &str = "graves.gone";
const REPLACED: &str = "graves.replaced";
const RECORD_BYTES: usize = 64;
const COVERED: usize = RECORD_BYTES - 4;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its inode is gone: it reads as if it had never been, and cannot be written.
    Gone,
    /// Its inode lives on with other objects: whoever asks has an old layout.
    Replaced,
}

/// Both rings.
pub(crate) struct Graves {
    gone: Ring,
    replaced: Ring,
}

struct Ring {
    /// None where there is nothing to read, and nothing is to be written.
    file: Option<Arc<dyn DiskFile>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    order: VecDeque<ObjectId>,
    /// How often each is in `order`.
    ids: HashMap<ObjectId, u32>,
}

impl Graves {
    pub(crate) fn open(disk: &dyn Disk) -> Result<Self, OssError> {
        let make = |name| disk.create(Path::new(name)).and_then(|file| Ring::read(Some(file)));
        let ring = |name| make(name).map_err(OssError::disk("open graves"));
        let graves = Self { gone: ring(GONE)?, replaced: ring(REPLACED)? };
        disk.sync_dir(Path::new("")).map_err(OssError::disk("open graves"))?;
        Ok(graves)
    }

    /// To look at, in a folder that nobody serves.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Self, OssError> {
        let look = |name| match disk.open(Path::new(name)) {
            Ok(file) => Ring::read(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ring::read(None),
            Err(error) => Err(error),
        };
        let ring = |name| look(name).map_err(OssError::disk("open graves"));
        Ok(Self { gone: ring(GONE)?, replaced: ring(REPLACED)? })
    }

    /// What became of an object, if it was destroyed and not long forgotten.
    pub(crate) fn fate(&self, id: ObjectId) -> Option<Fate> {
        if self.replaced.has(id) {
            Some(Fate::Replaced)
        } else {
            self.gone.has(id).then_some(Fate::Gone)
        }
    }

    /// Remembers them; durable on return.
    pub(crate) fn bury(&self, ids: &[ObjectId], fate: Fate) -> io::Result<()> {
        match fate {
            Fate::Gone => self.gone.add(ids),
            Fate::Replaced => self.replaced.add(ids),
        }
    }

    /// How many are remembered: gone, and replaced.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |ring: &Ring| ring.inner.lock().order.len() as u64;
        (count(&self.gone), count(&self.replaced))
    }
}

impl Ring {
    fn read(file: Option<Arc<dyn DiskFile>>) -> io::Result<Self> {
        let len = file.as_ref().map_or(Ok(0), |file| file.len())?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(GRAVES_MAX * RECORD_BYTES)];
        if let Some(file) = &file {
            point!("oss::graves::read");
            file.read_at(&mut bytes, 0)?;
        }
        let mut records: Vec<_> =
            bytes.as_chunks::<RECORD_BYTES>().0.iter().filter_map(parse).collect();
        records.sort_unstable();
        let mut inner = Inner::default();
        for (sequence, id) in records {
            inner.last = sequence;
            inner.push(id);
        }
        Ok(Self { file, inner: Mutex::new(inner) })
    }

    fn has(&self, id: ObjectId) -> bool {
        self.inner.lock().ids.contains_key(&id)
    }

    fn add(&self, ids: &[ObjectId]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        let mut records = Vec::with_capacity(ids.len());
        {
            let mut inner = self.inner.lock();
            for &id in ids {
                inner.last += 1;
                records.push((inner.last, id));
                inner.push(id);
            }
        }
        for run in records.chunk_by(|a, b| place(a.0) < place(b.0)) {
            let Some(first) = run.first() else { continue };
            let bytes: Vec<u8> = run.iter().flat_map(|&(seq, id)| record(seq, id)).collect();
            point!("oss::graves::write");
            file.write_at(&bytes, place(first.0))?;
        }
        point!("oss::graves::sync");
        file.sync_data()
    }
}

impl Inner {
    fn push(&mut self, id: ObjectId) {
        self.order.push_back(id);
        *self.ids.entry(id).or_default() += 1;
        if self.order.len() <= GRAVES_MAX {
            return;
        }
        if let Some(oldest) = self.order.pop_front()
            && let Some(count) = self.ids.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.ids.remove(&oldest);
            }
        }
    }
}

/// Where a record stands in the file.
fn place(sequence: u64) -> u64 {
    (sequence % GRAVES_MAX as u64) * RECORD_BYTES as u64
}

fn record(sequence: u64, id: ObjectId) -> [u8; RECORD_BYTES] {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend_from_slice(&id.to_bytes());
    bytes.resize(COVERED, 0);
    let crc = Crc32c::of(&bytes);
    bytes.extend_from_slice(&crc.0.to_le_bytes());
    bytes.try_into().expect("padded to 60 bytes and 4 more")
}

fn parse(bytes: &[u8; RECORD_BYTES]) -> Option<(u64, ObjectId)> {
    if bytes.starts_with(&[0; 8]) {
        return None;
    }
    let (covered, crc) = bytes.split_at_checked(COVERED)?;
    if Crc32c::of(covered).0 != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    let mut at = Reader(covered);
    let sequence = at.u64()?;
    (1..u64::MAX).contains(&sequence).then_some((sequence, object_id(&at.take()?)))
}
