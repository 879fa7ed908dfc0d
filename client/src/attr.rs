//! Attributes, with the true size.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use nacre_model::layout::FILE_BYTES_MAX;
use nacre_model::{Attr, Errno, Fid, FileKind};
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::cache::Mode;
use crate::flush::Exact;
use crate::handle::OpenFile;
use crate::inode::Inode;
use crate::mdc::Changed;
use crate::types::{Caller, SetAttr, SetTime};
use crate::{Client, ClientError, Result};

impl Client {
    /// Attributes with the true size: by a lease, or from the servers. Sizes of objects are asked for
    /// when somebody else may be writing; a dead OST is passed over then.
    pub async fn getattr(&self, fid: Fid) -> Result<Attr> {
        if let Some(attr) = self.cached_attr(fid) {
            return Ok(attr);
        }
        let inode = self.inner.inodes.get(fid);
        let held = self.inner.cache.may_hold_data(fid);
        if let Some(inode) = &inode {
            // Under an exclusive lease what was written here is laid over what the server says.
            let blind = held && inode.state.lock().blind();
            if !held || blind {
                self.write_out_and_settle(inode).await?;
            }
        }
        let attr = self.fetch_attr(fid, inode.as_ref()).await?;
        Ok(self.own_attr(attr.clone()).unwrap_or(attr))
    }

    /// Attributes that need no question.
    pub(crate) fn cached_attr(&self, fid: Fid) -> Option<Attr> {
        self.inner.cache.attr(fid).and_then(|attr| self.own_attr(attr))
    }

    /// What the server told, and what it does not know yet. `None`: that is not the whole truth.
    pub(crate) fn own_attr(&self, attr: Attr) -> Option<Attr> {
        if attr.kind != FileKind::Regular {
            return Some(attr);
        }
        match self.inner.inodes.get(attr.fid) {
            Some(inode) => inode.state.lock().overlay(attr),
            None => (!attr.size_lazy).then_some(attr),
        }
    }

    /// Everything written here is with the servers, and the MDS knows of it.
    pub(crate) async fn write_out_and_settle(&self, inode: &Arc<Inode>) -> Result<()> {
        if inode.state.lock().pending() {
            self.write_out(inode).await;
            self.settle(inode, Exact::No, false).await?;
        }
        Ok(())
    }

    /// Attributes from the MDS, and from the OSTs where it does not know the size.
    pub(crate) async fn fetch_attr(&self, fid: Fid, inode: Option<&Arc<Inode>>) -> Result<Attr> {
        let asked = self.asked();
        let (mut attr, lease, other_writers) = self.inner.mdc.getattr(fid).await?;
        let mut exact = !attr.size_lazy && !other_writers;
        if attr.kind == FileKind::Regular && !exact {
            let held = self.inner.cache.may_hold_data(fid);
            let own = inode.and_then(|inode| {
                let state = inode.state.lock();
                let only = !other_writers && (held || state.writers() > 0);
                (state.size_exact && only).then_some(state.size)
            });
            if let Some(own) = own {
                attr.size = attr.size.max(own);
                exact = true;
            } else {
                exact = self.add_glimpse(&mut attr, inode).await?;
            }
        }
        attr.size_lazy &= !exact;
        let told = exact.then(|| attr.clone());
        self.inner.cache.learn_with(asked, fid, lease, told.as_ref(), |held| {
            let Some(inode) = inode else { return };
            let mut state = inode.state.lock();
            state.other_writers = other_writers;
            // Without a lease nobody says when it changes.
            state.size_exact = exact && !other_writers && (held || !self.inner.config.leases);
            state.saw_attr(attr.clone());
            attr.atime = state.atime.unwrap_or(attr.atime);
        });
        Ok(attr)
    }

    /// Asks the OSTs; true if all answered.
    async fn add_glimpse(&self, attr: &mut Attr, inode: Option<&Arc<Inode>>) -> Result<bool> {
        let known = inode.and_then(|inode| {
            let state = inode.state.lock();
            let current = !state.layout_stale && state.attr.layout_gen == attr.layout_gen;
            (current && !state.inline).then(|| Arc::clone(&state.layout))
        });
        let layout = if let Some(layout) = known {
            layout
        } else {
            let placed = self.get_layout(attr.fid).await?;
            if placed.inline.is_some() {
                *attr = placed.attr;
                return Ok(true);
            }
            Arc::new(placed.layout()?)
        };
        let glimpse = self.glimpse(attr.fid, &layout).await;
        attr.size = attr.size.max(glimpse.size);
        // Who writes under leases, or in spite of them, tells the MDS when before anybody can ask.
        let written = glimpse.mtime.filter(|_| !self.inner.config.leases);
        if let Some(written) = written.filter(|written| *written > attr.mtime) {
            attr.mtime = written;
            attr.ctime = attr.ctime.max(written);
        }
        if let Some(blocks) = glimpse.blocks {
            attr.blocks = blocks;
        }
        Ok(glimpse.blocks.is_some())
    }

