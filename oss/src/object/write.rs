//! Writing.

use std::sync::Arc;

use nacre_model::ObjectId;
use nacre_model::checksum::{BLOCK_BYTES, Crc32c};

use super::files::Files;
use super::range_lock::Mode;
use super::slot::Slot;
use super::space::Room;
use super::store::{Absent, ObjectInfo, ObjectStore};
use super::sums::{Cut, padded};
use super::{BLOCK, block_end, block_start, range_end};
use crate::error::OssError;

/// Shortest range that an intent names: the next writes nearby need none.
const INTENT_BYTES: u64 = 4 << 20;
/// Each further intent of an object in doubt names twice as much, this many times.
const INTENT_DOUBLINGS: u32 = 6;

impl ObjectStore {
    /// Writes `data`, whose checksum its sender says is `crc`; makes the object if need be.
    ///
    /// On return the data survives the end of the process; it survives power loss after
    /// [`ObjectStore::commit`].
    ///
    /// # Errors
    /// `RequestChecksum`, `NoSpace`, `Destroyed`, `TooLarge`, `Poisoned`: nothing was written.
    /// `Corrupt`: a block that the data covers in part is rotten; nothing was written.
    /// `ObjectDisk`: any part of the data may be there.
    pub fn write(
        &self,
        id: ObjectId,
        offset: u64,
        data: &[u8],
        crc: Crc32c,
    ) -> Result<ObjectInfo, OssError> {
        let len = data.len() as u64;
        let end = range_end(id, offset, len)?;
        let cut = Cut::new(offset, data);
        if cut.whole != crc {
            self.metrics.request_checksum_errors.increment(1);
            return Err(OssError::RequestChecksum {
                object: id,
                offset,
                sent: crc,
                got: cut.whole,
            });
        }
        let (slot, info) = self
            .change(id, (offset, end), Absent::Create, |slot, files, size| {
                let (first, sums) = block_sums(self, id, files, &cut, size)?;
                self.doubt(slot, block_start(offset), block_end(end), size)?;
                self.reserve(id, files, offset, len)?;
                let put = || {
                    files.write(data, offset).map_err(OssError::at("write data", id))?;
                    files.write_sums(first, &sums).map_err(OssError::at("write checksums", id))
                };
                put().inspect_err(|_| {
                    distrust(slot, block_start(offset), block_end(end));
                    // What is there of it is there to stay: nobody may count on zeros beyond the end.
                    let len = files.len().unwrap_or(end);
                    slot.present(|present| present.size = present.size.max(len));
                })?;
                Ok(size.max(end))
            })?
            .expect("an absent object was made");
        drop(slot);
        self.metrics.write_bytes.increment(len);
        Ok(info)
    }

    /// Runs `apply` on an object whose blocks of a range are held exclusively, and takes note of
    /// the size that it returns.
    pub(crate) fn change(
        &self,
        id: ObjectId,
        range: (u64, u64),
        absent: Absent,
        apply: impl FnOnce(&Slot, &Files, u64) -> Result<u64, OssError>,
    ) -> Result<Option<(Arc<Slot>, ObjectInfo)>, OssError> {
        self.check_poison()?;
        let Some(held) = self.enter(id, range, Mode::Exclusive, absent)? else {
            return Ok(None);
        };
        let slot = Arc::clone(&held.slot);
        let (files, before) = slot
            .present(|present| (Arc::clone(&present.files), present.size))
            .ok_or(OssError::Destroyed(id))?;
        let after = apply(&slot, &files, before)?;
        let mtime = self.clock.now();
        let size = slot
            .present(|present| {
                // Writers of other ranges may have moved the end meanwhile: only who cuts the
                // object sets it back, and holds everything to its end.
                let cut = after < before;
                present.size = if cut { after } else { present.size.max(after) };
                present.mtime = mtime;
                present.changes += 1;
                present.size
            })
            .ok_or(OssError::Destroyed(id))?;
        let blocks = files.blocks().map_err(OssError::at("stat", id))?;
        drop(held);
        Ok(Some((slot, ObjectInfo { size, blocks, mtime })))
    }

    /// Brings a range into doubt, durably: on return it may be changed.
    ///
    /// `size` is the object's. The caller holds the range.
    pub(crate) fn doubt(
        &self,
        slot: &Slot,
        start: u64,
        end: u64,
        size: u64,
    ) -> Result<(), OssError> {
        let wanted = slot.present(|present| {
            if !present.doubtful {
                present.doubtful = true;
                self.slots.doubt(slot.id);
            }
            let end = end.min(present.clean_end);
            if start >= end || present.logged.covers(start, end) {
                return None;
            }
            let unit = INTENT_BYTES << present.intents.min(INTENT_DOUBLINGS);
            present.intents += 1;
            let start = start - start % unit.min(INTENT_BYTES);
            // A range that reaches the end goes on to wherever the end will be.
            let end = end.max(start.saturating_add(unit));
            Some((start, if end >= size { u64::MAX } else { end }))
        });
        if let Some(Some((start, end))) = wanted {
            self.metrics.intents.increment(1);
            self.sealed(self.intents.log(slot.id, start, end))?;
            slot.present(|present| present.logged.insert(start, end));
        }
        Ok(())
    }

