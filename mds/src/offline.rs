//! The metadata of a folder that nobody serves, for the offline check.

use std::sync::Arc;

use nacre_node::tasks::Blocking;
use nacre_node::{Clock, Disk, Scope, SystemClock};

use crate::engine::{Engine, EngineConfig};
use crate::format::{self, Format};
use crate::machine::Machine;
use crate::server::RunError;
use crate::store::{MemStore, MetaStore, View};

/// Metadata as the next start of its server would find it.
pub struct Recovered {
    store: Arc<MemStore>,
    applied: u64,
}

impl Recovered {
    /// The rows.
    pub fn view(&self) -> &dyn View {
        &*self.store
    }

    /// Commands that made them.
    pub fn applied(&self) -> u64 {
        self.applied
    }
}

/// Rebuilds the metadata in memory from snapshot and log, which must be the whole truth. The end
/// of the log that a crash tore off is cut, as a start would; nothing else is changed.
///
/// `None` if the folder was formatted but never served.
pub async fn recover(disk: Arc<dyn Disk>, fsname: &str) -> Result<Option<Recovered>, RunError> {
    if !format::exists(&*disk)? {
        return Ok(None);
    }
    let store = Arc::new(MemStore::default());
    let unused = Format { hash_key: [0; 2], born: SystemClock.now() };
    format::prepare(&*disk, &*store, fsname, unused)?;
    let scope = Scope::new();
    let dynamic: Arc<dyn MetaStore> = Arc::clone(&store) as Arc<dyn MetaStore>;
    let config = EngineConfig::new(disk, dynamic, Blocking::threads(1), scope.clone());
    let engine = Engine::open(config, Machine).await?;
    let applied = engine.applied();
    drop(engine);
    scope.join().await;
    Ok(Some(Recovered { store, applied }))
}
