//! Entries, and the rows that belong to inodes and sessions.

use nacre_model::Fid;
use nacre_proto::v1;
use nacre_proto::v1::WorkKind;

use super::{Checker, Finding, for_each};
use crate::namespace::NsError;
use crate::namespace::rows::{self, RANKS};
use crate::record::{
    BadRecord, Body, Entry, Inode, Record, Reply, Session, SessionId, WorkItem, key as keys,
    key::kind,
};

impl Checker<'_> {
    pub(super) fn entries(&mut self) -> Result<(), NsError> {
        let mut parent: Option<(Fid, bool)> = None;
        let mut group: Vec<Entry> = Vec::new();
        let mut hash = (Fid::default(), 0);
        for_each(self.view, kind::ENTRY, &mut |key, value| {
            let decoded = keys::entry_of(key)
                .and_then(|(fid, cookie)| Ok((fid, cookie, Entry::decode(value)?)));
            let (fid, cookie, entry) = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.damaged(key, &error);
                    return Ok(());
                }
            };
            let known = match parent {
                Some((of, known)) if of == fid => known,
                _ => rows::directory(self.view, fid).is_ok(),
            };
            parent = Some((fid, known));
            if !known {
                self.report(Finding::Dangling { fid, what: "entry of a directory" });
            }
            let first = self.superblock.cookie(&entry.name);
            if cookie / RANKS != first / RANKS {
                self.entry_finding(fid, &entry, "its cookie is not the hash of its name");
            }
            if hash != (fid, cookie / RANKS) {
                hash = (fid, cookie / RANKS);
                group.clear();
            }
            if group.iter().any(|other| other.name == entry.name) {
                self.entry_finding(fid, &entry, "the name is there twice");
            }
            self.entry(fid, &entry);
            group.push(entry);
            Ok(())
        })?;
        for (fid, (nlink, counted)) in std::mem::take(&mut self.many_links) {
            self.count(fid, "nlink", nlink.into(), counted.into());
        }
        Ok(())
    }

    fn entry_finding(&mut self, parent: Fid, entry: &Entry, why: &'static str) {
        let name = entry.name.escape_ascii().to_string();
        self.report(Finding::Entry { parent, name, why });
    }

    fn entry(&mut self, parent: Fid, entry: &Entry) {
        let Ok(Some(inode)) = rows::find_inode(self.view, entry.fid) else {
            self.entry_finding(parent, entry, "its inode does not exist");
            return;
        };
        if inode.attr.kind != entry.kind {
            self.entry_finding(parent, entry, "its inode is of another kind");
        }
        let mut links = inode.links.iter();
        let known = links.any(|link| link.parent == parent && link.name == entry.name);
        if !known && !inode.links_overflow {
            self.entry_finding(parent, entry, "its inode does not remember it");
        }
        if let Some((_, counted)) = self.many_links.get_mut(&entry.fid) {
            *counted = counted.saturating_add(1);
        }
    }

    pub(super) fn other_rows(&mut self) -> Result<(), NsError> {
        let view = self.view;
        let mut before = b'A';
        for kind in kind::ALL {
            if before < kind && !rows::is_empty(view, &[before], &[kind])? {
                self.report(Finding::UnknownRows(before, kind));
            }
            before = kind.saturating_add(1);
        }
        if !rows::is_empty(view, &[before], &[u8::MAX])? {
            self.report(Finding::UnknownRows(before, u8::MAX));
        }
        for (kind, what) in [
            (kind::INLINE, "row of inline bytes"),
            (kind::ORPHAN, "orphan record"),
            (kind::XATTR, "attribute"),
            (kind::HSM, "archive record"),
        ] {
            for_each(view, kind, &mut |key, _| {
                match owner(key, kind) {
                    Err(error) => self.damaged(key, &error),
                    Ok(fid) => {
                        let inode = rows::find_inode(view, fid).ok().flatten();
                        if !inode.is_some_and(|inode| expects(&inode, kind)) {
                            self.report(Finding::Dangling { fid, what });
                        }
                    }
                }
                Ok(())
            })?;
        }
        self.sessions()?;
        self.replies()?;
        self.actions()?;
        self.work()
    }

    /// A file and its action know each other.
    fn actions(&mut self) -> Result<(), NsError> {
        let view = self.view;
        for_each(view, kind::ACTION, &mut |key, value| {
            let decoded = keys::number_of(key, kind::ACTION)
                .and_then(|cookie| Ok((cookie, v1::HsmActionRecord::decode(value)?)));
            match decoded {
                Err(error) => self.damaged(key, &error),
                Ok((cookie, action)) => {
                    let fid = action.fid.map(Fid::from).unwrap_or_default();
                    let known = if action.action() == v1::HsmAction::Export {
                        let row = rows::row::<v1::ExportRecord>(view, &keys::export(fid))?;
                        row.map(|row| row.cookie)
                    } else {
                        let row = rows::row::<v1::HsmRecord>(view, &keys::hsm(fid))?;
                        row.map(|row| row.cookie)
                    };
                    if known != Some(cookie) {
                        self.report(Finding::Dangling { fid, what: "action of the archive" });
                    }
                }
            }
            Ok(())
        })
    }

    fn sessions(&mut self) -> Result<(), NsError> {
        let view = self.view;
        let next = self.counters.next_session;
        for_each(view, kind::SESSION, &mut |key, value| {
            let decoded = keys::number_of(key, kind::SESSION)
                .and_then(|session| Ok((session, Session::decode(value)?)));
            match decoded {
                Err(error) => self.damaged(key, &error),
                Ok((session, row)) => {
                    let of_uuid = keys::session_of_uuid(&row.client_uuid);
                    if rows::row(view, &of_uuid)? != Some(SessionId(session)) || session >= next {
                        let why = "its mount does not know it";
                        self.report(Finding::Session { session, why });
                    }
                }
            }
            Ok(())
        })?;
        for_each(view, kind::SESSION_OF_UUID, &mut |key, value| {
            match SessionId::decode(value) {
                Err(error) => self.damaged(key, &error),
                Ok(SessionId(session)) if view.get(&keys::session(session))?.is_none() => {
                    let why = "a mount knows it, but it does not exist";
                    self.report(Finding::Session { session, why });
                }
                Ok(_) => {}
            }
            Ok(())
        })
    }

    fn replies(&mut self) -> Result<(), NsError> {
        let view = self.view;
        for_each(view, kind::REPLY, &mut |key, value| {
            let decoded = keys::reply_of(key).and_then(|of| Ok((of, Reply::decode(value)?)));
            match decoded {
                Err(error) => self.damaged(key, &error),
                Ok(((session, _), _)) if view.get(&keys::session(session))?.is_none() => {
                    let why = "a reply is kept for it, but it does not exist";
                    self.report(Finding::Session { session, why });
                }
                Ok(_) => {}
            }
            Ok(())
        })
    }

    fn work(&mut self) -> Result<(), NsError> {
        let view = self.view;
        for_each(view, kind::WORK, &mut |key, value| {
            let decoded = keys::number_of(key, kind::WORK)
                .and_then(|sequence| Ok((sequence, WorkItem::decode(value)?)));
            match decoded {
                Err(error) => self.damaged(key, &error),
                Ok((sequence, item)) => {
                    if sequence >= self.counters.next_work {
                        let why = "its number has not been given out yet";
                        self.report(Finding::Work { sequence, why });
                    }
                    let inode = rows::find_inode(view, item.fid).ok().flatten();
                    if item.kind != WorkKind::Truncate
                        && inode.is_some_and(|inode| in_use(&inode, &item))
                    {
                        let why = "it would destroy objects in use";
                        self.report(Finding::Work { sequence, why });
                    }
                }
            }
            Ok(())
        })
    }
}

fn owner(key: &[u8], of: u8) -> Result<Fid, BadRecord> {
    if of == kind::XATTR { Ok(keys::xattr_of(key)?.0) } else { keys::fid_of(key, of) }
}

/// Whether an inode has rows of this kind.
fn expects(inode: &Inode, of: u8) -> bool {
    match of {
        kind::INLINE => matches!(&inode.body, Body::File(file) if file.inline_bytes > 0),
        kind::ORPHAN => inode.attr.nlink == 0,
        kind::HSM => matches!(&inode.body, Body::File(file) if !file.hsm.is_empty()),
        _ => inode.xattrs.count > 0,
    }
}

fn in_use(inode: &Inode, item: &WorkItem) -> bool {
    let Body::File(file) = &inode.body else {
        return false;
    };
    let component = file.components.get(usize::from(item.component));
    let live = component.filter(|component| !component.osts.is_empty());
    let pending = file.pending.as_ref().filter(|_| item.component == 0);
    live.is_some_and(|component| component.object_generation == item.object_generation)
        || pending.is_some_and(|pending| pending.object_generation == item.object_generation)
}
