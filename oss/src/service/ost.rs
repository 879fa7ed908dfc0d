//! Which OSTs are served here.

use std::collections::BTreeMap;
use std::sync::Arc;

use nacre_model::OstIndex;
use nacre_node::tasks::Blocking;
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use crate::error::OssError;
use crate::fences::{Fences, Inside};
use crate::object::ObjectStore;

/// One OST: its store, and where the store's calls run.
#[derive(Clone)]
pub struct Ost {
    /// Its objects.
    pub store: Arc<ObjectStore>,
    /// Its disk's threads.
    pub blocking: Blocking,
    /// Sessions that it serves no more.
    pub(crate) fences: Arc<Fences>,
}

/// An OST that a request was let in to.
pub(crate) struct Admitted<'o> {
    pub(crate) ost: &'o Ost,
    /// Goes with the calls on the disk threads: they may outlive the request.
    inside: Arc<Inside>,
}

/// The OSTs of one process, by index.
#[derive(Clone, Default)]
pub struct Osts(pub Arc<BTreeMap<OstIndex, Ost>>);

impl Osts {
    /// The OST that a request is for, if the request may be carried out.
    pub(crate) fn admit(
        &self,
        header: Option<&v1::ObjectHeader>,
    ) -> Result<Admitted<'_>, OssError> {
        let header = required("header", header)?;
        let index = u16::try_from(header.ost_index).map_err(|_| BadMessage::Range {
            field: "ost_index",
            value: header.ost_index.into(),
        })?;
        let index = OstIndex(index);
        let ost = self.0.get(&index).ok_or(OssError::UnknownTarget(index))?;
        ost.store.check_epoch(header.target_epoch)?;
        let inside = Arc::new(ost.fences.enter(header.session)?);
        Ok(Admitted { ost, inside })
    }
}

impl Admitted<'_> {
    /// Its store.
    pub(crate) fn store(&self) -> &ObjectStore {
        &self.ost.store
    }

    /// Runs a call of the store on the disk's threads. The request is inside until it has ended.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ObjectStore) -> T + Send + 'static,
    ) -> T {
        let inside = Arc::clone(&self.inside);
        self.ost
            .run(move |store| {
                let result = call(store);
                drop(inside);
                result
            })
            .await
    }
}

impl Ost {
    /// Runs a call of the store on the disk's threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ObjectStore) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(&self.store);
        self.blocking.run(move || call(&store)).await
    }
}
