//! Operations on names.

use bytes::Bytes;
use nacre_model::attr::PERM_MASK;
use nacre_model::{Errno, FileKind, Name};

use super::super::abi::input as wire;
use super::super::answer::{Answer, Found};
use super::super::fs::Filesystem;
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
        let (dir, how) = (call.fid, Found::Looked);
        let attr = match target {
            Target::Itself => self.fs.getattr(dir).await?,
            Target::Parent => self.fs.lookup_parent(dir).await?,
            Target::Entry(name) => match self.fs.lookup(dir, &name).await {
                Ok(attr) => attr,
                Err(Errno::ENOENT) => return Ok(Answer::Absent { dir }),
                Err(errno) => return Err(errno),
            },
        };
        Ok(Answer::Entry { dir, attr, how })
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
        self.changed(&[call.fid]);
        Ok(Answer::Entry { dir: call.fid, attr, how: Found::Made })
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
        self.changed(&[call.fid]);
        Ok(Answer::empty())
    }

    pub(in super::super) async fn rmdir(&self, call: &Call, name: Name) -> Result<Answer, Errno> {
        self.fs.rmdir(call.caller, call.fid, &name).await?;
        self.changed(&[call.fid]);
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
        self.changed(&[call.fid, to]);
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
        self.changed(&[call.fid]);
        Ok(Answer::Entry { dir: call.fid, attr, how: Found::Made })
    }
}
