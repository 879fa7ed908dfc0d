//! Reading.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use nacre_model::ObjectId;
use nacre_model::checksum::{BLOCK_BYTES, Crc32c};

use super::files::Files;
use super::range_lock::Mode;
use super::store::{Absent, ObjectInfo, ObjectStore};
use super::{BLOCK, block_start, range_end};
use crate::error::OssError;

/// Bytes of an object, verified.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ReadData {
    /// Shorter than asked for only at the end of the object.
    pub data: Bytes,
    /// Of `data`.
    pub crc: Crc32c,
    /// Of the object, in bytes; 0 if it does not exist.
    pub size: u64,
}

impl std::fmt::Debug for ReadData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { data, crc, size } = self;
        write!(f, "{} bytes {crc:?} of {size}", data.len())
    }
}

impl ObjectStore {
    /// Reads up to `len` bytes. Holes are zeros, and an object that does not exist is empty.
    ///
    /// # Errors
    /// `Corrupt`: a block does not match its checksum; no byte of the range is returned.
    pub fn read(&self, id: ObjectId, offset: u64, len: u32) -> Result<ReadData, OssError> {
        let end = range_end(id, offset, u64::from(len))?;
        let Some(held) = self.enter(id, (offset, end), Mode::Shared, Absent::Pass)? else {
            return Ok(ReadData::default());
        };
        let known = held.slot.present(|present| (Arc::clone(&present.files), present.size));
        let (files, size) = known.unwrap_or_else(|| unreachable!("held, so still present"));
        let end = end.min(size);
        if offset >= end {
            return Ok(ReadData { size, ..ReadData::default() });
        }
        let data = self.read_verified(id, &files, offset, end)?;
        drop(held);
        self.metrics.read_bytes.increment(data.0.len() as u64);
        Ok(ReadData { data: data.0, crc: data.1, size })
    }

    /// The bytes of `offset..end` and their checksum, in one pass where the range fits the grid.
    pub(crate) fn read_verified(
        &self,
        id: ObjectId,
        files: &Files,
        offset: u64,
        end: u64,
    ) -> Result<(Bytes, Crc32c), OssError> {
        let first = offset / BLOCK;
        let count = usize::try_from(end.div_ceil(BLOCK) - first).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count * BLOCK_BYTES];
        files.read(&mut bytes, first * BLOCK).map_err(OssError::at("read data", id))?;
        let sums = files.sums(first, count).map_err(OssError::at("read checksums", id))?;
        let blocks = bytes.as_chunks::<BLOCK_BYTES>().0;
        let mut whole = Crc32c::default();
        for (index, (block, &sum)) in blocks.iter().zip(&sums).enumerate() {
            if Crc32c::of(block) != sum {
                let start = (first + index as u64) * BLOCK;
                return Err(self.corrupt(id, start, start + BLOCK));
            }
            whole = whole.then_block(sum);
        }
        let mut data = Bytes::from(bytes);
        let skip = usize::try_from(offset - block_start(offset)).unwrap_or(0);
        let keep = usize::try_from(end - offset).unwrap_or(usize::MAX);
        if skip == 0 && keep == data.len() {
            return Ok((data, whole));
        }
        data.advance(skip);
        data.truncate(keep);
        let crc = Crc32c::of(&data);
        Ok((data, crc))
    }

    /// What there is to tell of an object; `None` if it does not exist.
    pub fn stat(&self, id: ObjectId) -> Result<Option<ObjectInfo>, OssError> {
        // No range: a size and a time need no block to be believed.
        let Some(held) = self.enter(id, (0, 0), Mode::Shared, Absent::Pass)? else {
            return Ok(None);
        };
        let known =
            held.slot.present(|present| (Arc::clone(&present.files), present.size, present.mtime));
        let Some((files, size, mtime)) = known else { return Ok(None) };
        let blocks = files.blocks().map_err(OssError::at("stat", id))?;
        Ok(Some(ObjectInfo { size, blocks, mtime }))
    }

    /// First data (or hole) at or after `offset`, and the object's size. `None`: there is none
    /// before the end of the object; the end itself counts as a hole.
    pub fn seek(
        &self,
        id: ObjectId,
        offset: u64,
        hole: bool,
    ) -> Result<(Option<u64>, u64), OssError> {
        let Some(held) = self.enter(id, (0, 0), Mode::Shared, Absent::Pass)? else {
            return Ok((None, 0));
        };
        let known = held.slot.present(|present| (Arc::clone(&present.files), present.size));
        let Some((files, size)) = known else { return Ok((None, 0)) };
        if offset >= size {
            return Ok((None, size));
        }
        let found = if hole { files.seek_hole(offset) } else { files.seek_data(offset) };
        let found = found.map_err(OssError::at("seek", id))?;
        let found = if hole { Some(found.unwrap_or(size).min(size)) } else { found };
        Ok((found.filter(|&at| hole || at < size), size))
    }
}
