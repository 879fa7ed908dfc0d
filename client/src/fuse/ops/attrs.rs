//! Operations on attributes.

use nacre_model::attr::PERM_MASK;
use nacre_model::{Attr, Errno, Timestamp};

use super::super::abi::flags::Setattr;
use super::super::abi::input as wire;
use super::super::answer::Answer;
use super::super::encode;
use super::super::fs::Filesystem;
use super::super::session::{Call, Session};
use crate::types::{SetAttr, SetTime};

impl<F: Filesystem> Session<F> {
    pub(in super::super) async fn getattr(&self, call: &Call) -> Result<Answer, Errno> {
        let attr = self.fs.getattr(call.fid).await?;
        self.drop_unleased(&attr).await;
        Ok(Answer::Attr(attr))
    }

    pub(in super::super) async fn statx(&self, call: &Call) -> Result<Answer, Errno> {
        let attr = self.fs.getattr(call.fid).await?;
        self.drop_unleased(&attr).await;
        Ok(Answer::Statx(attr))
    }

    /// The kernel is about to read, or it asks for some other reason.
    async fn drop_unleased(&self, attr: &Attr) {
        let known = &self.kept.known;
        self.unleased.answering(attr.fid, attr.size, known, &self.kernel).await;
    }

    pub(in super::super) async fn setattr(
        &self,
        call: &Call,
        args: &wire::SetattrIn,
    ) -> Result<Answer, Errno> {
        let valid = Setattr::from_bits_retain(args.valid);
        let file = if valid.contains(Setattr::FH) { Some(self.files.get(args.fh)?) } else { None };
        let change = wanted(args, valid)?;
        let attr = self.fs.setattr(call.caller, call.fid, change, file.as_deref()).await?;
        Ok(Answer::Set(attr))
    }

    pub(in super::super) async fn statfs(&self) -> Result<Answer, Errno> {
        Ok(Answer::of(&encode::statfs(&self.fs.statfs().await?)))
    }

    pub(in super::super) async fn syncfs(&self) -> Result<Answer, Errno> {
        self.fs.syncfs().await?;
        Ok(Answer::empty())
    }
}

/// CTIME is passed over: the server stamps every change itself.
fn wanted(args: &wire::SetattrIn, valid: Setattr) -> Result<SetAttr, Errno> {
    let time = |at: Setattr, now: Setattr, secs: i64, nanos: u32| {
        if valid.contains(now) {
            return Ok(Some(SetTime::Now));
        }
        if !valid.contains(at) {
            return Ok(None);
        }
        Timestamp::new(secs, nanos).map(|time| Some(SetTime::At(time))).ok_or(Errno::EINVAL)
    };
    Ok(SetAttr {
        perm: valid.contains(Setattr::MODE).then_some(args.mode & PERM_MASK),
        uid: valid.contains(Setattr::UID).then_some(args.uid),
        gid: valid.contains(Setattr::GID).then_some(args.gid),
        size: valid.contains(Setattr::SIZE).then_some(args.size),
        atime: time(Setattr::ATIME, Setattr::ATIME_NOW, args.atime, args.atime_nsec)?,
        mtime: time(Setattr::MTIME, Setattr::MTIME_NOW, args.mtime, args.mtime_nsec)?,
        kill_suidgid: valid.contains(Setattr::KILL_SUIDGID),
    })
}
