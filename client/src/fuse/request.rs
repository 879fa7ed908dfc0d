//! Requests of the kernel, decoded into owned values.
//!
//! Decoding is total: any bytes give a request or an errno.

use std::ops::Range;

use bytes::Bytes;
use nacre_model::{Errno, Name};

use super::abi::flags::{self, Init};
use super::abi::input::{self as wire, InHeader};
use super::abi::opcode::Opcode;
use super::cursor::{Cursor, Short, name_errno};

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) header: InHeader,
    /// What is asked; or, when that makes no sense, what to answer.
    pub(super) op: Result<Op, Errno>,
    /// Where in the message the payload of a WRITE lies; else empty.
    pub(super) payload: Range<usize>,
}

/// What LOOKUP looks for.
#[derive(Debug)]
pub(super) enum Target {
    /// `.`: the inode itself, by its number.
    Itself,
    /// `..`
    Parent,
    /// An entry of a directory.
    Entry(Name),
}

/// What is asked. Structures stay as the kernel sent them; strings are checked.
#[derive(Debug)]
pub(super) enum Op {
    Lookup(Target),
    Forget(Vec<wire::ForgetOne>),
    Getattr,
    Statx,
    Setattr(wire::SetattrIn),
    Readlink,
    Symlink { name: Name, target: Bytes },
    Mknod(wire::MknodIn, Name),
    Mkdir(wire::MkdirIn, Name),
    Unlink(Name),
    Rmdir(Name),
    Rename { new_parent: u64, flags: u32, name: Name, new_name: Name },
    Link { node: u64, name: Name },
    Open(wire::OpenIn),
    Create(wire::CreateIn, Name),
    Tmpfile(wire::CreateIn),
    Read(wire::ReadIn),
    Write(wire::WriteIn),
    Flush(wire::FlushIn),
    Release(wire::ReleaseIn),
    Fsync(wire::FsyncIn),
    Fallocate(wire::FallocateIn),
    Lseek(wire::LseekIn),
    CopyFileRange { args: wire::CopyFileRangeIn, wide: bool },
    Opendir,
    Readdir { args: wire::ReadIn, plus: bool },
    Releasedir(wire::ReleaseIn),
    Fsyncdir,
    Statfs,
    Syncfs,
    Setxattr { name: Bytes, value: Bytes, flags: u32, kill_sgid: bool },
    Getxattr { name: Bytes, size: u32 },
    Listxattr { size: u32 },
    Removexattr { name: Bytes },
    Getlk(wire::LkIn),
    Setlk { args: wire::LkIn, wait: bool },
    Interrupt { unique: u64 },
    Destroy,
}

impl Op {
    /// Whether doing it twice is not the same as doing it once, or leaves something open.
    pub(super) fn leaves_traces(&self) -> bool {
        match self {
            Self::Write(args) => {
                let appends = args.flags.cast_signed() & libc::O_APPEND != 0;
                appends && args.write_flags & flags::WRITE_CACHE == 0
            }
            Self::Setattr(_)
            | Self::Symlink { .. }
            | Self::Mknod(..)
            | Self::Mkdir(..)
            | Self::Unlink(_)
            | Self::Rmdir(_)
            | Self::Rename { .. }
            | Self::Link { .. }
            | Self::Open(_)
            | Self::Create(..)
            | Self::Tmpfile(_)
            | Self::Setxattr { .. }
            | Self::Removexattr { .. } => true,
            Self::Lookup(_)
            | Self::Forget(_)
            | Self::Getattr
            | Self::Statx
            | Self::Readlink
            | Self::Read(_)
            | Self::Flush(_)
            | Self::Release(_)
            | Self::Fsync(_)
            | Self::Fallocate(_)
            | Self::Lseek(_)
            | Self::CopyFileRange { .. }
            | Self::Opendir
            | Self::Readdir { .. }
            | Self::Releasedir(_)
            | Self::Fsyncdir
            | Self::Statfs
            | Self::Syncfs
            | Self::Getxattr { .. }
            | Self::Listxattr { .. }
            | Self::Getlk(_)
            | Self::Setlk { .. }
            | Self::Interrupt { .. }
            | Self::Destroy => false,
        }
    }
}

/// Decodes `message`, one read of the device. `None`: too short to tell whom to answer.
pub(super) fn decode(message: &[u8], negotiated: Init) -> Option<Request> {
    let mut cursor = Cursor::new(message);
    let header: InHeader = cursor.take().ok()?;
    let mut payload = 0..0;
    let op = match Opcode::from_number(header.opcode) {
        None => Err(Errno::ENOSYS),
        Some(Opcode::Write) => write(&mut cursor, message.len()).map(|(args, range)| {
            payload = range;
            Op::Write(args)
        }),
        Some(opcode) => names(opcode, &mut cursor, negotiated, header.nodeid),
    };
    Some(Request { header, op, payload })
}

