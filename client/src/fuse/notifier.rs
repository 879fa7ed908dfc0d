//! Telling the kernel to forget.

use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nacre_model::Fid;
use nacre_node::tasks::Blocking;
use parking_lot::{Condvar, Mutex};
use zerocopy::IntoBytes;

use super::abi::output::{
    InvalInodeOut, NOTIFY_INC_EPOCH, NOTIFY_INVAL_INODE, NOTIFY_RESEND, OutHeader,
};
use super::device::Transport;
use super::kept::Kept;
use super::nodes::Nodes;

/// Notifications that the kernel carries out at a time: each may wait for pages to be written
/// back, and the next must not wait for those.
const AT_ONCE: usize = 64;
/// How long a process may take to take up what it was answered. It has nothing to wait for.
const TAKE_UP: Duration = Duration::from_secs(5);
/// Between two questions whether it has.
const AGAIN: Duration = Duration::from_micros(200);

/// Takes back what the kernel was allowed to keep. Cloning shares it.
///
/// Each method resolves when the kernel has forgotten. To forget pages that were changed through a
/// mapping it writes them back first, by requests to the very file system; they are served
/// meanwhile, so nothing may be locked that they need. Dropping a future does not take back what the
/// kernel was told already. They are to be called within a tokio runtime. When the mount is gone there is nothing to forget, and all return at once.
///
/// Names are forgotten for all directories at once, because for a single one the kernel would wait
/// for the directory's lock, and whoever has it may wait for an answer that waits for the
/// revocation. The price, paid when a name is looked up the next time: the pages of its file go, if
/// nobody has it open, and what else was mounted on it is unmounted.
#[derive(Debug, Clone)]
pub struct Notifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Closed with the mount, not with the last of these.
    queue: Weak<dyn Transport>,
    nodes: Nodes,
    kept: Arc<Kept>,
    forgetting: Mutex<()>,
    epochs: bool,
    blocking: Blocking,
    pause: (Mutex<()>, Condvar),
}

/// Whether the kernel can be told to forget names; asks by telling.
pub(super) fn knows_epochs(queue: &dyn Transport) -> bool {
    match notify(queue, NOTIFY_INC_EPOCH, &[]) {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, "the kernel cannot forget names: it will keep none");
            false
        }
    }
}

/// Asks for all requests that another process has read and not answered.
pub(super) fn resend(queue: &dyn Transport) -> io::Result<()> {
    notify(queue, NOTIFY_RESEND, &[])
}

/// A message that answers no request.
fn notify(queue: &dyn Transport, code: i32, body: &[u8]) -> io::Result<()> {
    let len = size_of::<OutHeader>().saturating_add(body.len());
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let header = OutHeader { len, error: code, unique: 0 };
    queue.send(&[IoSlice::new(header.as_bytes()), IoSlice::new(body)])
}

impl Notifier {
    pub(super) fn new(
        queue: Weak<dyn Transport>,
        nodes: Nodes,
        kept: Arc<Kept>,
        epochs: bool,
    ) -> Self {
        let blocking = Blocking::threads(AT_ONCE);
        let pause = (Mutex::default(), Condvar::default());
        let forgetting = Mutex::default();
        Self(Arc::new(Inner { queue, nodes, kept, forgetting, epochs, blocking, pause }))
    }

    /// The attributes of `fid`, its cached ACLs included.
    pub async fn inval_attr(&self, fid: Fid) {
        self.inval(fid, -1, 0).await;
    }

    /// The attributes of `fid`, and all its pages; of a directory the cached listing.
    pub async fn inval_inode(&self, fid: Fid) {
        self.inval(fid, 0, 0).await;
    }

    /// The attributes of `fid`, and its pages from `offset` on; `len` 0: to the end.
    pub async fn inval_range(&self, fid: Fid, offset: u64, len: u64) {
        let [offset, len] = [offset, len].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        // The last page must have a number.
        let len = if offset.checked_add(len).is_some() { len } else { 0 };
        self.inval(fid, offset, len).await;
    }

    /// All names of all directories, absent ones too. It costs the same for one as for all; each
    /// is looked up again when it is used next.
    pub async fn inval_names(&self) {
        let inner = Arc::clone(&self.0);
        if inner.epochs {
            self.0.blocking.run(move || inner.inval_names()).await;
        }
    }

    /// Attributes of `fid` that are on their way to a process will not be believed. Does not wait
    /// for anything, pages least of all. The caller holds up a process that uses `fid`.
    pub(super) fn overtake(&self, fid: Fid) {
        let Some(queue) = self.0.queue.upgrade() else { return };
        self.0.kept.known.overtaken(fid);
        let body = InvalInodeOut { ino: self.0.nodes.id(fid), off: -1, len: 0 };
        match notify(&*queue, NOTIFY_INVAL_INODE, body.as_bytes()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            outcome => told(outcome),
        }
    }

    /// All pages of `fid`, whose size the kernel knows and keeps.
    pub(super) async fn inval_pages(&self, fid: Fid, size: u64) {
        self.0.kept.known.overtaken_with(fid, size);
        let inner = Arc::clone(&self.0);
        self.0.blocking.run(move || inner.inval_inode(fid, 0, 0)).await;
    }

    async fn inval(&self, fid: Fid, off: i64, len: i64) {
        self.0.kept.known.overtaken(fid);
        let inner = Arc::clone(&self.0);
        self.0.blocking.run(move || inner.inval_inode(fid, off, len)).await;
    }
}

impl Inner {
    /// Until the kernel has done it, or does not know the inode and never will by an answer that
    /// was sent already.
    fn inval_inode(&self, fid: Fid, off: i64, len: i64) {
        let body = InvalInodeOut { ino: self.nodes.id(fid), off, len };
        let deadline = deadline();
        while let Some(queue) = self.queue.upgrade() {
            match notify(&*queue, NOTIFY_INVAL_INODE, body.as_bytes()) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    if !self.kept.known.knows(fid) {
                        return;
                    }
                    if Instant::now() >= deadline {
                        tracing::warn!(%fid, "the kernel does not take up what it was told");
                        return;
                    }
                    drop(queue);
                    self.wait_a_little();
                }
                outcome => return told(outcome),
            }
        }
    }

    fn inval_names(&self) {
        let Some(queue) = self.queue.upgrade() else { return };
        // Whoever comes second must not return before the first has done it.
        let _one_at_a_time = self.forgetting.lock();
        if !self.kept.names.recall(Instant::now()) {
            return;
        }
        // Names of a listing that is taken up later would count as new.
        if !self.kept.linking.settle(deadline()) {
            tracing::warn!("the kernel does not take up a listing");
        }
        told(notify(&*queue, NOTIFY_INC_EPOCH, &[]));
    }

    fn wait_a_little(&self) {
        let _timed_out = self.pause.1.wait_for(&mut self.pause.0.lock(), AGAIN);
    }
}

fn deadline() -> Instant {
    let now = Instant::now();
    now.checked_add(TAKE_UP).unwrap_or(now)
}

fn told(outcome: io::Result<()>) {
    if let Err(error) = outcome
        // The mount is gone, and with it all that the kernel remembered.
        && !matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ECONNABORTED | libc::ENOTCONN))
    {
        tracing::error!(%error, "the kernel refused to forget");
    }
}