    /// Makes sure that there is room for what is to be written: before it is begun.
    pub(crate) fn reserve(
        &self,
        id: ObjectId,
        files: &Files,
        offset: u64,
        len: u64,
    ) -> Result<(), OssError> {
        let allocate = || files.allocate(offset, len, false).map_err(OssError::at("reserve", id));
        match self.budget.admit(&*self.disk, len)? {
            Room::Plenty => Ok(()),
            Room::Tight => allocate(),
            Room::Full { available } => {
                // What is allocated already may be overwritten all the same.
                let full = OssError::NoSpace { wanted: len, available };
                let at = || OssError::at("stat", id);
                let before = files.blocks().map_err(at())?;
                let holes = holes(files, offset, offset.saturating_add(len)).map_err(at())?;
                if allocate().is_err() {
                    return Err(full);
                }
                if files.blocks().map_err(at())? <= before {
                    return Ok(());
                }
                for (start, end) in holes {
                    files.punch(start, end).map_err(OssError::at("give back", id))?;
                }
                Err(full)
            }
        }
    }

    /// Reads a block and verifies it.
    pub(crate) fn verified_block(
        &self,
        object: ObjectId,
        files: &Files,
        block: u64,
    ) -> Result<[u8; BLOCK_BYTES], OssError> {
        let mut bytes = [0; BLOCK_BYTES];
        let start = block * BLOCK;
        files.read(&mut bytes, start).map_err(OssError::at("read data", object))?;
        let sums = files.sums(block, 1).map_err(OssError::at("read checksums", object))?;
        if sums.first() != Some(&Crc32c::of(&bytes)) {
            return Err(self.corrupt(object, start, start + BLOCK));
        }
        Ok(bytes)
    }

    /// Says and counts that bytes on disk are not what was written.
    pub(crate) fn corrupt(&self, object: ObjectId, start: u64, end: u64) -> OssError {
        self.metrics.checksum_errors.increment(1);
        tracing::error!(
            ost = %self.options.ost, %object, start, end, "bytes on disk do not match their checksum"
        );
        OssError::Corrupt { object, start, end }
    }
}

/// Unallocated parts of a range, by whole blocks.
fn holes(files: &Files, start: u64, end: u64) -> std::io::Result<Vec<(u64, u64)>> {
    let (mut at, mut holes) = (start, Vec::new());
    while at < end {
        let data = files.seek_data(at)?.unwrap_or(end).min(end);
        let (from, to) = (block_end(at), block_start(data));
        if from < to {
            holes.push((from, to));
        }
        at = if data < end { files.seek_hole(data)?.unwrap_or(end) } else { end };
    }
    Ok(holes)
}

/// A change broke in the middle: the checksums of its range are computed anew before use. The
/// range is in doubt already, so a crash changes nothing.
pub(crate) fn distrust(slot: &Slot, start: u64, end: u64) {
    slot.present(|present| present.unchecked.insert(start, end));
}

/// First block and checksums of all blocks that a write touches, as they will be.
fn block_sums(
    store: &ObjectStore,
    id: ObjectId,
    files: &Files,
    cut: &Cut<'_>,
    size: u64,
) -> Result<(u64, Vec<Crc32c>), OssError> {
    let mut sums = Vec::with_capacity(cut.full.len() + 2);
    if let Some((within, bytes)) = cut.head {
        sums.push(merged(store, id, files, cut.first, (within, bytes), size)?);
    }
    sums.extend_from_slice(&cut.full);
    if let Some(bytes) = cut.tail {
        let block = cut.first + sums.len() as u64;
        sums.push(merged(store, id, files, block, (0, bytes), size)?);
    }
    Ok((cut.first, sums))
}

/// Checksum of a block once `bytes` stand at `within`. What is there is verified first.
pub(crate) fn merged(
    store: &ObjectStore,
    id: ObjectId,
    files: &Files,
    block: u64,
    (within, bytes): (usize, &[u8]),
    size: u64,
) -> Result<Crc32c, OssError> {
    let there = usize::try_from(size.saturating_sub(block * BLOCK)).unwrap_or(usize::MAX);
    if there == 0 || (within == 0 && bytes.len() >= there) {
        return Ok(padded(within, bytes));
    }
    let mut old = store.verified_block(id, files, block)?;
    if let Some(part) = old.get_mut(within..within + bytes.len()) {
        part.copy_from_slice(bytes);
    }
    Ok(Crc32c::of(&old))
}
