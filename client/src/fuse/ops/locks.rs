//! `flock` and `fcntl` locks.

use nacre_model::Errno;

use super::super::abi::flags;
use super::super::abi::input as wire;
use super::super::abi::output::LkOut;
use super::super::answer::Answer;
use super::super::fs::Filesystem;
use super::super::options::LockScope;
use super::super::session::{Call, Session};
use crate::types::{LockHold, LockKind, LockMode, LockOwner};

/// `F_RDLCK`, `F_WRLCK`, `F_UNLCK`, as the kernel numbers them.
const READ: u32 = 0;
const WRITE: u32 = 1;
const UNLOCK: u32 = 2;

const fn family(args: &wire::LkIn) -> LockKind {
    if args.lk_flags & flags::LK_FLOCK != 0 { LockKind::Flock } else { LockKind::Posix }
}

const fn owner(args: &wire::LkIn) -> LockOwner {
    LockOwner { owner: args.owner, pid: args.pid }
}

/// `None`: to unlock.
fn hold(args: &wire::LkIn) -> Result<Option<LockHold>, Errno> {
    let mode = match args.kind {
        READ => LockMode::Read,
        WRITE => LockMode::Write,
        UNLOCK => return Ok(None),
        _ => return Err(Errno::EINVAL),
    };
    if args.start > args.end {
        return Err(Errno::EINVAL);
    }
    let (kind, owner) = (family(args), owner(args));
    Ok(Some(LockHold { kind, mode, owner, start: args.start, end: args.end }))
}

impl<F: Filesystem> Session<F> {
    fn check_offered(&self) -> Result<(), Errno> {
        match self.locks {
            LockScope::Cluster => Ok(()),
            LockScope::Local | LockScope::None => Err(Errno::ENOSYS),
        }
    }

    pub(in super::super) async fn getlk(
        &self,
        call: &Call,
        args: &wire::LkIn,
    ) -> Result<Answer, Errno> {
        self.check_offered()?;
        let wish = hold(args)?.ok_or(Errno::EINVAL)?;
        let answer = match self.fs.test_lock(call.fid, wish).await? {
            None => LkOut { start: args.start, end: args.end, kind: UNLOCK, pid: 0 },
            Some(other) => LkOut {
                start: other.start,
                end: other.end,
                kind: match other.mode {
                    LockMode::Read => READ,
                    LockMode::Write => WRITE,
                },
                pid: other.owner.pid,
            },
        };
        Ok(Answer::of(&answer))
    }

    /// A waiting request ends with `EINTR` when its process gets a signal; dropping the library's
    /// future takes the request back at the server.
    pub(in super::super) async fn setlk(
        &self,
        call: Call,
        args: &wire::LkIn,
    ) -> Result<Answer, Errno> {
        self.check_offered()?;
        let Some(wish) = hold(args)? else {
            let range = (args.start, args.end);
            self.fs.unlock(call.fid, family(args), owner(args), range.0, range.1).await?;
            return Ok(Answer::empty());
        };
        match wish.kind {
            LockKind::Posix => self.posix_holders.may_hold(call.fid, args.owner),
            LockKind::Flock => self.flock_closes.settled(call.fid).await,
        }
        match &call.interrupt {
            None => self.fs.lock(call.fid, wish, false).await?,
            Some(interrupt) => tokio::select! {
                biased;
                taken = self.fs.lock(call.fid, wish, true) => taken?,
                () = interrupt.token().cancelled() => return Err(Errno::EINTR),
            },
        }
        Ok(Answer::empty())
    }
}
