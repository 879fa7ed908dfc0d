//! The two files of an object, and every disk call on them, each with its fail point.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nacre_model::ObjectId;
use nacre_model::checksum::Crc32c;
use nacre_node::{Disk, DiskFile};

use super::BLOCK;
use super::header::{HEADER_BYTES, Header, SlotContent, TABLE_START, slot_offset};

/// Folder of all objects.
pub(crate) const OBJECTS: &str = "objects";

/// Folder of an object: one of 256, by a hash of the id that never changes.
pub(crate) fn folder(id: ObjectId) -> u8 {
    Crc32c::of(&id.to_bytes()).0.to_le_bytes()[0]
}

/// Path of a folder of objects.
pub(crate) fn folder_path(folder: u8) -> PathBuf {
    PathBuf::from(format!("{OBJECTS}/{folder:02x}"))
}

/// Paths of an object's data and of its checksums.
pub(crate) fn paths(id: ObjectId) -> (PathBuf, PathBuf) {
    let folder = folder(id);
    (
        PathBuf::from(format!("{OBJECTS}/{folder:02x}/{id}.d")),
        PathBuf::from(format!("{OBJECTS}/{folder:02x}/{id}.m")),
    )
}

/// An error that a fail point was told to give, by symbol; EIO without.
#[cfg(feature = "failpoints")]
#[expect(clippy::needless_pass_by_value, reason = "the signature that fail points call")]
pub(crate) fn injected(what: Option<String>) -> io::Error {
    let number = match what.as_deref() {
        Some("ENOSPC") => 28,
        Some("EDQUOT") => 122,
        Some(_) | None => 5,
    };
    io::Error::from_raw_os_error(number)
}

/// An object's open files.
pub(crate) struct Files {
    data: Arc<dyn DiskFile>,
    meta: Arc<dyn DiskFile>,
}

