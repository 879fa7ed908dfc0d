//! Names: finding, making, moving and removing them.

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid, FileKind, Name, ServiceError};
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::cache::{Asked, Effect, Known, Mode};
use crate::client;
use crate::journal::Request;
use crate::mdc::Changed;
use crate::types::{Caller, CreateKind, DirEntry, DirPage, NewNode, OstSpace, RenameFlags, StatFs};
use crate::{Client, ClientError, Result};

fn wire_name(name: &Name) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

impl Client {
    /// Finds a name in a directory.
    pub async fn lookup(&self, parent: Fid, name: &Name) -> Result<Attr> {
        match self.inner.cache.name(parent, name.as_bytes()) {
            Known::To(fid) => self.getattr(fid).await,
            Known::Absent => Err(no_entry()),
            Known::Nothing => self.ask_name(parent, name).await,
        }
    }

    async fn ask_name(&self, parent: Fid, name: &Name) -> Result<Attr> {
        let asked = self.asked();
        let (dir, bytes) = (Some(parent.into()), wire_name(name));
        let call = self.inner.mdc.call("lookup", |mut mds, session| {
            let (parent, name) = (dir, bytes.clone());
            let request = v1::LookupRequest { parent, name, session: session.id };
            async move { mds.lookup(request).await }
        });
        let response = call.await?;
        let cache = &self.inner.cache;
        if response.absent {
            cache.learn_name(asked, parent, response.parent_lease, bytes, None);
            return Err(no_entry());
        }
        let attr: Attr = nacre_proto::convert::required("attr", response.attr)?.try_into()?;
        let fid = attr.fid;
        cache.learn_name(asked, parent, response.parent_lease, bytes, Some(fid));
        cache.learn(asked, fid, response.lease, Some(&attr));
        match self.own_attr(attr) {
            Some(attr) if self.inner.cache.mode(fid) > Mode::None => Ok(attr),
            Some(attr) if self.inner.inodes.get(fid).is_none() => Ok(attr),
            Some(_) | None => self.getattr(fid).await,
        }
    }

    /// The directory above; the root's is the root itself.
    pub async fn lookup_parent(&self, dir: Fid) -> Result<Attr> {
        if dir == self.root() {
            return self.getattr(dir).await;
        }
        client::lookup(&self.inner.mdc, dir, b"..").await
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
        let changed = self.send_create(caller, parent, op).await?;
        changed.attr()
    }

    /// Sends a creation, and takes in what it made.
    pub(crate) async fn send_create(
        &self,
        caller: Caller,
        parent: Fid,
        op: v1::CreateOp,
    ) -> Result<Changed> {
        let name = op.name.clone();
        let op = Op::Create(op);
        let (changed, changing) = self.change(caller, &[parent], "create", false, op).await?;
        let mut effects: Vec<_> = changed.of_directories().collect();
        if let Some(attr) = &changed.attr {
            changing.made(attr.fid, changed.lease, attr);
            if !name.is_empty() {
                effects.push((parent, Effect::Name(name, Some(attr.fid))));
            }
        }
        changing.done(&effects);
        Ok(changed)
    }

    /// Gives an inode another name.
    pub async fn link(&self, caller: Caller, fid: Fid, parent: Fid, name: &Name) -> Result<Attr> {
        self.must_change()?;
        let name = wire_name(name);
        let op = Op::Link(v1::LinkOp {
            fid: Some(fid.into()),
            parent: Some(parent.into()),
            name: name.clone(),
        });
        let (changed, changing) = self.change(caller, &[fid, parent], "link", false, op).await?;
        if let Some(inode) = self.inner.inodes.get(fid) {
            inode.state.lock().nameless = false;
        }
        let attr = required("attr", changed.attr.clone())?;
        let mut effects: Vec<_> = changed.of_directories().collect();
        effects.push((parent, Effect::Name(name, Some(fid))));
        effects.push((fid, Effect::Attr(&attr)));
        changing.done(&effects);
        match self.own_attr(attr) {
            Some(attr) => Ok(attr),
            None => self.getattr(fid).await,
        }
    }

    /// Removes a name of something that is not a directory.
    pub async fn unlink(&self, caller: Caller, parent: Fid, name: &Name) -> Result<()> {
        self.must_change()?;
        let op = v1::UnlinkOp { parent: Some(parent.into()), name: wire_name(name), fid: None };
        self.remove(caller, (parent, name), "unlink", Op::Unlink(op)).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, caller: Caller, parent: Fid, name: &Name) -> Result<()> {
        self.must_change()?;
        let op = v1::RmdirOp { parent: Some(parent.into()), name: wire_name(name), fid: None };
        self.remove(caller, (parent, name), "rmdir", Op::Rmdir(op)).await
    }

    async fn remove(
        &self,
        caller: Caller,
        (parent, name): (Fid, &Name),
        op_name: &'static str,
        op: Op,
    ) -> Result<()> {
        let victim = self.victim(parent, name).await?;
        let about: Vec<Fid> = victim.into_iter().chain([parent]).collect();
        let (changed, changing) = self.change(caller, &about, op_name, false, op).await?;
        let mut effects: Vec<_> = changed.of_directories().collect();
        effects.push((parent, Effect::Name(wire_name(name), None)));
        if let (Some(fid), Some(attr)) = (victim, &changed.attr) {
            effects.push((fid, Effect::Attr(attr)));
        }
        changing.done(&effects);
        if let Some(attr) = changed.attr.filter(|attr| attr.nlink == 0 || op_name == "rmdir") {
            self.inode_is_gone(attr.fid);
        }
        Ok(())
    }

