//! Who has which file open: volatile, told again by the clients after a restart.
//!
//! The table decides whether a file that loses its last name becomes an orphan. So that no open
//! and unlink can miss each other:
//!
//! ```text
//! open:    register the handle ─► read the inode ─► gone? take the handle back, ENOENT
//! unlink:  (on the applier) held open? ─► else mark the inode as leaving ─► apply ─► unmark
//! ```
//!
//! and an open of an inode that is leaving waits until the unlink is through.

use std::collections::{BTreeMap, BTreeSet};

use nacre_model::{Effect, Errno, Fid, Retry, ServiceError};

/// Most handles of one session.
pub const HANDLES_PER_SESSION_MAX: usize = 1 << 20;

/// Why a handle cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The client used the same handle for another file.
    #[error("handle {handle:#x} is of {old}, not of {new}")]
    HandleInUse {
        /// Which.
        handle: u64,
        /// What it names.
        old: Fid,
        /// What it should name.
        new: Fid,
    },
    /// A limit is reached.
    #[error("session {session:#x} has {HANDLES_PER_SESSION_MAX} files open")]
    TooMany {
        /// Whose.
        session: u64,
    },
    /// A file is being unlinked at this moment: ask again when that is through.
    #[error("{0} is losing its last name")]
    Leaving(Fid),
}

