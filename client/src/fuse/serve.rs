//! The life of a mount.

use std::sync::{Arc, Weak};
use std::time::Duration;

use nacre_node::Scope;
use nacre_node::tasks::Blocking;

use super::buffer::BufferPool;
use super::channel::Readers;
use super::device::{Closed, Device, Transport};
use super::fs::Filesystem;
use super::init::{InitError, handshake};
use super::lease::Grants;
use super::mount::{self, MountError, Unmounted};
use super::options::MountOptions;
use super::readahead;
use super::session::Session;

/// How long a mount that was asked to end is served while files in it are open, and then how long
/// requests are waited for that were begun.
const BUSY_GRACE: Duration = Duration::from_secs(5);
/// Blocking calls of one mount: mounting, unmounting.
const BLOCKING_CALLS: usize = 2;

/// Why a mount could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing was mounted.
    #[error("mount")]
    Mount(#[from] MountError),
    /// The kernel and this program do not understand each other.
    #[error("agree with the kernel")]
    Init(#[from] InitError),
    /// No threads, or no further queues.
    #[error("start reading requests")]
    Start(#[source] std::io::Error),
    /// The kernel's side broke.
    #[error("read requests")]
    Broken(#[source] std::io::Error),
    /// Asked to end, and the kernel did not let go.
    #[error("unmount {target}")]
    Unmount {
        /// Where it is mounted.
        target: std::path::PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// How a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Unmounted, by `umount` or because `stop` said so.
    Unmounted,
    /// Out of sight because `stop` said so, but files in it are still open; whoever has them gets
    /// `ENOTCONN` when the process ends.
    Busy,
    /// Somebody ended the connection by force.
    Aborted,
}

/// Mounts `fs` and serves it until it is unmounted, or until `stop` stops, upon which it is
/// unmounted (lazily, if it is busy).
///
/// `ready` is called once when the mount can be used. Every request that was begun is answered
/// before this returns, unless it says [`Ended::Busy`]. What the file system itself holds back is
/// its owner's to flush.
///
/// # Cancel safety
/// Not safe: the mount would stand without anybody to serve it.
pub async fn mount_and_serve<F: Filesystem>(
    fs: F,
    mut options: MountOptions,
    stop: Scope,
    ready: impl FnOnce() + Send,
) -> Result<Ended, ServeError> {
    let blocking = Blocking::threads(BLOCKING_CALLS);
    let pool = BufferPool::default();
    let grants = fs.grants();
    let buffers = pool.clone();
    let (device, negotiated, options) = blocking
        .run(move || {
            let device = mount::mount(&mut options)?;
            let negotiated = handshake(&device, &buffers, options.locks, grants)?;
            Ok::<_, ServeError>((device, negotiated, options))
        })
        .await?;
    let requests = Scope::new();
    let device = Arc::new(device);
    let queue: Weak<dyn Transport> = Arc::<Device>::downgrade(&device);
    let session = Arc::new(Session::new(fs, negotiated, options.locks, (queue, requests.clone())));
    keep_unleased_pages_short(&session, &requests);
    let mut readers =
        Readers::start(device, session, pool, requests.clone()).map_err(ServeError::Start)?;
    tune(&blocking, &options).await;
    ready();
    let ended = tokio::select! {
        end = readers.ended() => ended(end),
        () = stop.stopped() => unmount(&blocking, &options, &mut readers).await,
    };
    // Unlimited only in theory: a lock that is waited for, in a mount that is still busy.
    let finished = tokio::time::timeout(BUSY_GRACE, requests.join()).await;
    match (finished, ended) {
        (Err(_), Ok(Ended::Unmounted)) => Ok(Ended::Busy),
        (_, ended) => ended,
    }
}

fn keep_unleased_pages_short<F: Filesystem>(session: &Arc<Session<F>>, scope: &Scope) {
    if session.grants != Grants::Nothing {
        let session = Arc::clone(session);
        scope.spawn("drop pages without a lease", async move {
            session.unleased.keep_dropping(&session.kernel).await;
        });
    }
}

/// Mounts left by a failure are the business of the next mount, which clears them.
async fn tune(blocking: &Blocking, options: &MountOptions) {
    let target = options.target.clone();
    if let Err(error) = blocking.run(move || readahead::raise(&target)).await {
        tracing::debug!(%error, "readahead stays as it is");
    }
}

fn ended(end: Closed) -> Result<Ended, ServeError> {
    match end {
        Closed::Unmounted => Ok(Ended::Unmounted),
        Closed::Aborted => Ok(Ended::Aborted),
        Closed::Broken(error) => Err(ServeError::Broken(error)),
    }
}

async fn unmount(
    blocking: &Blocking,
    options: &MountOptions,
    readers: &mut Readers,
) -> Result<Ended, ServeError> {
    let target = options.target.clone();
    let unmounted = blocking.run(move || mount::unmount(&target)).await;
    let unmounted = unmounted
        .map_err(|source| ServeError::Unmount { target: options.target.clone(), source })?;
    if unmounted == Unmounted::WhenIdle {
        tracing::info!("the mount is busy: out of sight, but served a little longer");
    }
    match tokio::time::timeout(BUSY_GRACE, readers.ended()).await {
        Ok(end) => ended(end),
        Err(_) => Ok(Ended::Busy),
    }
}