/// The payload is the rest of the message; a kernel that announces more is not believed.
fn write(cursor: &mut Cursor<'_>, len: usize) -> Result<(wire::WriteIn, Range<usize>), Errno> {
    let args: wire::WriteIn = cursor.take()?;
    let start = size_of::<InHeader>() + size_of::<wire::WriteIn>();
    let size = usize::try_from(args.size).map_err(|_| Errno::EINVAL)?;
    match start.checked_add(size) {
        Some(end) if end <= len => Ok((args, start..end)),
        _ => Err(Errno::EINVAL),
    }
}

/// Operations on names; the rest goes on to [`files`].
#[expect(clippy::wildcard_enum_match_arm, reason = "the other half is decoded elsewhere")]
fn names(opcode: Opcode, at: &mut Cursor<'_>, negotiated: Init, nodeid: u64) -> Result<Op, Errno> {
    Ok(match opcode {
        Opcode::Lookup => Op::Lookup(target(at)?),
        Opcode::Symlink => {
            let name = at.name()?;
            Op::Symlink { name, target: Bytes::copy_from_slice(at.string()?) }
        }
        Opcode::Mknod => Op::Mknod(at.take()?, at.name()?),
        Opcode::Mkdir => Op::Mkdir(at.take()?, at.name()?),
        Opcode::Unlink => Op::Unlink(at.name()?),
        Opcode::Rmdir => Op::Rmdir(at.name()?),
        Opcode::Rename => {
            let args: wire::RenameIn = at.take()?;
            rename(args.newdir, 0, at)?
        }
        Opcode::Rename2 => {
            let args: wire::Rename2In = at.take()?;
            rename(args.newdir, args.flags, at)?
        }
        Opcode::Link => {
            let args: wire::LinkIn = at.take()?;
            Op::Link { node: args.oldnodeid, name: at.name()? }
        }
        Opcode::Create => Op::Create(at.take()?, at.name()?),
        Opcode::Setxattr => setxattr(at, negotiated)?,
        Opcode::Getxattr => {
            let args: wire::GetxattrIn = at.take()?;
            Op::Getxattr { name: Bytes::copy_from_slice(at.string()?), size: args.size }
        }
        Opcode::Removexattr => Op::Removexattr { name: Bytes::copy_from_slice(at.string()?) },
        other => files(other, at, nodeid)?,
    })
}

fn target(at: &mut Cursor<'_>) -> Result<Target, Errno> {
    Ok(match at.string()? {
        b"." => Target::Itself,
        b".." => Target::Parent,
        name => Target::Entry(Name::new(name).map_err(name_errno)?),
    })
}

fn rename(new_parent: u64, flags: u32, at: &mut Cursor<'_>) -> Result<Op, Errno> {
    Ok(Op::Rename { new_parent, flags, name: at.name()?, new_name: at.name()? })
}

fn setxattr(at: &mut Cursor<'_>, negotiated: Init) -> Result<Op, Errno> {
    let (size, flags, extra) = if negotiated.contains(Init::SETXATTR_EXT) {
        let args: wire::SetxattrIn = at.take()?;
        (args.size, args.flags, args.setxattr_flags)
    } else {
        let args: wire::SetxattrCompatIn = at.take()?;
        (args.size, args.flags, 0)
    };
    Ok(Op::Setxattr {
        name: Bytes::copy_from_slice(at.string()?),
        value: Bytes::copy_from_slice(at.bytes(size)?),
        flags,
        kill_sgid: extra & flags::SETXATTR_ACL_KILL_SGID != 0,
    })
}