    /// Changes attributes. `handle`: the file through which `ftruncate` came, if any.
    pub async fn setattr(
        &self,
        caller: Caller,
        fid: Fid,
        set: SetAttr,
        handle: Option<&OpenFile>,
    ) -> Result<Attr> {
        self.must_change()?;
        if set.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(ClientError::refused(Errno::EFBIG, "file size is beyond 8 EiB"));
        }
        let inode =
            handle.map(|file| Arc::clone(&file.inode)).or_else(|| self.inner.inodes.get(fid));
        if set.size.is_some_and(|size| size > 0) {
            self.bring_back(fid, inode.as_ref()).await?;
        }
        let Some(inode) = inode else {
            let attr = self.send_setattr(caller, fid, set).await?.attr()?;
            if attr.size_lazy && attr.kind == FileKind::Regular && set.size.is_none() {
                return self.getattr(fid).await;
            }
            return Ok(attr);
        };
        if set.atime.is_some() {
            // A read from before must not come after it.
            inode.state.lock().atime = None;
        }
        let Some(size) = set.size else {
            self.write_out_and_settle(&inode).await?;
            let attr = self.send_setattr(caller, fid, set).await?.attr()?;
            let known = {
                let mut state = inode.state.lock();
                let lazy = attr.size_lazy && !state.size_exact;
                if !lazy {
                    let size = if attr.size_lazy { state.size } else { attr.size };
                    state.saw_attr(Attr { size, ..attr.clone() });
                }
                state.overlay(attr).filter(|_| !state.other_writers)
            };
            return match known {
                Some(attr) => Ok(attr),
                None => self.fetch_attr(fid, Some(&inode)).await,
            };
        };
        let _gate = inode.gate.write().await;
        self.drop_beyond(&inode, size);
        self.write_out_and_settle(&inode).await?;
        let changed = match self.send_setattr(caller, fid, set).await {
            Ok(changed) => changed,
            Err(error) => {
                // It may have been cut all the same: at the MDS, and where objects could be reached.
                inode.state.lock().lease_lost();
                drop(self.fetch_attr(fid, Some(&inode)).await);
                return Err(error);
            }
        };
        let mut attr = required("attr", changed.attr)?;
        attr.size = size;
        let mut state = inode.state.lock();
        state.size = size;
        if let (0, Some(layout)) = (size, changed.layout) {
            // An empty file is back in its inode, unless others have it open.
            let inline = !layout.has_objects();
            state.install(attr.clone(), layout, inline);
        }
        state.changed_here();
        for object in state.objects.values_mut() {
            object.blocks = None;
        }
        state.saw_attr(attr.clone());
        state.size_exact = !self.inner.config.leases && !state.other_writers;
        drop(state);
        // Whoever gives the lease back waits for the gate.
        self.inner.cache.under_lease(fid, Mode::Exclusive, || {
            inode.state.lock().size_exact = true;
            Some(())
        });
        Ok(attr)
    }

    /// What a truncation leaves must be here.
    async fn bring_back(&self, fid: Fid, inode: Option<&Arc<Inode>>) -> Result<()> {
        match inode {
            Some(inode) => self.make_resident(inode).await,
            None if self.getattr(fid).await?.released => self.restore(fid).await,
            None => Ok(()),
        }
    }

    /// Bytes that a truncation would cut anyway need not be sent, nor sent again.
    fn drop_beyond(&self, inode: &Inode, size: u64) {
        let mut state = inode.state.lock();
        let dropped: u64 = state.dirty.take(&(size..u64::MAX)).iter().map(|t| t.len).sum();
        if dropped > 0
            && let Some(end) = state.unsettled.size.as_mut()
        {
            *end = (*end).min(size);
        }
        let before = state.retained_bytes();
        let layout = Arc::clone(&state.layout);
        for (id, object) in &mut state.objects {
            let component = layout.components.get(usize::from(id.component));
            let stripe = nacre_model::StripeIndex(id.stripe);
            let keep = component.map_or(0, |c| c.object_size(stripe, size));
            object.retained.retain_mut(|(offset, data)| keep_below(keep, *offset, data));
        }
        let freed = before.saturating_sub(state.retained_bytes());
        drop(state);
        self.give_back_dirty(dropped);
        self.give_back_retained(freed);
        debug_assert!(self.inner.retained.load(Ordering::Relaxed) < u64::MAX / 2);
    }

    async fn send_setattr(&self, caller: Caller, fid: Fid, set: SetAttr) -> Result<Changed> {
        let at = |time: Option<SetTime>| match time {
            Some(SetTime::At(time)) => Some(time.into()),
            Some(SetTime::Now) | None => None,
        };
        let op = Op::Setattr(v1::SetattrOp {
            fid: Some(fid.into()),
            perm: set.perm,
            uid: set.uid,
            gid: set.gid,
            size: set.size,
            atime: at(set.atime),
            mtime: at(set.mtime),
            atime_now: set.atime == Some(SetTime::Now),
            mtime_now: set.mtime == Some(SetTime::Now),
            kill_suidgid: set.kill_suidgid,
        });
        self.change_inode(caller, fid, "setattr", false, op).await
    }
}

/// Cuts what was written at `offset` to what lies below `keep`; false if nothing does.
fn keep_below(keep: u64, offset: u64, data: &mut Vec<Bytes>) -> bool {
    let mut room = keep.saturating_sub(offset);
    for segment in data.iter_mut() {
        let len = segment.len() as u64;
        segment.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        room = room.saturating_sub(len);
    }
    data.retain(|segment| !segment.is_empty());
    !data.is_empty()
}
