//! What one command carries while it is applied.

use bytes::Bytes;
use nacre_model::{Attr, Fid, Name, OstIndex, Timestamp};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use super::rows::{self, Place};
use super::{LINKS_KEPT_MAX, NsError, export};
use crate::command::Work;
use crate::record::{
    Counters, Entry, Inode, Link, Record, Superblock, VALUE_BYTES_MAX, WorkItem, encode_raw,
    key as keys,
};
use crate::store::{Txn, View};

/// Most bytes of names that an inode remembers of its links.
const LINK_NAMES_BYTES_MAX: usize = 16 << 10;

/// Who asks, and what the server decided for the change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Caller<'c> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) new_fid: Option<Fid>,
    pub(super) placement: &'c [(u16, Vec<OstIndex>)],
    pub(super) held_open: &'c [Fid],
    pub(super) used_by_others: &'c [Fid],
    /// The client has answered it already: what it says of victims is all there may be.
    pub(super) in_batch: bool,
}

impl Caller<'_> {
    /// The OSTs chosen for a component; `None` when the server chose none.
    pub(super) fn placed(&self, component: u16) -> Option<&[OstIndex]> {
        let (_, osts) = self.placement.iter().find(|(index, _)| *index == component)?;
        (!osts.is_empty()).then_some(osts)
    }
}

/// A command under way: the transaction, and what it collects.
pub(super) struct Ctx<'t, 'a> {
    pub(super) txn: &'t mut Txn<'a>,
    pub(super) time: Timestamp,
    pub(super) caller: Caller<'t>,
    pub(super) superblock: Superblock,
    /// Loaded when first needed; written back by [`Ctx::finish`].
    counters: Option<Counters>,
    pub(super) work: Vec<(u64, Work)>,
    pub(super) unlinked: Vec<Fid>,
    /// As they are after the change, of whose names some have changed.
    pub(super) directories: Vec<v1::Attr>,
    /// Inodes that were written or freed.
    pub(super) touched: Vec<Fid>,
    /// Those of them that have got another name.
    pub(super) moved: Vec<Fid>,
    /// Exports that were queued, or wait already: `(cookie, inode)`.
    pub(super) exports: Vec<(u64, Fid)>,
}

impl<'t, 'a> Ctx<'t, 'a> {
    pub(super) fn new(
        txn: &'t mut Txn<'a>,
        time: Timestamp,
        caller: Caller<'t>,
    ) -> Result<Self, NsError> {
        let superblock = rows::superblock(txn)?;
        Ok(Self {
            txn,
            time,
            caller,
            superblock,
            counters: None,
            work: Vec::new(),
            unlinked: Vec::new(),
            directories: Vec::new(),
            touched: Vec::new(),
            moved: Vec::new(),
            exports: Vec::new(),
        })
    }

    /// The counters, to be changed.
    pub(super) fn counters(&mut self) -> Result<&mut Counters, NsError> {
        let counters = match self.counters.take() {
            Some(counters) => counters,
            None => rows::counters(self.txn)?,
        };
        Ok(self.counters.insert(counters))
    }

    /// Notes what must be exported, and writes the counters if they were asked for.
    pub(super) fn finish(&mut self) -> Result<(), NsError> {
        export::note(self)?;
        if let Some(counters) = self.counters.take() {
            self.txn.put(keys::counters(), counters.encode());
        }
        Ok(())
    }

    pub(super) fn inode(&self, fid: Fid) -> Result<Inode, NsError> {
        rows::inode(self.txn, fid)
    }

    pub(super) fn directory(&self, fid: Fid) -> Result<Inode, NsError> {
        rows::directory(self.txn, fid)
    }

    pub(super) fn put_inode(&mut self, inode: &Inode) -> Result<(), NsError> {
        let (fid, value) = (inode.attr.fid, inode.encode());
        if value.len() > VALUE_BYTES_MAX {
            return Err(NsError::RecordTooBig { fid, bytes: value.len() });
        }
        self.txn.put(keys::inode(fid), value);
        self.touched.push(fid);
        Ok(())
    }

    /// Changes a directory whose entries change: its times, and its links by `subdirs`.
    pub(super) fn touch_directory(&mut self, fid: Fid, subdirs: i32) -> Result<(), NsError> {
        let directory = self.directory(fid)?;
        self.touch(directory, subdirs)
    }