/// Operations on inodes and open files.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no arm here is not supported")]
fn files(opcode: Opcode, at: &mut Cursor<'_>, nodeid: u64) -> Result<Op, Errno> {
    Ok(match opcode {
        Opcode::Forget => Op::Forget(vec![wire::ForgetOne {
            nodeid,
            lookups: at.take::<wire::ForgetIn>()?.lookups,
        }]),
        Opcode::BatchForget => forgets(at)?,
        Opcode::Getattr => Op::Getattr,
        Opcode::Statx => Op::Statx,
        Opcode::Setattr => Op::Setattr(at.take()?),
        Opcode::Readlink => Op::Readlink,
        Opcode::Open => Op::Open(at.take()?),
        Opcode::Tmpfile => Op::Tmpfile(at.take()?),
        Opcode::Read => Op::Read(at.take()?),
        Opcode::Flush => Op::Flush(at.take()?),
        Opcode::Release => Op::Release(at.take()?),
        Opcode::Fsync => Op::Fsync(at.take()?),
        Opcode::Fallocate => Op::Fallocate(at.take()?),
        Opcode::Lseek => Op::Lseek(at.take()?),
        Opcode::CopyFileRange => Op::CopyFileRange { args: at.take()?, wide: false },
        Opcode::CopyFileRange64 => Op::CopyFileRange { args: at.take()?, wide: true },
        Opcode::Opendir => Op::Opendir,
        Opcode::Readdir => Op::Readdir { args: at.take()?, plus: false },
        Opcode::Readdirplus => Op::Readdir { args: at.take()?, plus: true },
        Opcode::Releasedir => Op::Releasedir(at.take()?),
        Opcode::Fsyncdir => Op::Fsyncdir,
        Opcode::Statfs => Op::Statfs,
        Opcode::Syncfs => Op::Syncfs,
        Opcode::Listxattr => {
            let args: wire::GetxattrIn = at.take()?;
            Op::Listxattr { size: args.size }
        }
        Opcode::Getlk => Op::Getlk(at.take()?),
        Opcode::Setlk => Op::Setlk { args: at.take()?, wait: false },
        Opcode::Setlkw => Op::Setlk { args: at.take()?, wait: true },
        Opcode::Interrupt => {
            let args: wire::InterruptIn = at.take()?;
            Op::Interrupt { unique: args.unique }
        }
        Opcode::Destroy => Op::Destroy,
        Opcode::Ioctl => return Err(ENOTTY),
        // ACCESS: the kernel checks permissions itself. POLL: every file is always ready.
        _ => return Err(Errno::ENOSYS),
    })
}

fn forgets(at: &mut Cursor<'_>) -> Result<Op, Errno> {
    let args: wire::BatchForgetIn = at.take()?;
    // As many as are announced, but no more than there are.
    Ok(Op::Forget((0..args.count).map_while(|_| at.take().ok()).collect()))
}

/// What `ioctl` says where there is no such operation.
const ENOTTY: Errno = Errno(25);

/// Takes INIT apart: the header, what every kernel sends, and the second flag word.
pub(super) fn decode_init(message: &[u8]) -> Result<(InHeader, wire::InitIn, u32), Short> {
    let mut cursor = Cursor::new(message);
    let header: InHeader = cursor.take()?;
    if Opcode::from_number(header.opcode) != Some(Opcode::Init) {
        return Err(Short);
    }
    let init: wire::InitIn = cursor.take()?;
    let flags2 = if Init::from_bits_retain(u64::from(init.flags)).contains(Init::INIT_EXT) {
        cursor.take()?
    } else {
        0
    };
    Ok((header, init, flags2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn message(opcode: u32, body: &[u8]) -> Vec<u8> {
        let header: InHeader = zerocopy::FromZeros::new_zeroed();
        let header = InHeader { opcode, unique: 2, ..header };
        [header.as_bytes(), body].concat()
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_request_or_an_errno(
            opcode in 0u32..60,
            body in prop::collection::vec(any::<u8>(), 0..300),
            flags in any::<u64>(),
        ) {
            let bytes = message(opcode, &body);
            let request = decode(&bytes, Init::from_bits_retain(flags)).unwrap();
            prop_assert!(request.payload.end <= bytes.len());
            // What comes as INIT is taken apart elsewhere.
            let _init = decode_init(&bytes);
        }
    }

    #[test]
    fn a_write_that_announces_more_than_it_brings_is_refused() {
        let mut args: wire::WriteIn = zerocopy::FromZeros::new_zeroed();
        args.size = 5;
        let mut body = args.as_bytes().to_vec();
        body.extend_from_slice(b"four");
        let write = |body: &[u8]| decode(&message(16, body), Init::empty()).unwrap();
        assert_eq!(write(&body).op.unwrap_err(), Errno::EINVAL);
        body.push(b'!');
        assert_eq!(write(&body).payload, 80..85);
    }

    #[test]
    fn unknown_operations_are_told_apart_from_unsupported_ioctls() {
        let errno = |opcode| decode(&message(opcode, &[0; 64]), Init::empty()).unwrap().op.err();
        assert_eq!(errno(999), Some(Errno::ENOSYS));
        assert_eq!(errno(39), Some(ENOTTY));
        assert_eq!(errno(40), Some(Errno::ENOSYS));
    }

    #[test]
    fn the_flags_of_setxattr_are_read_only_when_they_were_agreed_on() {
        let body = [&2u32.to_ne_bytes()[..], &1u32.to_ne_bytes(), b"user.a\0vv"].concat();
        let op = decode(&message(21, &body), Init::empty()).unwrap().op.unwrap();
        assert!(matches!(op, Op::Setxattr { flags: 1, kill_sgid: false, .. }), "{op:?}");
        let long = [&2u32.to_ne_bytes()[..], &1u32.to_ne_bytes(), &1u64.to_ne_bytes(), b"u\0vv"];
        let op = decode(&message(21, &long.concat()), Init::SETXATTR_EXT).unwrap().op.unwrap();
        assert!(matches!(op, Op::Setxattr { flags: 1, kill_sgid: true, .. }), "{op:?}");
    }
}
