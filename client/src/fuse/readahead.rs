//! How far the kernel reads ahead of a reader.
//!
//! Its own setting is 128 KiB, which makes every sequential read of a megabyte eight requests. What
//! INIT agrees on can only lower it; raising it takes a file in `/sys`, and the right to write it.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// In units of that file. Two requests of a megabyte are under way while a third is used.
const READ_AHEAD_KIB: u32 = 4096;

/// Raises the readahead of the mount on `target`. Without the right to, it stays as it is.
pub(super) fn raise(target: &Path) -> io::Result<()> {
    // What the kernel knows without asking the mount, that is, us.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(CWD, target, flags, StatxFlags::empty())?;
    let file =
        format!("/sys/class/bdi/{}:{}/read_ahead_kb", stat.stx_dev_major, stat.stx_dev_minor);
    std::fs::write(file, READ_AHEAD_KIB.to_string())
}
