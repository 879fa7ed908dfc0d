//! Where the state is kept: sled, and nothing but this module knows so.
//!
//! All records of one change go into one batch, and the batch is flushed before anybody hears of
//! the change: the map's version never goes back.

use std::io;
use std::path::Path;

use nacre_node::durable;
use parking_lot::Mutex;

use crate::state::{BadRecord, KEYS, State};

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, or sled's own files.
    #[error("i/o")]
    Io(#[source] io::Error),
    /// A record.
    #[error("content")]
    Record(#[from] BadRecord),
}

/// Keeps one [`State`].
pub trait Store: Send + Sync + 'static {
    /// What was saved last; `None` if nothing ever was.
    fn load(&self) -> Result<Option<State>, StoreError>;
    /// Durable when it returns.
    fn save(&self, state: &State) -> Result<(), StoreError>;
}

/// Below a folder.
#[derive(Debug)]
pub struct DiskStore {
    db: sled::Db,
}

/// The map is a few kilobytes.
const CACHE_BYTES: u64 = 1 << 20;
/// What is longer than a quarter of this goes into a file of its own, which sled never syncs. A map
/// of the most targets there may be is shorter.
const SEGMENT_BYTES: usize = 8 << 20;
/// Written at every open, to see that a flush really syncs.
const PROBE_KEY: &str = "probe";

impl DiskStore {
    /// Opens, or makes, the store in `folder`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("db");
        remove_unfinished_snapshots(&path).map_err(StoreError::Io)?;
        let config = sled::Config::new()
            .path(&path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let db = config.open().map_err(sled_error)?;
        let store = Self { db };
        store.prove_that_flush_syncs()?;
        // What sled leaves to chance when it creates its files.
        for made in [&path.join("conf"), &path.join("db"), &path, folder] {
            std::fs::File::open(made).and_then(|file| file.sync_all()).map_err(StoreError::Io)?;
        }
        Ok(store)
    }

    /// Stock sled's flush does not reach the disk; [`durable`] sees to it that it does.
    fn prove_that_flush_syncs(&self) -> Result<(), StoreError> {
        let before = durable::sync_calls();
        // Another value each time: sled does not write what is there already.
        let old = self.db.get(PROBE_KEY).map_err(sled_error)?;
        let old =
            old.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes);
        let probe = old.wrapping_add(1).to_le_bytes();
        self.db.insert(PROBE_KEY, &probe).map_err(sled_error)?;
        self.db.flush().map_err(sled_error)?;
        if durable::sync_calls() == before {
            let text = "the store's flush does not reach the disk in this build";
            return Err(StoreError::Io(io::Error::other(text)));
        }
        Ok(())
    }
}

/// sled trips over a snapshot whose writing was cut off.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sled_error(error: sled::Error) -> StoreError {
    StoreError::Io(error.into())
}

impl Store for DiskStore {
    fn load(&self) -> Result<Option<State>, StoreError> {
        let mut values = Vec::new();
        for key in KEYS {
            if let Some(value) = self.db.get(key).map_err(sled_error)? {
                values.push((key, value.to_vec()));
            }
        }
        if values.is_empty() {
            return Ok(None);
        }
        let find = |key| values.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
        Ok(Some(State::decode(find)?))
    }

    fn save(&self, state: &State) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in state.encode() {
            batch.insert(key, value);
        }
        self.db.apply_batch(batch).map_err(sled_error)?;
        self.db.flush().map_err(sled_error)?;
        Ok(())
    }
}

/// In memory, through the same encoding: for tests and simulations, where the value outlives the
/// simulated process.
#[derive(Debug, Default)]
pub struct MemStore {
    records: Mutex<Vec<(&'static str, Vec<u8>)>>,
}

impl Store for MemStore {
    fn load(&self) -> Result<Option<State>, StoreError> {
        let records = self.records.lock();
        if records.is_empty() {
            return Ok(None);
        }
        let find = |key| records.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
        Ok(Some(State::decode(find)?))
    }

    fn save(&self, state: &State) -> Result<(), StoreError> {
        *self.records.lock() = state.encode();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        assert_eq!(store.load().unwrap(), None);
        let mut state = State::new("nacre");
        store.save(&state).unwrap();
        state.map.version = 7;
        store.save(&state).unwrap();
        drop(store);
        std::fs::write(dir.path().join("db/snap.00.generating"), "cut off").unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        assert_eq!(store.load().unwrap(), Some(state));
    }
}
