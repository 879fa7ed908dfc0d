//! `/dev/fuse`, and what stands between it and the rest: [`Transport`].

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::channel::reader_count;

/// `ioctl` on a fresh descriptor: makes it a further queue of the connection whose descriptor is
/// passed. Linux: `FUSE_DEV_IOC_CLONE`.
const DEV_IOC_CLONE: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(229, 0);

/// One queue of requests of a connection.
///
/// A request is answered on the queue it came from. Another implementation (requests by
/// `io_uring`, a recorded trace) takes the place of [`Device`] here.
pub(super) trait Transport: Send + Sync + Debug + 'static {
    /// Waits for the next request and stores it in `space`; its length in bytes.
    fn receive(&self, space: &mut [u8]) -> Result<usize, Closed>;

    /// Sends one answer, which `segments` are together.
    fn send(&self, segments: &[IoSlice<'_>]) -> io::Result<()>;
}

/// Why no further request comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// The mount is gone.
    #[error("unmounted")]
    Unmounted,
    /// Somebody ended the connection by force; the mount point still stands.
    #[error("connection aborted")]
    Aborted,
    /// The connection is broken.
    #[error("read /dev/fuse")]
    Broken(#[source] io::Error),
}

/// Descriptors of `/dev/fuse`: all queues of one mount, connected to it or not yet. As long as
/// somebody has them open, requests that were read from them stay.
#[derive(Debug)]
pub struct Queues(Vec<OwnedFd>);

impl Queues {
    /// As many as a mount on this machine has.
    pub fn open() -> io::Result<Self> {
        (0..reader_count()).map(|_| Ok(Device::open()?.0)).collect::<io::Result<_>>().map(Self)
    }

    /// Those that somebody else has opened.
    pub const fn from_fds(fds: Vec<OwnedFd>) -> Self {
        Self(fds)
    }

    /// To be passed on.
    pub fn fds(&self) -> &[OwnedFd] {
        &self.0
    }

    pub(super) fn into_devices(self) -> Vec<Device> {
        self.0.into_iter().map(Device).collect()
    }
}

/// An open descriptor of `/dev/fuse`.
#[derive(Debug)]
pub(super) struct Device(OwnedFd);

impl Device {
    /// Not connected to a mount yet.
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/dev/fuse", flags, Mode::empty())?))
    }

    /// A connection that somebody else made: a mount helper, or an earlier process.
    pub(super) const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Becomes a further queue of that connection, with a lock of its own in the kernel.
    pub(super) fn join(&self, connection: &Self) -> io::Result<()> {
        clone_onto(&self.0, &connection.0)
    }
}

#[expect(unsafe_code, reason = "rustix has no wrapper for this ioctl")]
fn clone_onto(fresh: &OwnedFd, of: &OwnedFd) -> io::Result<()> {
    let of = u32::try_from(of.as_raw_fd()).expect("an open descriptor is not negative");
    // SAFETY: the request reads one u32, the descriptor of the connection, and writes nothing;
    // `Setter` passes a pointer to a live u32 for the length of the call.
    unsafe {
        let request = rustix::ioctl::Setter::<DEV_IOC_CLONE, u32>::new(of);
        rustix::ioctl::ioctl(fresh.as_fd(), request)?;
    }
    Ok(())
}

impl Transport for Device {
    fn receive(&self, space: &mut [u8]) -> Result<usize, Closed> {
        loop {
            match rustix::io::read(&self.0, &mut *space) {
                Ok(len) => return Ok(len),
                // ENOENT: the request was interrupted before it was read.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(Errno::NODEV) => return Err(Closed::Unmounted),
                Err(Errno::CONNABORTED) => return Err(Closed::Aborted),
                Err(error) => return Err(Closed::Broken(error.into())),
            }
        }
    }

    fn send(&self, segments: &[IoSlice<'_>]) -> io::Result<()> {
        rustix::io::writev(&self.0, segments)?;
        Ok(())
    }
}
