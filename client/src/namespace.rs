//! Names: finding, making, moving and removing them.

use bytes::Bytes;
use nacre_model::{Attr, Fid, FileKind, Name};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::client;
use crate::types::{Caller, CreateKind, DirEntry, DirPage, NewNode, OstSpace, RenameFlags, StatFs};
use crate::{Client, Result};

fn wire_name(name: &Name) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

impl Client {
    /// Finds a name in a directory.
    pub async fn lookup(&self, parent: Fid, name: &Name) -> Result<Attr> {
        let attr = client::lookup(&self.inner.mdc, parent, name.as_bytes()).await?;
        self.true_attr(attr).await
    }

    /// The directory above; the root's is the root itself.
    pub async fn lookup_parent(&self, dir: Fid) -> Result<Attr> {
        if dir == self.root() {
            return self.getattr(dir).await;
        }
        client::lookup(&self.inner.mdc, dir, b"..").await
    }

    /// Attributes that came along with something else, with the size made true.
    async fn true_attr(&self, attr: Attr) -> Result<Attr> {
        if self.attr_is_true(&attr) { Ok(attr) } else { self.getattr(attr.fid).await }
    }

    /// Whether attributes from the MDS are the whole truth.
    fn attr_is_true(&self, attr: &Attr) -> bool {
        let pending = || {
            let inode = self.inner.inodes.get(attr.fid);
            inode.is_some_and(|inode| {
                let state = inode.state.lock();
                state.pending() || state.atime.is_some()
            })
        };
        attr.kind != FileKind::Regular || !(attr.size_lazy || pending())
    }

    /// Makes a file, directory, symbolic link or special file. EEXIST if the name is taken.
    pub async fn create(
        &self,
        caller: Caller,
        parent: Fid,
        name: &Name,
        node: NewNode,
    ) -> Result<Attr> {
        self.must_change()?;
        let op = create_op(parent, wire_name(name), node, true, 0, false);
        self.inner.mdc.change("create", caller, false, Op::Create(op)).await?.attr()
    }

    /// Gives an inode another name.
    pub async fn link(&self, caller: Caller, fid: Fid, parent: Fid, name: &Name) -> Result<Attr> {
        self.must_change()?;
        let op = Op::Link(v1::LinkOp {
            fid: Some(fid.into()),
            parent: Some(parent.into()),
            name: wire_name(name),
        });
        let attr = self.inner.mdc.change("link", caller, false, op).await?.attr()?;
        self.true_attr(attr).await
    }

    /// Removes a name of something that is not a directory.
    pub async fn unlink(&self, caller: Caller, parent: Fid, name: &Name) -> Result<()> {
        self.must_change()?;
        let op = v1::UnlinkOp { parent: Some(parent.into()), name: wire_name(name) };
        self.inner.mdc.change("unlink", caller, false, Op::Unlink(op)).await.map(|_| ())
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, caller: Caller, parent: Fid, name: &Name) -> Result<()> {
        self.must_change()?;
        let op = v1::RmdirOp { parent: Some(parent.into()), name: wire_name(name) };
        self.inner.mdc.change("rmdir", caller, false, Op::Rmdir(op)).await.map(|_| ())
    }

    /// Renames, over an existing file or empty directory unless the flags say otherwise.
    pub async fn rename(
        &self,
        caller: Caller,
        from: (Fid, &Name),
        to: (Fid, &Name),
        flags: RenameFlags,
    ) -> Result<()> {
        self.must_change()?;
        let op = Op::Rename(v1::RenameOp {
            parent: Some(from.0.into()),
            name: wire_name(from.1),
            new_parent: Some(to.0.into()),
            new_name: wire_name(to.1),
            noreplace: flags.contains(RenameFlags::NOREPLACE),
            exchange: flags.contains(RenameFlags::EXCHANGE),
        });
        self.inner.mdc.change("rename", caller, false, op).await.map(|_| ())
    }

    /// Target of a symbolic link.
    pub async fn readlink(&self, fid: Fid) -> Result<Bytes> {
        let call = self.inner.mdc.call("readlink", |mut mds, _| async move {
            mds.readlink(v1::ReadlinkRequest { fid: Some(fid.into()) }).await
        });
        Ok(call.await?.target)
    }

