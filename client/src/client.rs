//! A mount's client: its parts, how it starts and how it ends.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nacre_model::{Attr, Errno, Fid, Name};
use nacre_node::Peers;
use nacre_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use crate::cache::{Cache, KernelCache, Mode};
use crate::inode::Inodes;
use crate::mdc::Mdc;
use crate::osc::Osc;
use crate::takeover::Inherited;
use crate::{ClientConfig, ClientError, Result};

/// Handles waiting to be closed at the MDS.
const CLOSE_QUEUE: usize = 4096;
/// Handles of one Close request.
const CLOSE_BATCH: usize = 512;
/// Closing waits this long for more to close: nobody waits for it.
const CLOSE_DELAY: Duration = Duration::from_millis(2);
/// Bytes kept of files that live in their inodes.
const CONTENT_BYTES_MAX: u32 = 64 << 20;
/// Written data leaves at the latest after this.
const FLUSH_AGE: Duration = Duration::from_secs(1);
/// Files written out at a time.
const FLUSH_FILES: usize = 32;
/// Time that saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// One client of one file system. Cheap to clone; all clones are the same client.
///
/// Every future may be dropped at any point: what was already sent may then still happen, and is
/// carried to its end in the background, so that the client's own state stays right.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pub(crate) peers: Peers,
    pub(crate) mdc: Arc<Mdc>,
    pub(crate) osc: Osc,
    pub(crate) inodes: Inodes,
    pub(crate) cache: Arc<Cache>,
    /// Caches under this client's leases, if it is mounted.
    pub(crate) kernel: OnceLock<Arc<dyn KernelCache>>,
    pub(crate) attached: Notify,
    /// One permit for each byte that may be dirty.
    pub(crate) dirty_budget: Semaphore,
    /// Somebody waits for `dirty_budget`: everything dirty shall leave.
    pub(crate) pressure: Notify,
    /// Bytes kept to be sent again.
    pub(crate) retained: AtomicU64,
    /// One permit for each byte that may be fetched ahead.
    pub(crate) readahead_budget: Arc<Semaphore>,
    /// For the bytes of files that live in their inodes.
    pub(crate) content_budget: Arc<Semaphore>,
    pub(crate) closing: mpsc::Sender<u64>,
    /// What another process had under way, until the mount takes it.
    pub(crate) inherited: Mutex<Option<Inherited>>,
    root: Fid,
}

