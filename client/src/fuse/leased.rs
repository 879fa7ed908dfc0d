//! The leases of the client library, as the channel asks for them.
//!
//! An answer may be kept if it says what the library would answer now by its lease: then it does
//! not matter how the answer came about.

use std::future::Future;
use std::pin::Pin;

use nacre_model::{Attr, Fid};

use super::lease::Leases;
use super::notifier::Notifier;
use crate::Client;
use crate::cache::{KernelCache, Mode};

/// While nothing can be revoked.
pub(super) struct Leased<'a> {
    pub(super) client: &'a Client,
    /// When the answer was begun.
    pub(super) stamp: u64,
}

impl Leases for Leased<'_> {
    fn attr(&self, attr: &Attr) -> bool {
        self.client.cached_attr(attr.fid).is_some_and(|known| known == *attr)
    }

    fn names(&self, dir: Fid) -> bool {
        self.client.inner.cache.stood(dir, self.stamp)
    }

    fn data(&self, fid: Fid) -> bool {
        self.client.inner.cache.mode(fid) > Mode::None
    }

    fn pages(&self, fid: Fid) -> bool {
        self.client.inner.cache.stood(fid, self.stamp)
    }
}

impl KernelCache for Notifier {
    fn forget_inodes(&self, fids: Vec<Fid>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            for fid in fids {
                self.inval_inode(fid).await;
            }
        })
    }

    fn forget_names(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.inval_names())
    }
}
