//! The kernel's FUSE protocol: numbers and structures, in the machine's own byte order.
//!
//! Source: Linux `include/uapi/linux/fuse.h`, protocol 7.45; older kernels send and accept
//! prefixes of the same structures from 7.31 on.

pub(super) mod flags;
pub(super) mod input;
pub(super) mod opcode;
pub(super) mod output;

/// The protocol's major version; another one cannot be spoken.
pub(super) const MAJOR: u32 = 7;
/// The newest minor version spoken here.
pub(super) const MINOR: u32 = 45;
/// The oldest minor version spoken here (Linux 5.4): older structures are shorter.
pub(super) const MINOR_MIN: u32 = 31;
/// The kernel's name for the root of the mount.
pub(super) const ROOT_ID: u64 = 1;

/// Rounds up to the eight bytes that directory records are aligned to.
pub(super) const fn align8(len: usize) -> usize {
    len.next_multiple_of(8)
}
