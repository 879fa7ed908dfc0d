//! The store in redb: what would take sled's place. Only tests have it, so that it can.
//!
//! One table. A batch is one transaction without a sync; a checkpoint is an empty one with it,
//! which makes all before it durable.

#![expect(clippy::result_large_err, reason = "the error is redb's")]

use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, TableDefinition};

use super::{Batch, MetaStore, StoreError, View, Visit, io_error};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// A store in one file.
pub(super) struct RedbStore {
    db: Database,
    path: PathBuf,
}

impl RedbStore {
    /// Opens or creates it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let db = Database::create(path).map_err(|error| error_of("open", path)(error.into()))?;
        let store = Self { db, path: path.to_owned() };
        // Readers want the table to be there.
        store.change("make table in", Durability::Immediate, &Batch::new())?;
        Ok(store)
    }

    fn change(
        &self,
        what: &'static str,
        durability: Durability,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.db.begin_write()?;
            transaction.set_durability(durability);
            {
                let mut rows = transaction.open_table(ROWS)?;
                for (key, value) in batch {
                    match value {
                        Some(value) => rows.insert(key.as_slice(), value.as_slice())?,
                        None => rows.remove(key.as_slice())?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(error_of(what, &self.path))
    }
}

fn error_of(what: &'static str, path: &Path) -> impl FnOnce(redb::Error) -> StoreError {
    move |error| {
        if let redb::Error::Io(error) = error {
            return io_error(what, path)(error);
        }
        if let redb::Error::Corrupted(reason) = error {
            return StoreError::Damaged(reason);
        }
        io_error(what, path)(io::Error::other(error))
    }
}

impl View for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let rows = self.db.begin_read()?.open_table(ROWS)?;
            Ok(rows.get(key)?.map(|value| value.value().to_vec()))
        };
        read().map_err(error_of("read", &self.path))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let mut read = || -> Result<(), redb::Error> {
            let rows = self.db.begin_read()?.open_table(ROWS)?;
            for row in rows.range(from..to)? {
                let (key, value) = row?;
                if visit(key.value(), value.value()).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(error_of("read", &self.path))
    }
}

impl MetaStore for RedbStore {
    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.change("write to", Durability::None, batch)
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        self.change("sync", Durability::Immediate, &Batch::new())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let length = std::fs::metadata(&self.path).map_err(io_error("measure", &self.path))?;
        Ok(length.len())
    }
}
