//! Going through all objects: what is in doubt after a crash, and the scrub.

use std::collections::BTreeSet;

use nacre_model::ObjectId;

use super::files::{folder_path, paths};
use super::range_lock::Mode;
use super::store::{Absent, ObjectStore};
use crate::error::OssError;

/// Bytes that the scrub verifies under one hold.
const STEP_BYTES: u64 = 1 << 20;

impl ObjectStore {
    /// Objects in one of the 256 folders, ascending; and ids whose `.m` stands alone.
    pub fn list(&self, folder: u8) -> Result<(Vec<ObjectId>, Vec<ObjectId>), OssError> {
        let path = folder_path(folder);
        if !self.disk.exists(&path).map_err(OssError::disk("look for folder"))? {
            return Ok((Vec::new(), Vec::new()));
        }
        let names = self.disk.list(&path).map_err(OssError::disk("list folder of objects"))?;
        let ids = |ending: &str| -> BTreeSet<ObjectId> {
            names.iter().filter_map(|name| name.strip_suffix(ending)?.parse().ok()).collect()
        };
        let (data, meta) = (ids(".d"), ids(".m"));
        let alone = meta.difference(&data).copied().collect();
        Ok((data.into_iter().collect(), alone))
    }

    /// Removes an `.m` whose data is gone: a crash cut a destroy or a creation short.
    pub fn remove_leftover(&self, id: ObjectId) -> Result<(), OssError> {
        let slot = self.slot(id)?;
        let held = slot.hold_all();
        let (data, meta) = paths(id);
        let here = |path| self.disk.exists(path).map_err(OssError::disk("look for object"));
        if !here(&data)? && here(&meta)? {
            self.disk.remove(&meta).map_err(OssError::at("remove object", id))?;
        }
        drop(held);
        Ok(())
    }

    /// Verifies up to a step of an object from `offset` on; where to go on, if it goes on.
    ///
    /// # Errors
    /// `Corrupt`, which is counted and logged: go on at the `end` that it names.
    pub fn scrub_step(&self, id: ObjectId, offset: u64) -> Result<Option<u64>, OssError> {
        let end = offset.saturating_add(STEP_BYTES);
        let Some(held) = self.enter(id, (offset, end), Mode::Shared, Absent::Pass)? else {
            return Ok(None);
        };
        let known = held.slot.present(|present| (present.files.clone(), present.size));
        let Some((files, size)) = known else { return Ok(None) };
        if offset >= size {
            return Ok(None);
        }
        let end = end.min(size);
        self.read_verified(id, &files, offset, end)?;
        self.metrics.scrubbed_bytes.increment(end - offset);
        Ok(Some(end))
    }
}
