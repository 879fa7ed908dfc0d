//! Inodes: their names, counts and other rows.

use std::ops::ControlFlow;

use nacre_model::{Fid, FileKind};

use super::{Checker, Finding, for_each};
use crate::namespace::{NsError, read, rows};
use crate::record::{Body, Entry, FileBody, Inode, Record, key as keys, key::kind};

impl Checker<'_> {
    pub(super) fn inodes(&mut self) -> Result<(), NsError> {
        let view = self.view;
        let mut counted = 0_u64;
        for_each(view, kind::INODE, &mut |key, value| {
            counted = counted.saturating_add(1);
            let decoded = keys::fid_of(key, kind::INODE).and_then(|fid| Inode::decode(fid, value));
            match decoded {
                Ok(inode) => self.inode(&inode),
                Err(error) => {
                    self.damaged(key, &error);
                    Ok(())
                }
            }
        })?;
        let recorded = self.counters.inodes;
        if counted != recorded {
            self.report(Finding::InodeCount { counted, recorded });
        }
        if rows::find_inode(view, Fid::ROOT).ok().flatten().is_none() {
            self.inode_finding(Fid::ROOT, "the root does not exist");
        }
        Ok(())
    }

    fn inode(&mut self, inode: &Inode) -> Result<(), NsError> {
        let fid = inode.attr.fid;
        if self.counters.is_unused(fid) {
            self.inode_finding(fid, "its fid has not been given out yet");
        }
        let orphan = self.view.get(&keys::orphan(fid))?.is_some();
        if orphan != (inode.attr.nlink == 0) {
            self.inode_finding(fid, "an orphan has a record and no links, others neither");
        }
        for (index, link) in inode.links.iter().enumerate() {
            if inode.links.iter().skip(index.saturating_add(1)).any(|other| other == link) {
                self.inode_finding(fid, "it remembers a name twice");
            }
            let found = rows::find_entry(self.view, &self.superblock, link.parent, &link.name);
            if !matches!(found, Ok(Some((_, entry))) if entry.fid == fid) {
                self.inode_finding(fid, "it remembers a name that is not its own");
            }
        }
        self.xattrs(inode)?;
        match &inode.body {
            Body::Directory(_) => self.directory(inode)?,
            Body::File(file) => {
                self.names(inode);
                self.file(inode, file)?;
            }
            Body::Symlink(target) => {
                self.names(inode);
                self.count(fid, "size", inode.attr.size, target.len() as u64);
            }
            Body::Special => self.names(inode),
        }
        Ok(())
    }

    fn names(&mut self, inode: &Inode) {
        let (fid, nlink) = (inode.attr.fid, inode.attr.nlink);
        if inode.links_overflow {
            self.many_links.insert(fid, (nlink, 0));
        } else {
            self.count(fid, "nlink", nlink.into(), inode.links.len() as u64);
        }
    }

    fn directory(&mut self, inode: &Inode) -> Result<(), NsError> {
        let fid = inode.attr.fid;
        let (entries, subdirs) = self.entries_of(fid)?;
        if inode.attr.nlink == 0 {
            if entries != 0 || !inode.links.is_empty() {
                self.inode_finding(fid, "a removed directory has entries or a name");
            }
            return Ok(());
        }
        self.count(fid, "nlink", inode.attr.nlink.into(), subdirs.saturating_add(2));
        let names = inode.links.len();
        if names != usize::from(fid != Fid::ROOT) || inode.links_overflow {
            self.inode_finding(fid, "a directory has one name, the root none");
        } else if !matches!(read::is_ancestor(self.view, Fid::ROOT, fid), Ok(true)) {
            self.inode_finding(fid, "it cannot be reached from the root");
        }
        Ok(())
    }

    /// How many entries a directory has, and how many of these are directories.
    fn entries_of(&self, fid: Fid) -> Result<(u64, u64), NsError> {
        let (mut entries, mut subdirs) = (0_u64, 0_u64);
        let (from, to) = (keys::entry(fid, 0), keys::entry(fid, u64::MAX));
        self.view.scan(&from, &to, &mut |_, value| {
            entries = entries.saturating_add(1);
            let is_dir =
                Entry::decode(value.to_vec()).is_ok_and(|entry| entry.kind == FileKind::Directory);
            subdirs = subdirs.saturating_add(is_dir.into());
            ControlFlow::Continue(())
        })?;
        Ok((entries, subdirs))
    }

    fn file(&mut self, inode: &Inode, file: &FileBody) -> Result<(), NsError> {
        let fid = inode.attr.fid;
        let row = rows::inline(self.view, fid)?;
        self.count(fid, "inline bytes", file.inline_bytes.into(), row.len() as u64);
        if u64::from(file.inline_bytes) > inode.attr.size {
            self.inode_finding(fid, "more inline bytes than its size");
        }
        let placed = file.components.iter().filter(|c| !c.osts.is_empty()).count();
        if file.is_inline == (placed > 0) {
            self.inode_finding(fid, "a file is inline or has objects");
        }
        if !file.is_inline && (file.inline_bytes > 0 || file.pending.is_some()) {
            self.inode_finding(fid, "a file with objects has inline bytes or a promotion");
        }
        if file.is_inline && inode.attr.size_lazy {
            self.inode_finding(fid, "the size of an inline file is lazy");
        }
        let mut generations = file.components.iter().map(|c| c.object_generation);
        let pending = file.pending.as_ref().map_or(0, |pending| pending.object_generation);
        let highest = file.object_generation;
        if pending > highest || generations.any(|generation| generation > highest) {
            self.inode_finding(fid, "objects are of a generation that was not given out");
        }
        Ok(())
    }

    fn xattrs(&mut self, inode: &Inode) -> Result<(), NsError> {
        let fid = inode.attr.fid;
        let (mut count, mut values, mut names) = (0_u64, 0_u64, 0_u64);
        let (from, to) = (keys::xattr(fid, b""), keys::xattr_end(fid));
        // 16 bytes of fid and 1 of kind before the name, and a NUL after it; 1 version byte.
        self.view.scan(&from, &to, &mut |key, value| {
            count = count.saturating_add(1);
            names = names.saturating_add(key.len().saturating_sub(16) as u64);
            values = values.saturating_add(value.len().saturating_sub(1) as u64);
            ControlFlow::Continue(())
        })?;
        let used = inode.xattrs;
        self.count(fid, "number of attributes", used.count.into(), count);
        self.count(fid, "bytes of attribute values", used.value_bytes.into(), values);
        self.count(fid, "bytes of attribute names", used.name_bytes.into(), names);
        Ok(())
    }
}