impl ServiceError for OpenError {
    fn errno(&self) -> Errno {
        match self {
            Self::HandleInUse { .. } => Errno::EINVAL,
            Self::TooMany { .. } => Errno::ENFILE,
            Self::Leaving(_) => Errno::ENOENT,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            Self::HandleInUse { .. } | Self::TooMany { .. } => Retry::Never,
            Self::Leaving(_) => Retry::SameTarget,
        }
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

#[derive(Debug, Clone, Copy)]
struct Handle {
    fid: Fid,
    write: bool,
}

#[derive(Debug, Default)]
struct FileOpens {
    /// Handles by session, and how many of them may write.
    sessions: BTreeMap<u64, (usize, usize)>,
    /// Unlink commands in flight that found nobody here.
    leaving_count: usize,
    /// It has no name any more: the last close frees it.
    orphan: bool,
}

impl FileOpens {
    fn is_unused(&self) -> bool {
        self.sessions.is_empty() && self.leaving_count == 0 && !self.orphan
    }
}

/// All open files of one MDT.
#[derive(Debug, Default)]
pub struct OpenTable {
    handles: BTreeMap<u64, BTreeMap<u64, Handle>>,
    files: BTreeMap<Fid, FileOpens>,
    open_count: usize,
    /// Orphans are kept: clients have not all said yet what they have open.
    recovering: bool,
}

impl OpenTable {
    /// A table that reaps nothing until [`OpenTable::recovered`].
    pub fn recovering() -> Self {
        Self { recovering: true, ..Self::default() }
    }

    /// Opens. The same handle of the same file may come any number of times; once for writing
    /// makes it a writer. `Ok(false)`: it was there already.
    pub fn open(
        &mut self,
        session: u64,
        handle: u64,
        fid: Fid,
        write: bool,
    ) -> Result<bool, OpenError> {
        if self.files.get(&fid).is_some_and(|file| file.leaving_count > 0) {
            return Err(OpenError::Leaving(fid));
        }
        self.register(session, handle, fid, write)
    }

    /// As [`OpenTable::open`], by somebody who knows that the inode is there and stays until
    /// this is done: on the applier, or when a create has just returned it.
    pub fn register(
        &mut self,
        session: u64,
        handle: u64,
        fid: Fid,
        write: bool,
    ) -> Result<bool, OpenError> {
        let mine = self.handles.entry(session).or_default();
        let old = mine.get(&handle).copied();
        match old {
            Some(old) if old.fid != fid => {
                return Err(OpenError::HandleInUse { handle, old: old.fid, new: fid });
            }
            Some(old) if old.write || !write => return Ok(false),
            None if mine.len() >= HANDLES_PER_SESSION_MAX => {
                return Err(OpenError::TooMany { session });
            }
            Some(_) | None => {}
        }
        mine.insert(handle, Handle { fid, write });
        let (all, writers) =
            self.files.entry(fid).or_default().sessions.entry(session).or_default();
        if old.is_none() {
            *all += 1;
            self.open_count += 1;
        }
        *writers += usize::from(write);
        Ok(old.is_none())
    }

    /// Closes; unknown handles are passed over. Returns the orphan to reap, if this was its last.
    pub fn close(&mut self, session: u64, handle: u64) -> Option<Fid> {
        let mine = self.handles.get_mut(&session)?;
        let closed = mine.remove(&handle)?;
        if mine.is_empty() {
            self.handles.remove(&session);
        }
        self.open_count = self.open_count.saturating_sub(1);
        let file = self.files.get_mut(&closed.fid)?;
        if let Some((all, writers)) = file.sessions.get_mut(&session) {
            *all = all.saturating_sub(1);
            *writers = writers.saturating_sub(usize::from(closed.write));
            if *all == 0 {
                file.sessions.remove(&session);
            }
        }
        self.settle(closed.fid)
    }

    /// Closes everything of a session; returns the orphans to reap.
    pub fn end_session(&mut self, session: u64) -> Vec<Fid> {
        let handles = self.handles.remove(&session).unwrap_or_default();
        self.open_count = self.open_count.saturating_sub(handles.len());
        let fids: BTreeSet<Fid> = handles.into_values().map(|handle| handle.fid).collect();
        let mut reap = Vec::new();
        for fid in fids {
            if let Some(file) = self.files.get_mut(&fid) {
                file.sessions.remove(&session);
            }
            reap.extend(self.settle(fid));
        }
        reap
    }

    /// On the applier, before a command that may take the file's last name: `true` if somebody
    /// has it open, or may have. Else opens of it wait until [`OpenTable::left`].
    pub fn held_or_leaving(&mut self, fid: Fid) -> bool {
        let recovering = self.recovering;
        let file = self.files.entry(fid).or_default();
        let held = !file.sessions.is_empty() || recovering;
        if !held {
            file.leaving_count += 1;
        }
        held
    }

    /// That command is through.
    pub fn left(&mut self, fid: Fid) {
        if let Some(file) = self.files.get_mut(&fid) {
            file.leaving_count = file.leaving_count.saturating_sub(1);
        }
        self.drop_unused(fid);
    }

    /// The file has lost its last name and lives on as an orphan. Returns it when it was closed
    /// in the meantime: reap it then.
    pub fn orphaned(&mut self, fid: Fid) -> Option<Fid> {
        self.files.entry(fid).or_default().orphan = true;
        self.settle(fid)
    }

    /// All clients have said what they have open: returns the orphans that nobody has.
    pub fn recovered(&mut self) -> Vec<Fid> {
        self.recovering = false;
        let fids: Vec<Fid> = self.files.keys().copied().collect();
        fids.into_iter().filter_map(|fid| self.settle(fid)).collect()
    }

    /// The handles of a session.
    pub fn handles(&self, session: u64) -> Vec<u64> {
        self.handles.get(&session).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// The file that a handle names, and whether it may write.
    pub fn handle(&self, session: u64, handle: u64) -> Option<(Fid, bool)> {
        let found = self.handles.get(&session)?.get(&handle)?;
        Some((found.fid, found.write))
    }

    /// Whether a session has the file open at all.
    pub fn is_held(&self, fid: Fid) -> bool {
        self.files.get(&fid).is_some_and(|file| !file.sessions.is_empty())
    }

    /// Whether a session other than this one has the file open for writing, or may have: after a
    /// restart that is not known until all have spoken.
    pub fn others_write(&self, session: u64, fid: Fid) -> bool {
        let sessions = self.files.get(&fid).map(|file| &file.sessions);
        self.recovering
            || sessions.into_iter().flatten().any(|(other, (_, w))| *other != session && *w > 0)
    }

    /// Whether a session other than this one has the file open at all, or may have.
    pub fn others_hold(&self, session: u64, fid: Fid) -> bool {
        let sessions = self.files.get(&fid).map(|file| &file.sessions);
        self.recovering || sessions.into_iter().flatten().any(|(other, _)| *other != session)
    }

    /// Whether the session has the file open for writing.
    pub fn writes(&self, session: u64, fid: Fid) -> bool {
        let sessions = self.files.get(&fid).map(|file| &file.sessions);
        sessions.and_then(|all| all.get(&session)).is_some_and(|(_, writers)| *writers > 0)
    }

    /// Handles of all sessions.
    pub fn open_count(&self) -> usize {
        self.open_count
    }

    /// Takes the file as orphan to reap, if it is one that nobody has open.
    fn settle(&mut self, fid: Fid) -> Option<Fid> {
        let recovering = self.recovering;
        let file = self.files.get_mut(&fid)?;
        let reap = file.orphan && file.sessions.is_empty() && !recovering;
        if reap {
            file.orphan = false;
        }
        self.drop_unused(fid);
        reap.then_some(fid)
    }

    fn drop_unused(&mut self, fid: Fid) {
        if self.files.get(&fid).is_some_and(FileOpens::is_unused) {
            self.files.remove(&fid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FID: Fid = Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 };

    #[test]
    fn an_orphan_is_reaped_at_its_last_close_only() {
        let mut table = OpenTable::default();
        assert_eq!(table.open(1, 10, FID, false), Ok(true));
        assert_eq!(table.open(1, 10, FID, false), Ok(false), "sent again");
        assert_eq!(table.open(2, 10, FID, true), Ok(true));
        assert!(table.held_or_leaving(FID));
        assert_eq!(table.orphaned(FID), None);
        assert_eq!(table.close(1, 10), None);
        assert_eq!(table.close(1, 10), None, "sent again");
        assert_eq!(table.end_session(2), [FID]);
        assert_eq!((table.open_count(), table.files.len()), (0, 0));
    }

    #[test]
    fn a_close_between_unlink_and_its_outcome_still_reaps() {
        let mut table = OpenTable::default();
        table.open(1, 10, FID, false).unwrap();
        assert!(table.held_or_leaving(FID));
        assert_eq!(table.close(1, 10), None);
        assert_eq!(table.orphaned(FID), Some(FID));
        assert!(table.files.is_empty());
    }

    #[test]
    fn a_file_that_is_leaving_cannot_be_opened_until_it_has_left() {
        let mut table = OpenTable::default();
        assert!(!table.held_or_leaving(FID));
        assert_eq!(table.open(1, 10, FID, false), Err(OpenError::Leaving(FID)));
        table.left(FID);
        assert_eq!(table.open(1, 10, FID, false), Ok(true));
    }

    #[test]
    fn writers_are_counted_by_session_and_a_handle_may_turn_into_one() {
        let mut table = OpenTable::default();
        table.open(1, 10, FID, false).unwrap();
        assert!(!table.others_write(2, FID));
        assert_eq!(table.open(1, 10, FID, true), Ok(false));
        assert!(table.others_write(2, FID));
        assert!(!table.others_write(1, FID));
        table.close(1, 10);
        assert!(!table.others_write(2, FID));
    }

    #[test]
    fn orphans_survive_until_everybody_has_spoken_after_a_restart() {
        let mut table = OpenTable::recovering();
        let other = Fid { oid: 2, ..FID };
        assert!(table.held_or_leaving(FID), "somebody may have it open");
        assert!(table.others_write(1, FID));
        assert_eq!(table.orphaned(FID), None);
        assert_eq!(table.orphaned(other), None);
        table.open(1, 10, other, false).unwrap();
        assert_eq!(table.recovered(), [FID]);
        assert_eq!(table.close(1, 10), Some(other));
    }

    #[test]
    fn one_handle_names_one_file() {
        let mut table = OpenTable::default();
        table.open(1, 10, FID, false).unwrap();
        let other = Fid { oid: 2, ..FID };
        assert!(matches!(table.open(1, 10, other, false), Err(OpenError::HandleInUse { .. })));
    }
}
