//! INIT: the first request, in which both sides agree on what they can do.

use std::io::IoSlice;

use zerocopy::IntoBytes;

use super::abi::flags::Init;
use super::abi::output::{InitOut, OutHeader};
use super::abi::{MAJOR, MINOR, MINOR_MIN};
use super::buffer::{BufferPool, MAX_WRITE_BYTES};
use super::device::{Closed, Transport};
use super::lease::Grants;
use super::notifier;
use super::options::LockScope;
use super::request::decode_init;

/// Asynchronous requests (readahead, direct I/O) that the kernel keeps under way.
const BACKGROUND_MAX: u16 = 256;
/// From so many on it considers the mount congested and holds readahead back.
const CONGESTION: u16 = 192;
/// Readahead that the kernel may do; it takes the lesser of this and its own setting, in bytes.
const READAHEAD_MAX: u32 = 16 << 20;
/// Pages of one request: 1 MiB.
const PAGES_MAX: u16 = 256;

/// Why no connection came to be.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The kernel speaks an older protocol than Linux 5.4.
    #[error("the kernel speaks FUSE {major}.{minor}, but {MAJOR}.{MINOR_MIN} is the oldest known")]
    TooOld {
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
    },
    /// The first request was another one.
    #[error("the kernel's first request was not INIT")]
    NotInit,
    /// The mount was undone before it began.
    #[error("unmounted before the first request")]
    Unmounted,
    /// The device failed.
    #[error("/dev/fuse")]
    Device(#[from] std::io::Error),
}

impl From<Closed> for InitError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Unmounted | Closed::Aborted => Self::Unmounted,
            Closed::Broken(error) => Self::Device(error),
        }
    }
}

/// What both sides agreed on. Together with the descriptor it is all that another process needs
/// to go on serving the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negotiated {
    pub(super) flags: Init,
    /// What the kernel may be granted.
    pub(super) grants: Grants,
}

/// Where the grants stand in what is remembered; the kernel's flags are below.
const GRANTS_SHIFT: u32 = 60;

impl Negotiated {
    /// For another process to go on with; never 0.
    pub(super) fn remembered(self) -> u64 {
        let grants = match self.grants {
            Grants::Nothing => 1,
            Grants::Inodes => 2,
            Grants::All => 3,
        };
        self.flags.bits() | (grants << GRANTS_SHIFT)
    }

    pub(super) fn recall(remembered: u64) -> Self {
        let grants = match remembered >> GRANTS_SHIFT {
            3 => Grants::All,
            2 => Grants::Inodes,
            _ => Grants::Nothing,
        };
        let flags = Init::from_bits_truncate(remembered & ((1 << GRANTS_SHIFT) - 1));
        Self { flags, grants }
    }
}

/// Flags that are taken when the kernel offers them.
///
/// Not among them: `WRITEBACK_CACHE` (the kernel would trust its own size and mtime over the
/// server's), `NO_OPEN_SUPPORT` (opens count), `READDIRPLUS_AUTO` (who lists first and asks for
/// attributes then would have them for the first page only), `ATOMIC_O_TRUNC` (`O_RDONLY | O_TRUNC`
/// of a program that runs would empty it before the kernel says ETXTBSY).
fn wanted(locks: LockScope, grants: Grants) -> Init {
    let mut flags = Init::ASYNC_READ
        | Init::EXPORT_SUPPORT
        | Init::BIG_WRITES
        | Init::DONT_MASK
        | Init::AUTO_INVAL_DATA
        | Init::ASYNC_DIO
        | Init::PARALLEL_DIROPS
        | Init::POSIX_ACL
        | Init::ABORT_ERROR
        | Init::MAX_PAGES
        | Init::HANDLE_KILLPRIV_V2
        | Init::SETXATTR_EXT
        | Init::INIT_EXT
        | Init::DIRECT_IO_ALLOW_MMAP
        | Init::HAS_RESEND;
    if locks != LockScope::Local {
        flags |= Init::POSIX_LOCKS | Init::FLOCK_LOCKS;
    }
    if grants != Grants::Nothing {
        // A link never leads elsewhere.
        flags |= Init::CACHE_SYMLINKS;
    }
    if grants == Grants::All {
        flags |= Init::DO_READDIRPLUS;
    }
    flags
}

/// Answers INIT. Blocks until the kernel sends it, which it does when it mounts.
pub(super) fn handshake(
    device: &dyn Transport,
    pool: &BufferPool,
    locks: LockScope,
    grants: Grants,
) -> Result<Negotiated, InitError> {
    let mut buffer = pool.get();
    loop {
        let len = device.receive(buffer.space())?;
        let message = buffer.message(len);
        let (header, init, flags2) = decode_init(message).map_err(|_| InitError::NotInit)?;
        if init.major < MAJOR || (init.major == MAJOR && init.minor < MINOR_MIN) {
            send(device, header.unique, -libc::EPROTO, &[])?;
            return Err(InitError::TooOld { major: init.major, minor: init.minor });
        }
        let offered = u64::from(init.flags) | (u64::from(flags2) << 32);
        let flags = wanted(locks, grants) & Init::from_bits_retain(offered);
        let out = answer(flags);
        send(device, header.unique, 0, out.as_bytes())?;
        // A newer major version asks again, with ours.
        if init.major == MAJOR {
            let grants = possible(device, grants);
            tracing::debug!(minor = init.minor, flags = ?flags, ?grants, "connected to the kernel");
            return Ok(Negotiated { flags, grants });
        }
    }
}

/// Names may be kept only by a kernel that can forget them.
fn possible(device: &dyn Transport, grants: Grants) -> Grants {
    match grants {
        Grants::All if !notifier::knows_epochs(device) => Grants::Inodes,
        Grants::Nothing | Grants::Inodes | Grants::All => grants,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
fn answer(flags: Init) -> InitOut {
    InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead: READAHEAD_MAX,
        flags: flags.bits() as u32,
        max_background: BACKGROUND_MAX,
        congestion_threshold: CONGESTION,
        max_write: MAX_WRITE_BYTES as u32,
        time_gran: 1,
        max_pages: PAGES_MAX,
        map_alignment: 0,
        flags2: (flags.bits() >> 32) as u32,
        max_stack_depth: 0,
        request_timeout: 0,
        unused: [0; 11],
    }
}

fn send(device: &dyn Transport, unique: u64, error: i32, body: &[u8]) -> std::io::Result<()> {
    let len = size_of::<OutHeader>().saturating_add(body.len());
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let header = OutHeader { len, error, unique };
    device.send(&[IoSlice::new(header.as_bytes()), IoSlice::new(body)])
}
