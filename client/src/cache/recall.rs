//! Giving leases back: because somebody else needs the inode, because there are too many, or
//! because the session has ended.
//!
//! ```text
//! revoke (an instant: nothing is answered from the cache any more)
//!   ─► writes under way end ─► the kernel forgets ─► dirty data and sizes go to the servers
//!   ─► open files that the server does not know are told ─► ReturnLeases
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nacre_model::{Errno, Fid, ServiceError};
use nacre_node::register::Chain;
use nacre_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::node::Mode;
use super::table::{Revoked, Table};
use super::{Asked, Cache};
use crate::flush::Exact;
use crate::inode::Inode;
use crate::join::join_all;
use crate::{Client, ClientError, Result};

/// Leases returned with one request.
const RETURN_MAX: usize = 4096;
/// A client that wants a file waits so long for one that cannot write its data: less than the time
/// after which the latter is evicted.
const LAST_PATIENCE: Duration = Duration::from_secs(4);
/// Pause between two attempts to write.
const AGAIN: Duration = Duration::from_millis(100);
/// Leases on what is gone are returned when there are so many.
const GONE_MIN: usize = 512;

/// What the kernel keeps on the strength of this client's leases.
pub trait KernelCache: fmt::Debug + Send + Sync {
    /// Forgets attributes and clean pages of these inodes and writes dirty ones back. Resolves
    /// when that is done.
    fn forget_inodes(&self, fids: Vec<Fid>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Trusts no name any more that was looked up before.
    fn forget_names(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What becomes of leases other than by this client's own wish.
#[derive(Debug)]
pub(crate) enum Event {
    /// Others need them.
    Recall(v1::Recall),
    /// The session ended; these were held.
    Lost(Vec<Fid>),
    /// The server has been silent for so long that it may have given them away.
    Suspended,
}

/// Where events come in.
pub(crate) type Recalls = mpsc::Receiver<Event>;

impl Cache {
    /// Takes leases away from whoever would answer by them.
    pub(super) fn revoke<T>(&self, take: impl FnOnce(&mut Table) -> T) -> T {
        let _alone = self.sending.write();
        let mut table = self.table.lock();
        table.begin_revocation();
        take(&mut table)
    }

    /// A session begins; what was held in another is void.
    pub(crate) fn begin(&self, session: u64) -> Vec<Fid> {
        let lost = self.revoke(|table| table.begin(session));
        self.suspended.store(false, Ordering::Release);
        lost
    }

    /// No lease is used until [`Cache::resume`]. True if that is news.
    pub(crate) fn suspend(&self) -> bool {
        self.revoke(|_| !self.suspended.swap(true, Ordering::AcqRel))
    }

    /// The server has confirmed the session: what was held still is.
    pub(crate) fn resume(&self) {
        self.suspended.store(false, Ordering::Release);
    }

    /// Everything held, for claiming it after the server's restart.
    pub(crate) fn claims(&self) -> Vec<v1::HeldLease> {
        let table = self.table.lock();
        let mut claims: Vec<_> = table.held_fids().collect();
        claims.sort_unstable_by_key(|(fid, _)| *fid);
        let wire = |(fid, mode): (Fid, Mode)| v1::HeldLease {
            fid: Some(fid.into()),
            mode: v1::LeaseMode::from(mode) as i32,
            number: 0,
        };
        claims.into_iter().map(wire).collect()
    }
}

impl Client {
    /// Handles what happens to leases for as long as the client lives.
    pub(crate) fn start_recalls(&self, mut events: Recalls) {
        let client = self.clone();
        self.inner.config.scope.spawn("lease-recalls", async move {
            while let Some(event) = events.recv().await {
                let client = client.clone();
                let scope = client.inner.config.scope.clone();
                // One recall must not wait for the data of another.
                scope.spawn("lease-recall", async move { client.on_event(event).await });
            }
        });
    }

    async fn on_event(&self, event: Event) {
        let result = match event {
            Event::Recall(recall) => self.on_recall(recall).await,
            Event::Lost(fids) => {
                for inode in self.inner.inodes.select(|_| true) {
                    self.drop_evicted(&inode);
                }
                self.kernel_forgets(fids, true).await;
                self.tell_handles(None).await
            }
            Event::Suspended => {
                let held = self.inner.cache.table.lock().held_fids().map(|(fid, _)| fid).collect();
                self.kernel_forgets(held, true).await;
                Ok(())
            }
        };
        if let Err(error) = result {
            tracing::warn!(error = %Chain(&error), "leases were not returned");
        }
    }

    async fn on_recall(&self, recall: v1::Recall) -> Result<()> {
        crate::metrics::recalled(recall.items.len());
        let mut items = Vec::with_capacity(recall.items.len());
        for item in &recall.items {
            let fid = nacre_proto::convert::required("fid", item.fid)?.into();
            items.push((fid, Mode::from(item.keep()), item.number));
        }
        let revoked = self.inner.cache.revoke(|table| {
            let recalled =
                |(fid, keep, number): &(Fid, Mode, u64)| table.recalled(*fid, *keep, *number);
            items.iter().map(recalled).collect::<Vec<_>>()
        });
        let (late, quick): (Vec<_>, Vec<_>) =
            revoked.into_iter().partition(|revoked| self.has_data(revoked));
        let late = late.into_iter().map(|one| self.give_back(vec![one]));
        let quick = (!quick.is_empty()).then(|| self.give_back(quick));
        for result in join_all(late.chain(quick)).await {
            result?;
        }
        Ok(())
    }

    /// What was written under a session that has ended can come no more; what was known is void.
    pub(crate) fn drop_evicted(&self, inode: &Arc<Inode>) {
        let mut state = inode.state.lock();
        if state.evictions == self.inner.mdc.evictions() {
            return;
        }
        state.lease_lost();
        let (open, dirty) = (state.handles() > 0, !state.dirty.is_empty());
        // What is on its way may come back: then it must be seen to be of the old session.
        let idle = !state.pending();
        drop(state);
        if dirty {
            self.lose_dirty(inode, &ClientError::refused(Errno::EIO, "client was evicted"));
        }
        if open && idle {
            inode.state.lock().evictions = self.inner.mdc.evictions();
        } else if !open {
            self.discard(inode);
            self.inner.inodes.forget_idle(inode);
        }
    }

    /// Whether something must be written before the lease can go.
    fn has_data(&self, revoked: &Revoked) -> bool {
        revoked.before == Mode::Exclusive && self.inner.inodes.get(revoked.fid).is_some()
    }

    /// Returns what was revoked, when nothing rests on it any more.
    async fn give_back(&self, revoked: Vec<Revoked>) -> Result<()> {
        let mut forget = Vec::new();
        let names = revoked.iter().any(|one| one.names);
        for one in &revoked {
            let inode = self.inner.inodes.get(one.fid);
            if one.before == Mode::Exclusive
                && let Some(inode) = &inode
            {
                // Writes that were begun under the lease have come to their end.
                drop(inode.gate.write().await);
            }
            let writers = inode.as_ref().is_some_and(|inode| inode.state.lock().writers() > 0);
            if one.keep == Mode::None || writers {
                forget.push(one.fid);
            }
        }
        self.kernel_forgets(forget, names).await;
        for one in &revoked {
            let Some(inode) = self.inner.inodes.get(one.fid) else { continue };
            if one.before == Mode::Exclusive {
                self.write_home_for_good(&inode).await;
            }
            if one.keep == Mode::None {
                inode.state.lock().lease_lost();
                self.inner.inodes.forget_idle(&inode);
            }
        }
        let fids: Vec<Fid> = revoked.iter().map(|one| one.fid).collect();
        let handles = self.inner.mdc.held.lock().ask(Some(&fids));
        let leases = revoked.into_iter().map(|one| v1::ReturnedLease {
            fid: Some(one.fid.into()),
            keep: v1::LeaseMode::from(one.keep) as i32,
            number: one.number,
        });
        self.return_leases(leases.collect(), handles).await
    }

    /// The same, when it is now or never: data whose server does not come back soon is lost.
    async fn write_home_for_good(&self, inode: &Arc<Inode>) {
        let until = Instant::now() + LAST_PATIENCE;
        loop {
            self.write_home_as(inode, true).await;
            if inode.state.lock().stuck.is_none() {
                return;
            }
            if Instant::now() >= until {
                let why = ClientError::refused(Errno::EIO, "another client wants the file");
                self.lose_dirty(inode, &why);
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Everything written is with the servers, and the MDS knows of it.
    pub(crate) async fn write_home(&self, inode: &Arc<Inode>) {
        let alone = self.has_alone(inode.fid);
        self.write_home_as(inode, alone).await;
    }

    async fn write_home_as(&self, inode: &Arc<Inode>, alone: bool) {
        self.write_out(inode).await;
        let exact = if inode.state.lock().writers() == 0 { Exact::Yes } else { Exact::No };
        let done = match self.repair(inode).await {
            // Until it is returned nobody else has the file.
            Ok(()) => {
                inode.wait_settled().await;
                self.settle_as(inode, exact, false, alone).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            if error.is_gone() {
                self.discard(inode);
                return;
            }
            tracing::error!(fid = %inode.fid, error = %Chain(&error),
                "written data is not settled");
            inode.state.lock().record_error(error.errno());
        }
    }

    /// Tells the server which files are open that it does not know of: of all inodes, or of these.
    pub(crate) async fn tell_handles(&self, of: Option<&[Fid]>) -> Result<()> {
        let handles = self.inner.mdc.held.lock().ask(of);
        if handles.is_empty() {
            return Ok(());
        }
        self.return_leases(Vec::new(), handles).await
    }

    async fn return_leases(
        &self,
        leases: Vec<v1::ReturnedLease>,
        handles: Vec<v1::OpenHandle>,
    ) -> Result<()> {
        let numbers: Vec<u64> = handles.iter().map(|handle| handle.handle).collect();
        let mdc = &self.inner.mdc;
        let mut result = Ok(());
        let mut handles = Some(handles);
        let mut rest = leases.as_slice();
        while !rest.is_empty() || handles.is_some() {
            let (part, more) = rest.split_at(rest.len().min(RETURN_MAX));
            rest = more;
            let request = v1::ReturnLeasesRequest {
                session: 0,
                leases: part.to_vec(),
                handles: handles.take().unwrap_or_default(),
            };
            let call = mdc.call("return leases", |mut mds, session| {
                let request = v1::ReturnLeasesRequest { session: session.id, ..request.clone() };
                async move { mds.return_leases(request).await }
            });
            result = call.await.map(|_| ());
            if result.is_err() {
                break;
            }
        }
        let closed = mdc.held.lock().told(&numbers, result.is_ok());
        for handle in closed {
            self.close_handle(handle).await;
        }
        result
    }

    /// Caches under this client's leases. Those of a mount that is being taken over are there
    /// before anybody can ask them to forget.
    async fn kernel(&self) -> Option<&Arc<dyn KernelCache>> {
        if self.inner.config.journal.inherited().is_some() {
            loop {
                let attached = self.inner.attached.notified();
                if self.inner.kernel.get().is_some() {
                    break;
                }
                attached.await;
            }
        }
        self.inner.kernel.get()
    }

    async fn kernel_forgets(&self, fids: Vec<Fid>, names: bool) {
        let Some(kernel) = self.kernel().await else { return };
        if names {
            kernel.forget_names().await;
        }
        kernel.forget_inodes(fids).await;
    }

    /// Gives back what is held beyond the limits.
    pub(crate) async fn shed_leases(&self) {
        let cache = &self.inner.cache;
        let (excess, gone) = {
            let mut table = cache.table.lock();
            (table.excess(), table.take_gone(GONE_MIN))
        };
        let mut revoked = gone;
        if !excess.is_empty() {
            revoked.extend(cache.revoke(|table| {
                excess.iter().filter_map(|fid| table.lower(*fid, Mode::None)).collect::<Vec<_>>()
            }));
        }
        if revoked.is_empty() {
            return;
        }
        if let Err(error) = self.give_back(revoked).await {
            tracing::debug!(%error, "leases were not given back");
        }
    }

    /// Leases that came with a request that was made now.
    pub(crate) fn asked(&self) -> Asked {
        self.inner.cache.ask(self.inner.mdc.session().id)
    }
}
