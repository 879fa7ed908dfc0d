//! Opening and closing files.

use std::sync::Arc;

use nacre_model::attr::PERM_MASK;
use nacre_model::{Attr, Errno, Name};

use super::super::abi::input as wire;
use super::super::answer::{Answer, Handle};
use super::super::fs::Filesystem;
use super::super::session::{Call, Session};
use crate::types::{CreateKind, LockKind, LockOwner, NewNode, OpenFlags};

/// Which flag of the library each flag of Linux becomes.
const FLAGS: [(i32, OpenFlags); 6] = [
    (libc::O_APPEND, OpenFlags::APPEND),
    (libc::O_DIRECT, OpenFlags::DIRECT),
    (libc::O_DSYNC, OpenFlags::SYNC),
    (libc::O_NOATIME, OpenFlags::NOATIME),
    (libc::O_TRUNC, OpenFlags::TRUNCATE),
    (libc::O_EXCL, OpenFlags::EXCLUSIVE),
];

/// From the flags of `open(2)`.
fn open_flags(bits: u32) -> OpenFlags {
    let mode = match bits.cast_signed() & libc::O_ACCMODE {
        libc::O_WRONLY => OpenFlags::WRITE,
        libc::O_RDWR => OpenFlags::READ | OpenFlags::WRITE,
        _ => OpenFlags::READ,
    };
    FLAGS
        .into_iter()
        .filter(|(linux, _)| bits.cast_signed() & linux != 0)
        .fold(mode, |flags, (_, ours)| flags | ours)
}

impl<F: Filesystem> Session<F> {
    fn handle(&self, file: F::File, flags: OpenFlags) -> Handle {
        let direct = flags.contains(OpenFlags::DIRECT);
        let Some(fh) = self.fs.number(&file) else {
            return Handle { fh: self.files.insert(file), direct };
        };
        self.files.insert_as(fh, file);
        Handle { fh, direct }
    }

    pub(in super::super) async fn open(
        &self,
        call: &Call,
        args: &wire::OpenIn,
    ) -> Result<Answer, Errno> {
        self.close_unanswered(call).await;
        let flags = open_flags(args.flags) - OpenFlags::EXCLUSIVE;
        let file = self.fs.open(call.caller, call.fid, flags).await?;
        Ok(Answer::Opened { fid: call.fid, file: self.handle(file, flags) })
    }

    /// Another process has opened the file for the same request, and could not say so any more.
    async fn close_unanswered(&self, call: &Call) {
        let Some((fh, fid)) = call.unanswered else { return };
        if let Some(file) = self.closing(fh)
            && let Err(errno) = self.fs.release(&file).await
        {
            tracing::warn!(%fid, %errno, "a file that was opened twice is not closed");
        }
    }

    /// Takes a file out that the kernel will not name again, before the kernel is answered.
    pub(in super::super) fn closing(&self, fh: u64) -> Option<Arc<F::File>> {
        let file = self.files.remove(fh)?;
        self.fs.closes(&file);
        Some(file)
    }

    /// The answer to CREATE and TMPFILE.
    fn created(&self, call: &Call, (attr, file): (Attr, F::File), flags: OpenFlags) -> Answer {
        self.changed(&[call.fid]);
        Answer::Created { dir: call.fid, attr, file: self.handle(file, flags) }
    }

    pub(in super::super) async fn create(
        &self,
        call: &Call,
        args: &wire::CreateIn,
        name: Name,
    ) -> Result<Answer, Errno> {
        self.close_unanswered(call).await;
        let flags = open_flags(args.flags);
        let made = self.fs.create_open(call.caller, call.fid, &name, node(args), flags).await?;
        Ok(self.created(call, made, flags))
    }

    pub(in super::super) async fn tmpfile(
        &self,
        call: &Call,
        args: &wire::CreateIn,
    ) -> Result<Answer, Errno> {
        let flags = open_flags(args.flags);
        if let Some((fh, fid)) = call.unanswered {
            // It has no name: closed, it would be gone.
            let attr = self.fs.getattr(fid).await?;
            let file = Handle { fh, direct: flags.contains(OpenFlags::DIRECT) };
            return Ok(Answer::Created { dir: call.fid, attr, file });
        }
        let made = self.fs.tmpfile(call.caller, call.fid, node(args), flags).await?;
        Ok(self.created(call, made, flags))
    }

    /// A descriptor was closed; others of the same open file may live on.
    pub(in super::super) async fn flush(
        &self,
        call: &Call,
        args: &wire::FlushIn,
    ) -> Result<Answer, Errno> {
        let file = self.files.get(args.fh)?;
        let flushed = self.fs.flush(&file).await;
        if self.posix_holders.closes(call.fid, args.lock_owner) {
            let owner = LockOwner { owner: args.lock_owner, pid: 0 };
            let end = i64::MAX.cast_unsigned();
            self.fs.unlock(call.fid, LockKind::Posix, owner, 0, end).await?;
        }
        flushed?;
        Ok(Answer::empty())
    }

    /// The last descriptor of an open file was closed.
    pub(in super::super) async fn release(
        &self,
        call: &Call,
        args: &wire::ReleaseIn,
        file: Option<Arc<F::File>>,
    ) -> Result<Answer, Errno> {
        if call.flock_close.is_some() {
            let owner = LockOwner { owner: args.lock_owner, pid: 0 };
            let end = i64::MAX.cast_unsigned();
            // The file is closed all the same; a lock that stays goes with the session.
            if let Err(errno) = self.fs.unlock(call.fid, LockKind::Flock, owner, 0, end).await {
                tracing::warn!(fid = %call.fid, %errno, "flock not released at close");
            }
        }
        // None: the process before has closed it, and could not say so any more.
        if let Some(file) = file {
            self.fs.release(&file).await?;
        }
        Ok(Answer::empty())
    }
}

const fn node(args: &wire::CreateIn) -> NewNode {
    NewNode {
        kind: CreateKind::Regular,
        perm: args.mode & PERM_MASK,
        umask: args.umask,
        layout: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_mode_is_not_a_set_of_bits() {
        let flags = |bits: i32| open_flags(bits.cast_unsigned());
        assert_eq!(flags(libc::O_RDONLY), OpenFlags::READ);
        assert_eq!(flags(libc::O_WRONLY | libc::O_TRUNC), OpenFlags::WRITE | OpenFlags::TRUNCATE);
        assert_eq!(
            flags(libc::O_RDWR | libc::O_SYNC | libc::O_APPEND),
            OpenFlags::READ | OpenFlags::WRITE | OpenFlags::SYNC | OpenFlags::APPEND
        );
    }
}
