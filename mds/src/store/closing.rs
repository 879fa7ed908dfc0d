//! An open database that may be closed though its disk has failed: sled panics then.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The database; `None` only while it is dropped.
#[derive(Debug)]
pub(super) struct Closing(Option<sled::Db>);

impl Closing {
    pub(super) fn new(db: sled::Db) -> Self {
        Self(Some(db))
    }
}

impl Deref for Closing {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        self.0.as_ref().expect("only its drop takes it out")
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let db = self.0.take();
        // Whatever was promised was flushed before, and said so.
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::error!("the metadata store cannot be closed in an orderly way");
        }
    }
}
