//! Cutting, punching, reserving.

use nacre_model::ObjectId;
use nacre_model::checksum::{BLOCK_BYTES, Crc32c};

use super::files::Files;
use super::slot::Slot;
use super::store::{Absent, ObjectInfo, ObjectStore};
use super::write::distrust;
use super::{BLOCK, OBJECT_BYTES_MAX, block_end, block_start, range_end};
use crate::error::OssError;

impl ObjectStore {
    /// Sets the size; an object that does not exist is not made (`None`).
    pub fn truncate(&self, id: ObjectId, size: u64) -> Result<Option<ObjectInfo>, OssError> {
        if size > OBJECT_BYTES_MAX {
            return Err(OssError::TooLarge { object: id, offset: size, len: 0 });
        }
        // From the lower of the two ends on, whichever it is, nobody else may be at work.
        let Some(before) = self.stat(id)? else { return Ok(None) };
        let start = block_start(size.min(before.size));
        let done = self.change(id, (start, u64::MAX), Absent::Pass, |slot, files, now| {
            if size < now {
                self.cut(slot, files, size, now)?;
            } else {
                // No block changes, but the length must become durable some time.
                self.doubt(slot, u64::MAX, u64::MAX, now)?;
                extend(id, files, size)?;
            }
            Ok(size)
        })?;
        Ok(done.map(|(_, info)| info))
    }

    fn cut(&self, slot: &Slot, files: &Files, size: u64, now: u64) -> Result<(), OssError> {
        let id = slot.id;
        let kept = usize::try_from(size % BLOCK).expect("less than a block");
        let last =
            if kept == 0 { None } else { Some(self.zeroed(id, files, size, kept..BLOCK_BYTES)?) };
        self.doubt(slot, block_start(size), u64::MAX, now)?;
        let put = || {
            files.set_len(size).map_err(OssError::at("truncate", id))?;
            let at = || OssError::at("write checksums", id);
            files.clear_sums(size.div_ceil(BLOCK), None).map_err(at())?;
            last.map_or(Ok(()), |sum| files.write_sums(size / BLOCK, &[sum])).map_err(at())
        };
        put().inspect_err(|_| {
            distrust(slot, block_start(size), block_end(now));
            // It may be cut already. Nobody else moves the end: all beyond is held.
            let len = files.len().unwrap_or(now);
            slot.present(|present| present.size = len);
        })
    }

    /// Zeroes a range and gives its space back; the size stays. `None`: there is no such object.
    pub fn punch(
        &self,
        id: ObjectId,
        offset: u64,
        len: u64,
    ) -> Result<Option<ObjectInfo>, OssError> {
        let end = offset.saturating_add(len).min(OBJECT_BYTES_MAX);
        let done = self.change(id, (offset, end), Absent::Pass, |slot, files, size| {
            let end = end.min(size);
            if offset < end {
                self.punch_held(slot, files, (offset, end), size)?;
            }
            Ok(size)
        })?;
        Ok(done.map(|(_, info)| info))
    }

    fn punch_held(
        &self,
        slot: &Slot,
        files: &Files,
        (start, end): (u64, u64),
        size: u64,
    ) -> Result<(), OssError> {
        let id = slot.id;
        let (first, last) = (block_start(start), block_start(end));
        let within = |at: u64| usize::try_from(at % BLOCK).expect("less than a block");
        // Blocks that are only punched in part keep a checksum of what remains.
        let mut edges = Vec::new();
        if first == last {
            edges.push((first / BLOCK, self.zeroed(id, files, start, within(start)..within(end))?));
        } else {
            if start != first {
                let sum = self.zeroed(id, files, start, within(start)..BLOCK_BYTES)?;
                edges.push((first / BLOCK, sum));
            }
            if end != last {
                edges.push((last / BLOCK, self.zeroed(id, files, end, 0..within(end))?));
            }
        }
        self.doubt(slot, first, block_end(end), size)?;
        let put = || {
            files.punch(start, end).map_err(OssError::at("punch", id))?;
            let at = || OssError::at("write checksums", id);
            let (from, to) = (start.div_ceil(BLOCK), end / BLOCK);
            if from < to {
                files.clear_sums(from, Some(to)).map_err(at())?;
            }
            edges.iter().try_for_each(|&(block, sum)| files.write_sums(block, &[sum])).map_err(at())
        };
        put().inspect_err(|_| distrust(slot, first, block_end(end)))
    }

    /// Checksum of the block around `offset` once `range` of it is zeros; verified first.
    fn zeroed(
        &self,
        id: ObjectId,
        files: &Files,
        offset: u64,
        range: std::ops::Range<usize>,
    ) -> Result<Crc32c, OssError> {
        let mut bytes = self.verified_block(id, files, offset / BLOCK)?;
        if let Some(part) = bytes.get_mut(range) {
            part.fill(0);
        }
        Ok(Crc32c::of(&bytes))
    }

    /// Reserves space, so that later writes there cannot fail for want of it; makes the object if
    /// need be. With `grow` the object is at least as long as the range afterwards.
    pub fn allocate(
        &self,
        id: ObjectId,
        offset: u64,
        len: u64,
        grow: bool,
    ) -> Result<ObjectInfo, OssError> {
        let end = range_end(id, offset, len)?;
        let done = self.change(id, (offset, end), Absent::Create, |slot, files, size| {
            if len == 0 {
                return Ok(size);
            }
            self.doubt(slot, u64::MAX, u64::MAX, size)?;
            self.reserve(id, files, offset, len)?;
            files.allocate(offset, len, grow).map_err(OssError::at("reserve", id))?;
            Ok(if grow { size.max(end) } else { size })
        })?;
        let (_, info) = done.expect("an absent object was made");
        Ok(info)
    }
}

fn extend(id: ObjectId, files: &Files, size: u64) -> Result<(), OssError> {
    // Nothing but the length changes: what was beyond the end are zeros, and stay so.
    let now = files.len().map_err(OssError::at("stat", id))?;
    if size > now {
        files.set_len(size).map_err(OssError::at("truncate", id))?;
    }
    Ok(())
}