impl Files {
    /// `None` if there is no data file. A missing `.m` is made: it is then in doubt as a whole.
    pub(crate) fn open(disk: &dyn Disk, id: ObjectId) -> io::Result<Option<Self>> {
        point!("oss::files::open");
        let (data, meta) = paths(id);
        match disk.open(&data) {
            Ok(data) => Ok(Some(Self { data, meta: disk.create(&meta)? })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens what is there without making anything, and tells whether there is an `.m`: without,
    /// nothing but the data may be read.
    pub(crate) fn look(disk: &dyn Disk, id: ObjectId) -> io::Result<(Self, bool)> {
        let (data, meta) = paths(id);
        let data = disk.open(&data)?;
        match disk.open(&meta) {
            Ok(meta) => Ok((Self { data, meta }, true)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok((Self { meta: Arc::clone(&data), data }, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes both; `.m` first, so that data never stands without its checksums after a kill.
    pub(crate) fn create(disk: &dyn Disk, id: ObjectId) -> io::Result<Self> {
        point!("oss::files::create");
        let (data, meta) = paths(id);
        if disk.exists(&meta)? {
            // Left by a destroy or a creation that a crash cut short. Its checksums must not come
            // back under new data, not even by another crash.
            disk.remove(&meta)?;
            disk.sync_dir(&folder_path(folder(id)))?;
        }
        let meta = disk.create(&meta)?;
        Ok(Self { data: disk.create(&data)?, meta })
    }

    /// Removes both, whichever are there; data first.
    pub(crate) fn remove(disk: &dyn Disk, id: ObjectId) -> io::Result<()> {
        point!("oss::files::remove");
        let (data, meta) = paths(id);
        for path in [data, meta] {
            match disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        self.data.len()
    }

    /// Allocated space of the data in 512-byte units.
    pub(crate) fn blocks(&self) -> io::Result<u64> {
        self.data.blocks()
    }

    /// Fills `buf`; zeros beyond the end of the data.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        point!("oss::data::read");
        let got = self.data.read_at(buf, offset)?;
        if let Some(rest) = buf.get_mut(got..) {
            rest.fill(0);
        }
        Ok(())
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        fail::fail_point!("oss::data::write", |e| {
            // As a disk does that breaks in the middle: half of it is there.
            let half = bytes.get(..bytes.len() / 2).unwrap_or(bytes);
            self.data.write_at(half, offset)?;
            Err(injected(e))
        });
        self.data.write_at(bytes, offset)
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        point!("oss::data::set_len");
        self.data.set_len(len)
    }

    pub(crate) fn punch(&self, start: u64, end: u64) -> io::Result<()> {
        point!("oss::data::punch");
        self.data.punch(start, end.saturating_sub(start))
    }

    /// Reserves space for data and checksums of a range.
    pub(crate) fn allocate(&self, offset: u64, len: u64, grow: bool) -> io::Result<()> {
        point!("oss::data::allocate");
        let (first, end) = (offset / BLOCK, offset.saturating_add(len).div_ceil(BLOCK));
        self.meta.allocate(entry_offset(first), (end - first) * 4, false)?;
        self.data.allocate(offset, len, grow)
    }

    pub(crate) fn seek_data(&self, offset: u64) -> io::Result<Option<u64>> {
        point!("oss::data::seek");
        self.data.seek_data(offset)
    }

    pub(crate) fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        point!("oss::data::seek");
        self.data.seek_hole(offset)
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        point!("oss::data::sync");
        self.data.sync_data()
    }

    pub(crate) fn sync_meta(&self) -> io::Result<()> {
        point!("oss::meta::sync");
        self.meta.sync_data()
    }

    /// Checksums of `count` blocks from block `first` on.
    pub(crate) fn sums(&self, first: u64, count: usize) -> io::Result<Vec<Crc32c>> {
        point!("oss::meta::read");
        let mut bytes = vec![0; count * 4];
        self.meta.read_at(&mut bytes, entry_offset(first))?;
        let (entries, _) = bytes.as_chunks::<4>();
        Ok(entries.iter().map(|entry| from_entry(u32::from_le_bytes(*entry))).collect())
    }

    pub(crate) fn write_sums(&self, first: u64, sums: &[Crc32c]) -> io::Result<()> {
        point!("oss::meta::write");
        let bytes: Vec<u8> = sums.iter().flat_map(|&sum| to_entry(sum).to_le_bytes()).collect();
        self.meta.write_at(&bytes, entry_offset(first))
    }

    /// Makes the checksums of blocks `first..end` those of holes; without `end`, all from `first`
    /// on, which takes that nobody writes there meanwhile.
    pub(crate) fn clear_sums(&self, first: u64, end: Option<u64>) -> io::Result<()> {
        point!("oss::meta::punch");
        let (start, have) = (entry_offset(first), self.meta.len()?);
        let stop = end.map_or(have, |end| entry_offset(end).min(have));
        match end {
            _ if start >= stop => Ok(()),
            None => self.meta.set_len(start),
            Some(_) => self.meta.punch(start, stop - start),
        }
    }

    /// The newest valid header, and whether a slot is bad.
    pub(crate) fn header(&self, id: ObjectId) -> io::Result<(Option<Header>, bool)> {
        point!("oss::meta::read");
        let (mut newest, mut bad): (Option<Header>, bool) = (None, false);
        for slot in [0, 1] {
            let mut bytes = [0; HEADER_BYTES];
            self.meta.read_at(&mut bytes, slot_offset(slot))?;
            match Header::decode(id, &bytes) {
                SlotContent::Empty => {}
                SlotContent::Bad => bad = true,
                SlotContent::Valid(header) => {
                    if newest.is_none_or(|other| other.version < header.version) {
                        newest = Some(header);
                    }
                }
            }
        }
        Ok((newest, bad))
    }

    pub(crate) fn write_header(&self, header: &Header) -> io::Result<()> {
        point!("oss::meta::write_header");
        self.meta.write_at(&header.encode(), slot_offset(header.version))
    }
}

fn entry_offset(block: u64) -> u64 {
    TABLE_START.saturating_add(block.saturating_mul(4))
}

fn to_entry(sum: Crc32c) -> u32 {
    sum.0 ^ Crc32c::ZERO_BLOCK.0
}

fn from_entry(entry: u32) -> Crc32c {
    Crc32c(entry ^ Crc32c::ZERO_BLOCK.0)
}
