//! The life of a mount.

use std::sync::{Arc, Weak};
use std::time::Duration;

use nacre_node::Scope;
use nacre_node::tasks::Blocking;

use super::abi::flags::Init;
use super::buffer::BufferPool;
use super::channel::Readers;
use super::device::{Closed, Device, Queues, Transport};
use super::fs::Filesystem;
use super::init::{InitError, Negotiated, handshake};
use super::lease::Grants;
use super::mount::{self, MountError, Unmounted};
use super::notifier;
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
    /// Another process serves it from now on.
    HandedOver,
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
    options: MountOptions,
    stop: Scope,
    ready: impl FnOnce() + Send,
) -> Result<Ended, ServeError> {
    let queues = Queues::open().map_err(MountError::Device)?;
    serve(fs, options, queues, stop, Scope::new(), ready).await
}

/// The same by queues that somebody else keeps open too. If another process has served the mount
/// by them before, this one goes on with it: what that had not answered comes again.
///
/// When `leave` stops, the requests that were begun are answered, and what comes then is left to
/// the next process.
///
/// # Cancel safety
/// Not safe: the mount would stand without anybody to serve it.
pub async fn serve<F: Filesystem>(
    fs: F,
    options: MountOptions,
    queues: Queues,
    stop: Scope,
    leave: Scope,
    ready: impl FnOnce() + Send,
) -> Result<Ended, ServeError> {
    let blocking = Blocking::threads(BLOCKING_CALLS);
    let pool = BufferPool::default();
    let remembered = fs.remembered();
    let (devices, negotiated, options) = match remembered {
        Some(agreed) => (queues.into_devices(), Negotiated::recall(agreed), options),
        None => connect(&fs, &blocking, &pool, options, queues).await?,
    };
    let requests = Scope::new();
    let devices: Vec<_> = devices.into_iter().map(Arc::new).collect();
    let queue: Weak<dyn Transport> = match devices.first() {
        Some(first) => Arc::<Device>::downgrade(first),
        None => Weak::<Device>::new(),
    };
    let session =
        Arc::new(Session::new(fs, negotiated, options.locks, (queue.clone(), requests.clone())));
    keep_unleased_pages_short(&session, &requests);
    if remembered.is_some() {
        ask_again(&queue);
    }
    let mut readers =
        Readers::start(devices, session, pool, requests.clone()).map_err(ServeError::Start)?;
    if remembered.is_none() {
        tune(&blocking, &options).await;
    }
    ready();
    let ended = tokio::select! {
        end = readers.ended() => ended(end),
        () = stop.stopped() => unmount(&blocking, &options, &mut readers).await,
        () = leave.stopped() => {
            readers.leave();
            Ok(Ended::HandedOver)
        }
    };
    // Unlimited only in theory: a lock that is waited for, in a mount that is still busy.
    let finished = tokio::time::timeout(BUSY_GRACE, requests.join()).await;
    match (finished, ended) {
        (Err(_), Ok(Ended::Unmounted)) => Ok(Ended::Busy),
        (_, ended) => ended,
    }
}

/// Mounts, agrees with the kernel, and connects all queues.
async fn connect<F: Filesystem>(
    fs: &F,
    blocking: &Blocking,
    pool: &BufferPool,
    mut options: MountOptions,
    queues: Queues,
) -> Result<(Vec<Device>, Negotiated, MountOptions), ServeError> {
    let (grants, buffers) = (fs.grants(), pool.clone());
    let connected = blocking.run(move || {
        let mut devices = queues.into_devices();
        let first = match devices.pop() {
            Some(device) => device,
            None => Device::open().map_err(MountError::Device)?,
        };
        let first = mount::mount(&mut options, first)?;
        let negotiated = handshake(&first, &buffers, options.locks, grants)?;
        for device in &devices {
            device.join(&first).map_err(ServeError::Start)?;
        }
        devices.push(first);
        Ok::<_, ServeError>((devices, negotiated, options))
    });
    let (devices, negotiated, options) = connected.await?;
    if negotiated.flags.contains(Init::HAS_RESEND) {
        fs.remember(negotiated.remembered());
    } else {
        tracing::info!("the kernel sends nothing again: the mount ends with this process");
    }
    Ok((devices, negotiated, options))
}

/// For what the process before has read and not answered. Before anything is read here, for that
/// would come again too.
fn ask_again(queue: &Weak<dyn Transport>) {
    let Some(queue) = queue.upgrade() else { return };
    if let Err(error) = notifier::resend(&*queue) {
        tracing::error!(%error, "requests that another process had read are lost");
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