    /// Entries after `cookie` (0: from the start), about `bytes_max` of them, with attributes if
    /// `plus`: absent still where finding the true size takes a question of its own.
    pub async fn readdir(
        &self,
        dir: Fid,
        cookie: u64,
        bytes_max: u32,
        plus: bool,
    ) -> Result<DirPage> {
        let call = self.inner.mdc.call("readdir", |mut mds, _| async move {
            let fid = Some(dir.into());
            mds.readdir(v1::ReaddirRequest { fid, cookie, bytes_max, plus }).await
        });
        let page = call.await?;
        let entries = page.entries.iter().map(|entry| self.entry(entry));
        Ok(DirPage {
            entries: entries.collect::<Result<_>>()?,
            eof: page.eof,
            parent: page.parent.map_or(dir, Into::into),
        })
    }

    fn entry(&self, entry: &v1::DirEntry) -> Result<DirEntry> {
        let attr: Option<Attr> = entry.attr.map(TryInto::try_into).transpose()?;
        let value = u64::from(entry.mode);
        let bad_mode = nacre_proto::convert::BadMessage::Range { field: "mode", value };
        Ok(DirEntry {
            name: nacre_proto::convert::name(&entry.name)?,
            cookie: entry.cookie,
            fid: nacre_proto::convert::required("fid", entry.fid)?.into(),
            kind: FileKind::from_mode(entry.mode).ok_or(bad_mode)?,
            attr: attr.filter(|attr| self.attr_is_true(attr)),
        })
    }

    /// Returns when all changes of the directory that were answered are on disk.
    pub async fn fsyncdir(&self, dir: Fid) -> Result<()> {
        let _ = dir;
        self.sync_mds().await
    }

    pub(crate) async fn sync_mds(&self) -> Result<()> {
        let call = self.inner.mdc.call("sync", |mut mds, session| async move {
            mds.sync(v1::SyncRequest { session: session.id }).await
        });
        call.await.map(|_| ())
    }

    /// Space of the file system, summed over what answers.
    pub async fn statfs(&self) -> Result<StatFs> {
        let call = self
            .inner
            .mdc
            .call("statfs", |mut mds, _| async move { mds.statfs(v1::StatfsRequest {}).await });
        let told = call.await?;
        let mut all = StatFs {
            inodes_used: told.inodes_used,
            inodes_free: told.inodes_free,
            mdt_bytes_total: told.mdt_bytes_total,
            mdt_bytes_free: told.mdt_bytes_free,
            ..StatFs::default()
        };
        for ost in told.osts {
            let value = u64::from(ost.index);
            let bad = |_| nacre_proto::convert::BadMessage::Range { field: "index", value };
            if ost.up {
                all.bytes_total = all.bytes_total.saturating_add(ost.bytes_total);
                all.bytes_free = all.bytes_free.saturating_add(ost.bytes_free);
                all.bytes_available = all.bytes_available.saturating_add(ost.bytes_available);
            }
            all.osts.push(OstSpace {
                ost: nacre_model::OstIndex(u16::try_from(ost.index).map_err(bad)?),
                up: ost.up,
                bytes_total: ost.bytes_total,
                bytes_free: ost.bytes_free,
                bytes_available: ost.bytes_available,
                objects_used: ost.objects_used,
                objects_free: ost.objects_free,
            });
        }
        all.osts.sort_by_key(|space| space.ost);
        Ok(all)
    }

    /// All paths of an inode, from the root of the file system, without leading slash.
    pub async fn fid2path(&self, fid: Fid) -> Result<Vec<Bytes>> {
        let call = self.inner.mdc.call("fid2path", |mut mds, _| async move {
            mds.fid2_path(v1::Fid2PathRequest { fid: Some(fid.into()) }).await
        });
        Ok(call.await?.paths)
    }
}

/// A creation as the wire has it.
pub(crate) fn create_op(
    parent: Fid,
    name: Bytes,
    node: NewNode,
    exclusive: bool,
    handle: u64,
    handle_write: bool,
) -> v1::CreateOp {
    let mode = node.kind.file_kind().mode_bits() | (node.perm & nacre_model::attr::PERM_MASK);
    let (rdev, target) = match node.kind {
        CreateKind::CharDevice(rdev) | CreateKind::BlockDevice(rdev) => (rdev, Bytes::new()),
        CreateKind::Symlink(target) => (0, target.into()),
        CreateKind::Regular | CreateKind::Directory | CreateKind::Fifo | CreateKind::Socket => {
            (0, Bytes::new())
        }
    };
    v1::CreateOp {
        parent: Some(parent.into()),
        name,
        mode,
        umask: node.umask,
        rdev,
        target,
        exclusive,
        handle,
        handle_write,
        layout: node.layout.map(Into::into),
    }
}
