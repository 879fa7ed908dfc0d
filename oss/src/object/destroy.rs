//! Destroying.

use std::collections::BTreeSet;

use nacre_model::ObjectId;

use super::files::{Files, folder};
use super::graves::Fate;
use super::slot::State;
use super::store::ObjectStore;
use crate::error::OssError;

impl ObjectStore {
    /// Destroys objects and remembers that they were; durable on return. Those that do not exist
    /// are remembered all the same, since a late write may still be under way.
    pub fn destroy(&self, ids: &[ObjectId], fate: Fate) -> Result<(), OssError> {
        self.check_poison()?;
        self.sealed(self.graves.bury(ids, fate).map_err(OssError::disk("write graves")))?;
        let mut folders = BTreeSet::new();
        for &id in ids {
            let slot = self.slot(id)?;
            // Whoever was before has let go of the object; whoever comes next finds the grave.
            let held = slot.hold_all();
            *slot.state.lock() = State::Unknown;
            Files::remove(&*self.disk, id).map_err(OssError::at("remove object", id))?;
            *slot.state.lock() = State::Absent;
            drop(held);
            folders.insert(folder(id));
        }
        self.sync_folders(&folders)?;
        for &id in ids {
            self.intents.forget(id);
        }
        Ok(())
    }
}
