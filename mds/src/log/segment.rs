//! One file of the log: its name, its header, its making.
//!
//! | offset | bytes | what (little endian) |
//! |---|---|---|
//! | 0 | 8 | `NACRELOG` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | crc32c of bytes 0..12 and 16..32 |
//! | 16 | 8 | index of its first record; also its name, in hexadecimal |
//! | 24 | 8 | last index that was known to be durable when it was made |
//! | 32 | 32 | zeros |
//! | 64 | | records, then zeros |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_node::{Disk, DiskFile};

use super::record::{u32_at, u64_at};
use crate::fault::io_fault;

/// Where records begin.
pub(super) const SEGMENT_HEADER_BYTES: u64 = HEADER_LEN as u64;
/// The same, in memory.
pub(super) const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"NACRELOG";
const VERSION: u32 = 1;
const SUFFIX: &str = ".log";

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) first: u64,
    pub(super) durable: u64,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        let crc = header_crc(&out).to_le_bytes();
        if let Some(place) = out.get_mut(12..16) {
            place.copy_from_slice(&crc);
        }
        out.resize(HEADER_LEN, 0);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let good = bytes.starts_with(MAGIC)
            && u32_at(bytes, 8)? == VERSION
            && u32_at(bytes, 12)? == header_crc(bytes.get(..32)?);
        good.then_some(Self { first: u64_at(bytes, 16)?, durable: u64_at(bytes, 24)? })
    }
}

fn header_crc(bytes: &[u8]) -> u32 {
    let (before, after) = (bytes.get(..12).unwrap_or(&[]), bytes.get(16..32).unwrap_or(&[]));
    crc32c::crc32c_append(crc32c::crc32c(before), after)
}

/// The name of the segment that begins with `first`.
pub(super) fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:016x}{SUFFIX}"))
}

/// First indexes of the segments in `dir`, ascending, by their names.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(dir)?;
    let hex = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
    let mut firsts: Vec<u64> = hex
        .filter(|hex| hex.len() == 16)
        .filter_map(|hex| u64::from_str_radix(hex, 16).ok())
        .collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Makes a segment of `bytes` zeros behind its header, name and header durable.
///
/// What a crash left under that name goes. On an error nothing of it is in use.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    header: SegmentHeader,
    bytes: u64,
) -> io::Result<Arc<dyn DiskFile>> {
    let path = path_of(dir, header.first);
    let file = create_file(disk, &path)?;
    let made = fill(&*file, header, bytes).and_then(|()| {
        io_fault!("mds::log::sync_dir");
        disk.sync_dir(dir)
    });
    if let Err(error) = made {
        // Without records it means nothing to recovery: that it goes is a courtesy.
        drop(disk.remove(&path));
        return Err(error);
    }
    Ok(file)
}

fn create_file(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    io_fault!("mds::log::create");
    disk.create(path)
}

fn fill(file: &dyn DiskFile, header: SegmentHeader, bytes: u64) -> io::Result<()> {
    io_fault!("mds::log::allocate");
    file.set_len(0)?;
    file.allocate(0, bytes, true)?;
    file.write_at(&header.encode(), 0)?;
    file.sync_data()
}

/// All bytes of a segment.
pub(super) fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    io_fault!("mds::log::read");
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidData, "log segment too long");
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(too_long)?];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}
