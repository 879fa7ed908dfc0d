//! Operations on the data of open files.

use bytes::Bytes;
use nacre_model::{Errno, ServiceError};

use super::super::abi::flags;
use super::super::abi::input as wire;
use super::super::abi::output::{CopyOut, LseekOut, WriteOut};
use super::super::answer::{Answer, Body};
use super::super::fs::Filesystem;
use super::super::session::{Call, Session};
use crate::types::{AllocateMode, SeekFrom, WriteFlags};

/// Which flag of the library each flag of the descriptor becomes.
const FLAGS: [(i32, WriteFlags); 3] = [
    (libc::O_APPEND, WriteFlags::APPEND),
    (libc::O_DSYNC, WriteFlags::SYNC),
    (libc::O_DIRECT, WriteFlags::DIRECT),
];

fn write_flags(args: &wire::WriteIn) -> WriteFlags {
    let mut flags = WriteFlags::empty();
    if args.write_flags & flags::WRITE_KILL_SUIDGID != 0 {
        flags |= WriteFlags::KILL_SUIDGID;
    }
    if args.write_flags & flags::WRITE_CACHE != 0 {
        // Pages of a mapping go where they belong, however the descriptor was opened.
        return flags | WriteFlags::PAGE_CACHE;
    }
    FLAGS
        .into_iter()
        .filter(|(linux, _)| args.flags.cast_signed() & linux != 0)
        .fold(flags, |flags, (_, ours)| flags | ours)
}

impl<F: Filesystem> Session<F> {
    pub(in super::super) async fn read(
        &self,
        call: &Call,
        args: &wire::ReadIn,
    ) -> Result<Answer, Errno> {
        let file = self.files.get(args.fh)?;
        let mut parts = self.fs.read(&file, args.offset, u64::from(args.size)).await?;
        // The kernel refuses an answer longer than it asked for.
        let mut left = usize::try_from(args.size).unwrap_or(usize::MAX);
        for part in &mut parts {
            part.truncate(left);
            left = left.saturating_sub(part.len());
        }
        let end = left > 0;
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let end = end.then(|| args.offset.saturating_add(len));
        Ok(Answer::Pages { fid: call.fid, data: parts, end })
    }

    pub(in super::super) async fn write(
        &self,
        call: &Call,
        args: &wire::WriteIn,
        data: Bytes,
    ) -> Result<Answer, Errno> {
        let file = self.files.get(args.fh)?;
        self.fs.write(&file, args.offset, data, write_flags(args)).await?;
        let body = Body::of(&WriteOut { size: args.size, padding: 0 });
        let end = args.offset.saturating_add(args.size.into());
        Ok(Answer::Written { fid: call.fid, end, body })
    }

    pub(in super::super) async fn fsync(&self, args: &wire::FsyncIn) -> Result<Answer, Errno> {
        let file = self.files.get(args.fh)?;
        self.fs.fsync(&file, args.flags & flags::FSYNC_FDATASYNC != 0).await?;
        Ok(Answer::empty())
    }

    pub(in super::super) async fn fallocate(
        &self,
        call: &Call,
        args: &wire::FallocateIn,
    ) -> Result<Answer, Errno> {
        let file = self.files.get(args.fh)?;
        let mode = AllocateMode::from_bits(args.mode.cast_signed()).map_err(|e| e.errno())?;
        self.fs.fallocate(&file, mode, args.offset, args.length).await?;
        self.changed(&[call.fid]);
        Ok(Answer::empty())
    }

    pub(in super::super) async fn lseek(&self, args: &wire::LseekIn) -> Result<Answer, Errno> {
        let file = self.files.get(args.fh)?;
        let from = match args.whence.cast_signed() {
            libc::SEEK_DATA => SeekFrom::Data(args.offset),
            libc::SEEK_HOLE => SeekFrom::Hole(args.offset),
            // The kernel does the others itself.
            _ => return Err(Errno::EINVAL),
        };
        let offset = self.fs.lseek(&file, from).await?;
        Ok(Answer::of(&LseekOut { offset }))
    }

    /// The older request is answered with 32 bits, so no more is copied for it.
    pub(in super::super) async fn copy_file_range(
        &self,
        args: &wire::CopyFileRangeIn,
        wide: bool,
    ) -> Result<Answer, Errno> {
        if args.flags != 0 {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (self.files.get(args.fh_in)?, self.files.get(args.fh_out)?);
        let len = if wide { args.len } else { args.len.min(u64::from(u32::MAX) & !0xfff) };
        let copied =
            self.fs.copy_file_range((&from, args.off_in), (&to, args.off_out), len).await?;
        if wide {
            return Ok(Answer::of(&CopyOut { bytes: copied }));
        }
        let size = u32::try_from(copied).map_err(|_| Errno::EIO)?;
        Ok(Answer::of(&WriteOut { size, padding: 0 }))
    }
}