    /// The same, of a directory that was read already and not written since.
    pub(super) fn touch(&mut self, mut inode: Inode, subdirs: i32) -> Result<(), NsError> {
        let (fid, nlink) = (inode.attr.fid, inode.attr.nlink);
        inode.attr.mtime = self.time;
        inode.attr.ctime = self.time;
        inode.attr.nlink = nlink
            .checked_add_signed(subdirs)
            .ok_or(NsError::Inconsistent { fid, what: "link count" })?;
        self.directories.retain(|other| other.fid != Some(fid.into()));
        self.directories.push(inode.shown());
        self.put_inode(&inode)
    }

    pub(super) fn find(&self, parent: Fid, name: &Name) -> Result<Option<(u64, Entry)>, NsError> {
        rows::find_entry(self.txn, &self.superblock, parent, name.as_bytes())
    }

    pub(super) fn expect_entry(&self, parent: Fid, name: &Name) -> Result<(u64, Entry), NsError> {
        let show = || NsError::show(name.as_bytes());
        self.find(parent, name)?.ok_or_else(|| NsError::NoEntry { parent, name: show() })
    }

    /// The cookie for a new name, or why there is none.
    pub(super) fn free_cookie(&self, parent: Fid, name: &Name) -> Result<u64, NsError> {
        match rows::place(self.txn, &self.superblock, parent, name.as_bytes())? {
            Place::Free(cookie) => Ok(cookie),
            Place::Full => Err(NsError::NoCookie(parent)),
            Place::Taken(..) => {
                Err(NsError::Exists { parent, name: NsError::show(name.as_bytes()) })
            }
        }
    }

    pub(super) fn put_entry(&mut self, parent: Fid, cookie: u64, name: &Name, to: &Attr) {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let entry = Entry { name, fid: to.fid, kind: to.kind };
        self.txn.put(keys::entry(parent, cookie), entry.encode());
    }

    /// Leaves work for OSTs.
    pub(super) fn add_work(&mut self, item: &WorkItem) -> Result<(), NsError> {
        let counters = self.counters()?;
        let sequence = counters.next_work;
        counters.next_work = sequence.checked_add(1).ok_or(NsError::UsedUp("work sequence"))?;
        self.txn.put(keys::work(sequence), item.encode());
        self.work.push((sequence, item.work()));
        Ok(())
    }

    /// Sets or, when empty, removes the inline row of a file.
    pub(super) fn put_inline(&mut self, fid: Fid, bytes: &[u8]) {
        if bytes.is_empty() {
            self.txn.remove(keys::inline(fid));
        } else {
            self.txn.put(keys::inline(fid), encode_raw(bytes));
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, NsError> {
        Ok(self.txn.get(key)?)
    }
}

/// The fid in a field that must be there.
pub(super) fn fid(field: &'static str, wire: Option<v1::Fid>) -> Result<Fid, BadMessage> {
    Ok(required(field, wire)?.into())
}

/// The name in a field.
pub(super) fn name(bytes: &[u8]) -> Result<Name, BadMessage> {
    nacre_proto::convert::name(bytes)
}

/// A time that may be there.
pub(super) fn time(wire: Option<v1::Timestamp>) -> Result<Option<Timestamp>, BadMessage> {
    wire.map(TryInto::try_into).transpose()
}

impl Inode {
    /// Remembers a new name, or that there are too many.
    pub(super) fn add_link(&mut self, parent: Fid, name: &Name) {
        let known: usize = self.links.iter().map(|link| link.name.len()).sum();
        let all = known.saturating_add(name.as_bytes().len());
        if self.links.len() >= LINKS_KEPT_MAX || all > LINK_NAMES_BYTES_MAX {
            self.links_overflow = true;
        } else {
            let name = Bytes::copy_from_slice(name.as_bytes());
            self.links.push(Link { parent, name });
        }
    }

    /// Forgets a name. Called before `nlink` is lowered; see [`Inode::settle_links`].
    pub(super) fn remove_link(&mut self, parent: Fid, name: &Name) {
        self.links.retain(|link| link.parent != parent || link.name != name.as_bytes());
    }

    /// After `nlink` changed: whether the names are all known again.
    pub(super) fn settle_links(&mut self) {
        if self.links_overflow && u32::try_from(self.links.len()) == Ok(self.attr.nlink) {
            self.links_overflow = false;
        }
    }
}