    /// What a name leads to that is about to be removed. The server must know if it is open.
    async fn victim(&self, parent: Fid, name: &Name) -> Result<Option<Fid>> {
        if !self.inner.config.leases {
            return Ok(None);
        }
        let fid = match self.inner.cache.name(parent, name.as_bytes()) {
            Known::To(fid) => fid,
            // The server says what is wrong.
            Known::Absent => return Ok(None),
            Known::Nothing => match self.ask_name(parent, name).await {
                Ok(attr) => attr.fid,
                Err(error) if error.errno() == Errno::ENOENT => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        if self.inner.mdc.held.lock().untold(fid) {
            self.tell_handles(Some(&[fid])).await?;
        }
        Ok(Some(fid))
    }

    /// An inode without names: if nobody has it open here, nothing of it need be kept or written.
    pub(crate) fn inode_is_gone(&self, fid: Fid) {
        if let Some(inode) = self.inner.inodes.get(fid) {
            let mut state = inode.state.lock();
            if state.handles() > 0 {
                state.nameless = true;
                return;
            }
            drop(state);
            self.discard(&inode);
            self.inner.inodes.forget_idle(&inode);
        }
        self.inner.cache.gone(fid);
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
            replaced: None,
        });
        let may_be_done = Request::may_be_done();
        let moved = self.victim(from.0, from.1).await?;
        let replaced = self.victim(to.0, to.1).await?;
        let last_name = replaced
            .and_then(|fid| self.inner.cache.attr(fid))
            .is_some_and(|attr| attr.nlink == 1 || attr.kind == FileKind::Directory);
        let about: Vec<Fid> = [from.0, to.0].into_iter().chain(moved).chain(replaced).collect();
        let (changed, changing) = self.change(caller, &about, "rename", false, op).await?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        // Two names of one inode: both stay.
        let same = moved == replaced;
        let left = if exchange { replaced } else { moved.filter(|_| same) };
        let mut effects: Vec<_> = changed.of_directories().collect();
        if let Some(moved) = moved {
            effects.push((from.0, Effect::Name(wire_name(from.1), left)));
            effects.push((to.0, Effect::Name(wire_name(to.1), Some(moved))));
        }
        changing.done(&effects);
        if let Some(fid) = replaced.filter(|_| last_name && !exchange && !same && !may_be_done) {
            self.inode_is_gone(fid);
        }
        Ok(())
    }

    /// Target of a symbolic link.
    pub async fn readlink(&self, fid: Fid) -> Result<Bytes> {
        if let Some(target) = self.inner.cache.target(fid) {
            return Ok(target);
        }
        let asked = self.asked();
        let call = self.inner.mdc.call("readlink", |mut mds, session| async move {
            let fid = Some(fid.into());
            mds.readlink(v1::ReadlinkRequest { fid, session: session.id }).await
        });
        let target = call.await?.target;
        self.inner.cache.learn_target(asked, fid, target.clone());
        Ok(target)
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
        let asked = self.asked();
        let call = self.inner.mdc.call("readdir", |mut mds, session| async move {
            let (fid, session) = (Some(dir.into()), session.id);
            mds.readdir(v1::ReaddirRequest { fid, cookie, bytes_max, plus, session }).await
        });
        let page = call.await?;
        self.inner.cache.learn(asked, dir, page.lease, None);
        let entries = page.entries.iter().map(|entry| self.entry(asked, (dir, page.lease), entry));
        Ok(DirPage {
            entries: entries.collect::<Result<_>>()?,
            eof: page.eof,
            parent: page.parent.map_or(dir, Into::into),
        })
    }

    /// An entry of a listing, which came with that lease on the directory.
    fn entry(
        &self,
        asked: Asked,
        (dir, lease): (Fid, Option<v1::Lease>),
        entry: &v1::DirEntry,
    ) -> Result<DirEntry> {
        let attr: Option<Attr> = entry.attr.map(TryInto::try_into).transpose()?;
        let value = u64::from(entry.mode);
        let bad_mode = nacre_proto::convert::BadMessage::Range { field: "mode", value };
        let fid = nacre_proto::convert::required("fid", entry.fid)?.into();
        let cache = &self.inner.cache;
        if let Some(attr) = &attr {
            cache.learn(asked, fid, entry.lease, Some(attr));
            cache.learn_name(asked, dir, lease, entry.name.clone(), Some(fid));
        }
        Ok(DirEntry {
            name: nacre_proto::convert::name(&entry.name)?,
            cookie: entry.cookie,
            fid,
            kind: FileKind::from_mode(entry.mode).ok_or(bad_mode)?,
            attr: attr.and_then(|attr| self.own_attr(attr)),
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

fn no_entry() -> ClientError {
    ClientError::refused(Errno::ENOENT, "no such name in the directory")
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
