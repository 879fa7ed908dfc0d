//! Operations on names.

use bytes::Bytes;
use nacre_model::attr::PERM_MASK;
use nacre_model::{Errno, FileKind, Name};

use super::super::abi::input as wire;
use super::super::fs::Filesystem;
use super::super::reply::Answer;
use super::super::request::Target;
use super::super::session::{Call, Session};
use crate::types::{CreateKind, NewNode, RenameFlags};

/// `renameat2` flags, as Linux numbers them.
const RENAME_NOREPLACE: u32 = 1 << 0;
const RENAME_EXCHANGE: u32 = 1 << 1;

impl<F: Filesystem> Session<F> {
    pub(in super::super) async fn lookup(
        &self,
        call: &Call,
        target: Target,
    ) -> Result<Answer, Errno> {
        let attr = match target {
            Target::Itself => self.fs.getattr(call.fid).await?,
            Target::Parent => self.fs.lookup_parent(call.fid).await?,
            Target::Entry(name) => self.fs.lookup(call.fid, &name).await?,
        };
        Ok(self.entry(&attr))
    }

    pub(in super::super) async fn readlink(&self, call: &Call) -> Result<Answer, Errno> {
        Ok(Answer::data(vec![self.fs.readlink(call.fid).await?]))
    }

    /// Makes something that is not opened at once.
    async fn make(
        &self,
        call: &Call,
        name: Name,
        kind: CreateKind,
        (mode, umask): (u32, u32),
    ) -> Result<Answer, Errno> {
        let node = NewNode { kind, perm: mode & PERM_MASK, umask, layout: None };
        let attr = self.fs.create(call.caller, call.fid, &name, node).await?;
        Ok(self.entry(&attr))
    }

    pub(in super::super) async fn symlink(
        &self,
        call: &Call,
        name: Name,
        target: Bytes,
    ) -> Result<Answer, Errno> {
        self.make(call, name, CreateKind::Symlink(target.to_vec()), (0o777, 0)).await
    }

    pub(in super::super) async fn mknod(
        &self,
        call: &Call,
        args: &wire::MknodIn,
        name: Name,
    ) -> Result<Answer, Errno> {
        let device = u64::from(args.rdev);
        let kind = match FileKind::from_mode(args.mode) {
            Some(FileKind::Regular) => CreateKind::Regular,
            Some(FileKind::Fifo) => CreateKind::Fifo,
            Some(FileKind::Socket) => CreateKind::Socket,
            Some(FileKind::CharDevice) => CreateKind::CharDevice(device),
            Some(FileKind::BlockDevice) => CreateKind::BlockDevice(device),
            Some(FileKind::Directory | FileKind::Symlink) | None => return Err(Errno::EINVAL),
        };
        self.make(call, name, kind, (args.mode, args.umask)).await
    }

    pub(in super::super) async fn mkdir(
        &self,
        call: &Call,
        args: &wire::MkdirIn,
        name: Name,
    ) -> Result<Answer, Errno> {
        self.make(call, name, CreateKind::Directory, (args.mode, args.umask)).await
    }

    pub(in super::super) async fn unlink(&self, call: &Call, name: Name) -> Result<Answer, Errno> {
        self.fs.unlink(call.caller, call.fid, &name).await?;
        Ok(Answer::empty())
    }

    pub(in super::super) async fn rmdir(&self, call: &Call, name: Name) -> Result<Answer, Errno> {
        self.fs.rmdir(call.caller, call.fid, &name).await?;
        Ok(Answer::empty())
    }

    pub(in super::super) async fn rename(
        &self,
        call: &Call,
        new_parent: u64,
        flags: u32,
        name: Name,
        new_name: Name,
    ) -> Result<Answer, Errno> {
        let flags = match flags {
            0 => RenameFlags::empty(),
            RENAME_NOREPLACE => RenameFlags::NOREPLACE,
            RENAME_EXCHANGE => RenameFlags::EXCHANGE,
            // RENAME_WHITEOUT, and both at once.
            _ => return Err(Errno::EINVAL),
        };
        let to = self.nodes.fid(new_parent);
        self.fs.rename(call.caller, (call.fid, &name), (to, &new_name), flags).await?;
        Ok(Answer::empty())
    }

    pub(in super::super) async fn link(
        &self,
        call: &Call,
        node: u64,
        name: Name,
    ) -> Result<Answer, Errno> {
        let fid = self.nodes.fid(node);
        let attr = self.fs.link(call.caller, fid, call.fid, &name).await?;
        Ok(self.entry(&attr))
    }
}
