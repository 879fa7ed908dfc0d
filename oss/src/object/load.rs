//! From disk to memory, and birth.

use std::collections::BTreeSet;
use std::sync::Arc;

use nacre_model::ObjectId;

use super::files::{Files, folder, folder_path};
use super::ranges::RangeSet;
use super::slot::{Present, Slot, State};
use super::store::ObjectStore;
use super::{BLOCK, block_end};
use crate::error::OssError;

impl ObjectStore {
    /// Finds out about an object that nobody has looked at.
    pub(crate) fn load(&self, slot: &Arc<Slot>) -> Result<(), OssError> {
        let held = slot.hold_all();
        if !matches!(*slot.state.lock(), State::Unknown) {
            return Ok(());
        }
        let id = slot.id;
        let files = Files::open(&*self.disk, id).map_err(OssError::at("open object", id))?;
        let state = match files {
            None => State::Absent,
            Some(_) if self.graves.fate(id).is_some() => {
                // A crash came between the grave and the removal.
                Files::remove(&*self.disk, id).map_err(OssError::at("remove object", id))?;
                self.sync_folders(&BTreeSet::from([folder(id)]))?;
                State::Absent
            }
            Some(files) => State::Present(self.read_present(id, files)?),
        };
        match &state {
            State::Present(present) if present.doubtful => self.slots.doubt(id),
            State::Absent => self.intents.forget(id),
            State::Present(_) | State::Unknown => {}
        }
        *slot.state.lock() = state;
        drop(held);
        Ok(())
    }

    fn read_present(&self, id: ObjectId, files: Files) -> Result<Present, OssError> {
        let at = OssError::at("read object", id);
        let (header, bad) = files.header(id).map_err(at)?;
        let len = files.len().map_err(OssError::at("read object", id))?;
        if bad {
            tracing::warn!(ost = %self.options.ost, object = %id, "a header is torn, using the other");
        }
        let clean_end = header.map_or(0, |header| header.clean_end);
        let leftover = self.intents.leftover(id);
        let mut unchecked = leftover.clone();
        if len > clean_end {
            unchecked.insert(clean_end, u64::MAX);
        }
        unchecked.remove(block_end(len), u64::MAX);
        // Beyond the end there is nothing, so no checksum of what a crash has swallowed may stay.
        // Without a cut under way those below the clean end are true, whatever became of the data.
        let end = if leftover.is_empty() { len.max(clean_end) } else { len };
        files.clear_sums(end.div_ceil(BLOCK), None).map_err(OssError::at("write checksums", id))?;
        let mut size = len;
        if leftover.is_empty()
            && let Some(header) = header
            && len < header.size.min(clean_end)
        {
            // Bytes that were synced are gone. Their checksums are not: reading them says so.
            tracing::error!(
                ost = %self.options.ost, object = %id, have = len, expected = header.size,
                "data is shorter than it was when it was clean"
            );
            self.metrics.checksum_errors.increment(1);
            size = header.size;
        }
        let doubtful = !leftover.is_empty()
            || !unchecked.is_empty()
            || header.is_none_or(|header| header.size != size);
        Ok(Present {
            files: Arc::new(files),
            size,
            mtime: header.map_or_else(|| self.clock.now(), |header| header.mtime),
            owner: header.map(|header| header.owner).unwrap_or_default(),
            version: header.map_or(0, |header| header.version),
            // After a crash nothing of it need be on the disk.
            changes: u64::from(doubtful),
            synced: 0,
            named: clean_end > 0,
            clean_end,
            logged: RangeSet::default(),
            doubtful,
            retiring: leftover,
            unchecked,
            intents: 0,
        })
    }

    /// Brings an object into being, in doubt.
    pub(crate) fn create(&self, slot: &Arc<Slot>) -> Result<(), OssError> {
        let id = slot.id;
        self.make_folder(folder(id))?;
        let held = slot.hold_all();
        if !matches!(*slot.state.lock(), State::Absent) {
            return Ok(());
        }
        if self.graves.fate(id).is_some() {
            return Err(OssError::Destroyed(id));
        }
        let files = Files::create(&*self.disk, id).map_err(OssError::at("create object", id))?;
        let present = Present {
            files: Arc::new(files),
            size: 0,
            mtime: self.clock.now(),
            owner: super::header::Owner::default(),
            version: 0,
            changes: 1,
            synced: 0,
            named: false,
            clean_end: 0,
            logged: RangeSet::default(),
            retiring: RangeSet::default(),
            unchecked: RangeSet::default(),
            intents: 0,
            doubtful: true,
        };
        self.slots.doubt(id);
        *slot.state.lock() = State::Present(present);
        drop(held);
        Ok(())
    }

    /// Makes names in folders of objects durable; folders that do not exist have none.
    pub(crate) fn sync_folders(&self, folders: &BTreeSet<u8>) -> Result<(), OssError> {
        for &folder in folders {
            let path = folder_path(folder);
            if self.disk.exists(&path).map_err(OssError::disk("look for folder"))? {
                self.sealed(self.sync_folder(&path))?;
            }
        }
        Ok(())
    }
}