impl Client {
    /// Finds the cluster by its MGS, opens a session with the MDS and resolves the subdirectory.
    ///
    /// # Errors
    /// [`crate::ClientError::Unreachable`] after `connect_deadline`; ENOENT or ENOTDIR for the
    /// subdirectory.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        let mut map = nacre_node::mgc::watch(
            Arc::clone(&config.net),
            config.mgs.clone(),
            config.fsname.clone(),
            &config.scope,
        );
        let peers = Peers::new(Arc::clone(&config.net), map.clone());
        let ready = map.wait_for(|map| {
            map.as_ref().is_some_and(|map| map.mdt(nacre_model::MdtIndex(0)).is_some())
        });
        let ready = tokio::time::timeout(config.connect_deadline, ready).await;
        // The map must not stay borrowed while the MDS is waited for.
        let found = matches!(ready, Ok(Ok(_)));
        drop(ready);
        if !found {
            return Err(ClientError::Unreachable {
                fsname: config.fsname.clone(),
                role: "mgs that knows an mds",
                addresses: config.mgs.join(","),
            });
        }
        let cache = Arc::new(Cache::new());
        let before = config.journal.take_rest();
        let records: Vec<_> = before.iter().map(|(record, _)| *record).collect();
        let (mdc, recalls) =
            Mdc::connect(&config, peers.clone(), Arc::clone(&cache), &records).await?;
        let root = resolve(&mdc, &config.subdir).await?;
        let osc = Osc::new(peers.clone(), config.ost_deadline, mdc.session_id());
        let (closing, queue) = mpsc::channel(CLOSE_QUEUE);
        let bytes = |n: u32| Semaphore::new(usize::try_from(n).unwrap_or(Semaphore::MAX_PERMITS));
        let client = Self {
            inner: Arc::new(Inner {
                peers,
                osc,
                inodes: Inodes::default(),
                cache,
                kernel: OnceLock::new(),
                attached: Notify::new(),
                dirty_budget: bytes(config.dirty_bytes_max),
                pressure: Notify::new(),
                retained: AtomicU64::new(0),
                readahead_budget: Arc::new(bytes(config.readahead_bytes_max)),
                content_budget: Arc::new(bytes(CONTENT_BYTES_MAX)),
                closing,
                inherited: Mutex::default(),
                root,
                mdc,
                config,
            }),
        };
        client.start_recalls(recalls);
        client.start_closer(queue);
        client.start_flusher();
        client.take_over(before).await;
        Ok(client)
    }

    /// Writes out what is dirty, closes what is open and says goodbye to the MDS. The client's
    /// tasks end with the scope, which is the caller's.
    pub async fn disconnect(&self) -> Result<()> {
        self.write_all_home().await;
        let mdc = &self.inner.mdc;
        mdc.leave();
        let goodbye = mdc.call("close session", |mut mds, session| async move {
            mds.close_session(v1::CloseSessionRequest { session: session.id }).await
        });
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(result) => result.map(|_| ()),
            Err(_) => Err(ClientError::MdsSilent { op: "close session" }),
        }
    }

    /// What the kernel keeps shall be forgotten when a lease goes. Once, before the kernel is told
    /// anything.
    pub fn attach(&self, kernel: Arc<dyn KernelCache>) {
        if self.inner.kernel.set(kernel).is_err() {
            tracing::warn!("a client is mounted twice");
        }
        self.inner.attached.notify_waiters();
    }

    /// The directory that is the root of this mount.
    pub fn root(&self) -> Fid {
        self.inner.root
    }

    /// The newest cluster map.
    pub fn map(&self) -> Option<Arc<nacre_model::ClusterMap>> {
        self.inner.peers.map()
    }

    pub(crate) fn must_change(&self) -> Result<()> {
        if self.inner.config.read_only {
            return Err(ClientError::refused(Errno::EROFS, "mounted read-only"));
        }
        Ok(())
    }

    /// Closes handles at the MDS, as many at a time as have come together.
    fn start_closer(&self, mut queue: mpsc::Receiver<u64>) {
        let mdc = Arc::clone(&self.inner.mdc);
        self.inner.config.scope.spawn("close-handles", async move {
            let mut batch = Vec::new();
            while let Some(first) = queue.recv().await {
                tokio::time::sleep(CLOSE_DELAY).await;
                batch.push(first);
                while batch.len() < CLOSE_BATCH
                    && let Ok(next) = queue.try_recv()
                {
                    batch.push(next);
                }
                let handles = &batch;
                let closed = mdc
                    .call("close", |mut mds, session| {
                        let handles = handles.clone();
                        let request = v1::CloseRequest { session: session.id, handles };
                        async move { mds.close(request).await }
                    })
                    .await;
                if let Err(error) = closed {
                    tracing::warn!(count = batch.len(), %error, "handles were not closed");
                }
                let mut held = mdc.held.lock();
                for handle in batch.drain(..) {
                    held.gone(handle);
                }
            }
        });
    }

    /// Sends dirty data that has grown old, and all of it when somebody waits for room.
    fn start_flusher(&self) {
        let client = self.clone();
        self.inner.config.scope.spawn("flush-dirty", async move {
            let mut tick = tokio::time::interval(FLUSH_AGE / 2);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let pressed = tokio::select! {
                    _ = tick.tick() => false,
                    () = client.inner.pressure.notified() => true,
                };
                let due = client.inner.inodes.select(|state| {
                    let old = |since: Instant| since.elapsed() >= FLUSH_AGE;
                    let dirty = state.dirty_since.is_some_and(old) || pressed;
                    let closed = state.handles() == 0;
                    (dirty && !state.dirty.is_empty()) || (closed && state.untold())
                });
                for some in due.chunks(FLUSH_FILES) {
                    let sent = some.iter().map(|inode| client.flush_old(inode));
                    crate::join::join_all(sent).await;
                }
                client.shed_leases().await;
                crate::metrics::leases(client.inner.cache.held_count());
                crate::metrics::dirty_bytes(client.dirty_bytes());
                crate::metrics::retained_bytes(
                    client.inner.retained.load(std::sync::atomic::Ordering::Relaxed),
                );
            }
        });
    }

    /// Sends what is dirty of one file, and if it is closed what the MDS must be told of it.
    async fn flush_old(&self, inode: &Arc<crate::inode::Inode>) {
        if inode.state.lock().handles() > 0 {
            self.send_dirty(inode, crate::flush::What::All, false).await;
            return;
        }
        self.write_home(inode).await;
        if self.inner.cache.mode(inode.fid) == Mode::None {
            self.inner.inodes.forget_idle(inode);
        }
        self.drop_retained(inode);
    }

    /// Everything written is with the servers, and the MDS knows of it; also what another task has
    /// begun to tell.
    async fn write_all_home(&self) {
        let until = Instant::now() + GOODBYE;
        let mut due = self.inner.inodes.select(|state| state.pending() || state.untold());
        loop {
            for some in due.chunks(FLUSH_FILES) {
                crate::join::join_all(some.iter().map(|inode| self.write_home(inode))).await;
            }
            due = self.inner.inodes.select(crate::inode::State::in_transit);
            if due.is_empty() || Instant::now() >= until {
                return;
            }
            tokio::time::sleep(CLOSE_DELAY).await;
        }
    }

    /// Everything written through this client is on the disks when this returns.
    pub async fn sync_all(&self) -> Result<()> {
        self.write_all_home().await;
        let written = self.inner.inodes.select(|state| !state.objects.is_empty());
        for some in written.chunks(FLUSH_FILES) {
            let commits = some.iter().map(|inode| self.commit(inode));
            for committed in crate::join::join_all(commits).await {
                committed?;
            }
        }
        self.sync_mds().await
    }

    /// Bytes written and not yet answered.
    fn dirty_bytes(&self) -> u64 {
        let free = self.inner.dirty_budget.available_permits() as u64;
        u64::from(self.inner.config.dirty_bytes_max).saturating_sub(free)
    }
}

/// Walks down from the root of the file system.
async fn resolve(mdc: &Arc<Mdc>, path: &[u8]) -> Result<Fid> {
    let mut at = mdc.session().root;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let name = Name::new(part).map_err(nacre_proto::convert::BadMessage::from)?;
        let attr = lookup(mdc, at, name.as_bytes()).await?;
        if attr.kind != nacre_model::FileKind::Directory {
            return Err(ClientError::refused(Errno::ENOTDIR, "subdirectory to mount"));
        }
        at = attr.fid;
    }
    Ok(at)
}

/// Attributes of a name, as the MDS has them.
pub(crate) async fn lookup(mdc: &Arc<Mdc>, parent: Fid, name: &[u8]) -> Result<Attr> {
    let name = bytes::Bytes::copy_from_slice(name);
    let response = mdc
        .call("lookup", |mut mds, session| {
            let (parent, name) = (Some(parent.into()), name.clone());
            let request = v1::LookupRequest { parent, name, session: session.id };
            async move { mds.lookup(request).await }
        })
        .await?;
    Ok(nacre_proto::convert::required("attr", response.attr)?.try_into()?)
}
