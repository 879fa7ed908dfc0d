//! Computing checksums anew where a crash may have left them untrue.

use std::sync::Arc;

use nacre_model::ObjectId;
use nacre_model::checksum::{BLOCK_BYTES, Crc32c};

use super::files::Files;
use super::range_lock::Mode;
use super::slot::Slot;
use super::store::{Absent, ObjectStore};
use super::{BLOCK, block_end, block_start};
use crate::error::OssError;

/// Bytes that are looked at under one hold of the range.
const STEP_BYTES: u64 = 1 << 20;

impl ObjectStore {
    /// Believes what the data files hold of `start..end` wherever that is in doubt since a crash.
    pub(crate) fn recheck(&self, slot: &Arc<Slot>, start: u64, end: u64) -> Result<(), OssError> {
        let mut at = block_start(start);
        while let Some((from, to)) = next_unchecked(slot, at, end) {
            let to = to.min(from.saturating_add(STEP_BYTES));
            let held = slot.hold(from, to, Mode::Exclusive);
            let Some(files) = slot.present(|present| Arc::clone(&present.files)) else {
                return Ok(());
            };
            let reached = self.recheck_held(slot.id, &files, from, to)?;
            slot.present(|present| present.unchecked.remove(from, reached));
            drop(held);
            at = reached;
        }
        Ok(())
    }

    /// How far it came: beyond `end` if only a hole follows.
    fn recheck_held(
        &self,
        id: ObjectId,
        files: &Files,
        start: u64,
        end: u64,
    ) -> Result<u64, OssError> {
        let at = || OssError::at("recheck", id);
        let len = files.len().map_err(at())?;
        let data = if start < len { files.seek_data(start).map_err(at())? } else { None };
        let data = block_start(data.unwrap_or(u64::MAX)).max(start).min(end);
        if data > start {
            files.clear_sums(start / BLOCK, Some(data.div_ceil(BLOCK))).map_err(at())?;
            return Ok(data);
        }
        let (first, count) = (start / BLOCK, (end - start).div_ceil(BLOCK));
        let count = usize::try_from(count).expect("a step fits");
        let mut bytes = vec![0; count * BLOCK_BYTES];
        files.read(&mut bytes, start).map_err(at())?;
        let sums: Vec<_> =
            bytes.as_chunks::<BLOCK_BYTES>().0.iter().map(|block| Crc32c::of(block)).collect();
        let stored = files.sums(first, count).map_err(at())?;
        let wrong = sums.iter().zip(&stored).filter(|(a, b)| a != b).count();
        if wrong > 0 {
            files.write_sums(first, &sums).map_err(at())?;
        }
        self.metrics.rechecked_bytes.increment(bytes.len() as u64);
        self.metrics.corrected_blocks.increment(wrong as u64);
        Ok(end)
    }

    /// Rechecks all that is in doubt of one object.
    pub fn recheck_object(&self, id: ObjectId) -> Result<(), OssError> {
        let Some(held) = self.enter(id, (0, 0), Mode::Shared, Absent::Pass)? else {
            return Ok(());
        };
        let slot = Arc::clone(&held.slot);
        drop(held);
        self.recheck(&slot, 0, u64::MAX)
    }
}

fn next_unchecked(slot: &Slot, start: u64, end: u64) -> Option<(u64, u64)> {
    slot.present(|present| {
        let mut ranges = present.unchecked.iter();
        let (s, e) = ranges.find(|&(s, e)| s < end && start < e)?;
        Some((s.max(start), block_end(e.min(end))))
    })?
}
