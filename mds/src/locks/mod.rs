//! Byte-range and whole-file locks of all clients: a pure table, told everything, asking nothing.
//!
//! POSIX locks (`fcntl`) belong to an owner in a session, cover ranges, split and merge. `flock`
//! locks belong to an open file, cover all of it; the two kinds never see each other.
//!
//! ```text
//! lock ──no conflict──► held ──unlock, cancel, session ends──► gone ──► waiters tried, oldest first
//!   └──conflict, wait──► waiting (POSIX: unless that closes a circle: EDEADLK)
//! ```
//!
//! As on Linux, a waiting writer does not keep new readers out: a lock that conflicts with nothing
//! held is granted at once. What is released goes to waiters in the order they came.

mod file;
mod graph;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use nacre_model::{Effect, Errno, Fid, Retry, ServiceError};

use file::{FileLocks, Waiter};

/// Most lock ranges that one session holds, before `ENOLCK`.
pub const HELD_PER_SESSION_MAX: usize = 1 << 16;
/// Most requests of one session that wait, before `ENOLCK`.
pub const WAITING_PER_SESSION_MAX: usize = 4096;
/// Granted cookies remembered for each session, so that a late cancel learns the truth.
const GRANTED_COOKIES_MAX: usize = 4096;

/// Which of the two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKind {
    /// `fcntl`.
    Posix,
    /// `flock`.
    Flock,
}

/// Shared or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Shared with other readers.
    Read,
    /// Alone.
    Write,
}

/// Who holds or wants a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The client's session.
    pub session: u64,
    /// The client kernel's name for a process or an open file.
    pub owner: u64,
}

/// A lock, held or wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// The file.
    pub fid: Fid,
    /// The namespace.
    pub kind: LockKind,
    /// Whose.
    pub owner: Owner,
    /// Shared or exclusive.
    pub mode: LockMode,
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive, `>= start`.
    pub end: u64,
    /// Process at the client, for `F_GETLK`.
    pub pid: u32,
}

/// What became of a lock request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is held.
    Granted,
    /// It waits; a [`Grant`] with its cookie will come.
    Waiting,
}

/// A waiting request was granted: its client must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub session: u64,
    /// Which.
    pub cookie: u64,
}

/// Why there is no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Somebody holds a conflicting lock, and the request does not wait.
    #[error("{0} is locked by another owner")]
    Busy(Fid),
    /// Waiting would close a circle of owners that wait for each other.
    #[error("waiting for the lock on {0} would never end")]
    Deadlock(Fid),
    /// A limit is reached.
    #[error("session {session:#x} has {count} locks or waiting requests")]
    TooMany {
        /// Whose.
        session: u64,
        /// How many.
        count: usize,
    },
    /// The server has restarted and does not know yet which locks its clients held.
    #[error("locks are being claimed again after a restart")]
    Recovering,
}

impl ServiceError for LockError {
    fn errno(&self) -> Errno {
        match self {
            Self::Busy(_) | Self::Recovering => Errno::EAGAIN,
            Self::Deadlock(_) => Errno::EDEADLK,
            Self::TooMany { .. } => Errno::ENOLCK,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            Self::Recovering => Retry::SameTarget,
            Self::Busy(_) | Self::Deadlock(_) | Self::TooMany { .. } => Retry::Never,
        }
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

type FileKey = (Fid, LockKind);

/// All locks of one MDT.
#[derive(Debug, Default)]
pub struct LockTable {
    files: BTreeMap<FileKey, FileLocks>,
    sessions: BTreeMap<u64, SessionLocks>,
    /// Owners that wait for a POSIX lock, and where.
    waits: BTreeMap<Owner, BTreeSet<(Fid, u64)>>,
    /// Nothing is granted while locks are being claimed again.
    recovering: bool,
}

#[derive(Debug, Default)]
struct SessionLocks {
    /// Files with a lock or a waiting request of the session.
    files: BTreeSet<FileKey>,
    held_count: usize,
    waiting: BTreeMap<u64, FileKey>,
    granted: BTreeSet<u64>,
}

impl LockTable {
    /// A table that grants nothing new until [`LockTable::recovered`].
    pub fn recovering() -> Self {
        Self { recovering: true, ..Self::default() }
    }

    /// Asks for a lock; with `wait`, a conflict leaves it waiting under that cookie.
    ///
    /// Sending the same cookie again changes nothing. The second value are grants to others, for
    /// a weaker mode in place of a stronger one may let waiters through.
    pub fn lock(
        &mut self,
        lock: Lock,
        wait: Option<u64>,
    ) -> Result<(Answer, Vec<Grant>), LockError> {
        let session = lock.owner.session;
        let mine = self.sessions.entry(session).or_default();
        if let Some(cookie) = wait {
            if mine.waiting.contains_key(&cookie) {
                return Ok((Answer::Waiting, Vec::new()));
            }
            if mine.granted.contains(&cookie) {
                return Ok((Answer::Granted, Vec::new()));
            }
        }
        let count = mine.held_count.max(mine.waiting.len());
        if mine.held_count >= HELD_PER_SESSION_MAX || mine.waiting.len() >= WAITING_PER_SESSION_MAX
        {
            return Err(LockError::TooMany { session, count });
        }
        if self.recovering && wait.is_none() {
            return Err(LockError::Recovering);
        }
        let key = (lock.fid, lock.kind);
        let file = self.files.entry(key).or_default();
        let free = !self.recovering && !file.conflicts(&lock);
        if free {
            let grants = self.hold(lock, wait);
            return Ok((Answer::Granted, grants));
        }
        let mut grants = Vec::new();
        if lock.kind == LockKind::Flock && self.unhold(&lock) {
            // As on Linux, converting first gives up the old lock: two readers who both want to
            // write would otherwise wait for each other for ever.
            grants = self.promote(key);
        }
        let Some(cookie) = wait else {
            self.tidy(session, key);
            return Err(LockError::Busy(lock.fid));
        };
        if lock.kind == LockKind::Posix && self.would_deadlock(&lock) {
            self.tidy(session, key);
            return Err(LockError::Deadlock(lock.fid));
        }
        self.enqueue(key, lock, cookie);
        Ok((Answer::Waiting, grants))
    }

    /// Gives up a range; whatever of it is not held does not matter.
    pub fn unlock(&mut self, lock: Lock) -> Vec<Grant> {
        let key = (lock.fid, lock.kind);
        let grants = if self.unhold(&lock) { self.promote(key) } else { Vec::new() };
        self.tidy(lock.owner.session, key);
        grants
    }

    /// Stops waiting; `true` means that it is too late: the lock is held.
    pub fn cancel(&mut self, session: u64, cookie: u64) -> bool {
        let Some(mine) = self.sessions.get_mut(&session) else { return false };
        let Some(key) = mine.waiting.remove(&cookie) else { return mine.granted.contains(&cookie) };
        let waiter = self.files.get_mut(&key).and_then(|file| file.dequeue(session, cookie));
        if let Some(waiter) = waiter {
            self.stopped_waiting(&waiter);
        }
        self.tidy(session, key);
        false
    }

    /// A lock that keeps this one from being granted.
    pub fn test(&self, lock: &Lock) -> Result<Option<Lock>, LockError> {
        let file = self.files.get(&(lock.fid, lock.kind));
        match file.and_then(|file| file.blockers(lock).next()) {
            Some(held) => Ok(Some(*held)),
            None if self.recovering => Err(LockError::Recovering),
            None => Ok(None),
        }
    }

    /// Takes back a lock that the client held before the server restarted. `false`: another
    /// client claimed a conflicting one before.
    pub fn reclaim(&mut self, lock: Lock) -> bool {
        let file = self.files.entry((lock.fid, lock.kind)).or_default();
        let free = !file.conflicts(&lock);
        if free {
            self.hold(lock, None);
        }
        free
    }

    /// The server knows again who holds what.
    pub fn recovered(&mut self) -> Vec<Grant> {
        self.recovering = false;
        let keys: Vec<_> = self.files.keys().copied().collect();
        keys.into_iter().flat_map(|key| self.promote(key)).collect()
    }

    /// What a session holds.
    pub fn held(&self, session: u64) -> Vec<Lock> {
        let files = self.sessions.get(&session).into_iter().flat_map(|mine| &mine.files);
        let files = files.filter_map(|key| self.files.get(key));
        files.flat_map(|file| file.held(session)).copied().collect()
    }

    /// Takes all requests of a session back that wait.
    pub fn stop_waiting(&mut self, session: u64) {
        let waiting = self.sessions.get(&session).into_iter().flat_map(|mine| mine.waiting.keys());
        let cookies: Vec<u64> = waiting.copied().collect();
        for cookie in cookies {
            self.cancel(session, cookie);
        }
    }

    /// Forgets a session with all it holds and waits for.
    pub fn end_session(&mut self, session: u64) -> Vec<Grant> {
        let Some(mine) = self.sessions.remove(&session) else { return Vec::new() };
        let mut grants = Vec::new();
        for key in mine.files {
            let Some(file) = self.files.get_mut(&key) else { continue };
            for waiter in file.remove_session(session) {
                self.stopped_waiting(&waiter);
            }
            grants.append(&mut self.promote(key));
            self.tidy(session, key);
        }
        grants
    }

    /// Lock ranges held, and requests that wait.
    pub fn counts(&self) -> (usize, usize) {
        let sessions = self.sessions.values();
        sessions.fold((0, 0), |(held, waiting), s| (held + s.held_count, waiting + s.waiting.len()))
    }

    fn hold(&mut self, lock: Lock, cookie: Option<u64>) -> Vec<Grant> {
        let key = (lock.fid, lock.kind);
        let file = self.files.entry(key).or_default();
        let (before, freed) = (file.held_count(lock.owner.session), file.overlaps_own_write(&lock));
        file.insert(lock);
        let after = file.held_count(lock.owner.session);
        let mine = self.sessions.entry(lock.owner.session).or_default();
        mine.held_count = (mine.held_count + after).saturating_sub(before);
        mine.files.insert(key);
        if let Some(cookie) = cookie {
            mine.granted.insert(cookie);
            if mine.granted.len() > GRANTED_COOKIES_MAX {
                mine.granted.pop_first();
            }
        }
        if freed && lock.mode == LockMode::Read { self.promote(key) } else { Vec::new() }
    }

    /// Whether anything was held there.
    fn unhold(&mut self, lock: &Lock) -> bool {
        let session = lock.owner.session;
        let Some(file) = self.files.get_mut(&(lock.fid, lock.kind)) else { return false };
        let before = file.held_count(session);
        let changed = file.cut(lock.owner, lock.start, lock.end);
        let after = file.held_count(session);
        if let Some(mine) = self.sessions.get_mut(&session) {
            mine.held_count = (mine.held_count + after).saturating_sub(before);
        }
        changed
    }

    fn enqueue(&mut self, key: FileKey, lock: Lock, cookie: u64) {
        self.files.entry(key).or_default().enqueue(Waiter { lock, cookie });
        let mine = self.sessions.entry(lock.owner.session).or_default();
        mine.waiting.insert(cookie, key);
        mine.files.insert(key);
        if lock.kind == LockKind::Posix {
            self.waits.entry(lock.owner).or_default().insert((lock.fid, cookie));
        }
    }

    /// Grants what has become possible, oldest first, until nothing more is.
    fn promote(&mut self, key: FileKey) -> Vec<Grant> {
        let mut grants = Vec::new();
        while !self.recovering {
            let next = self.files.get_mut(&key).and_then(FileLocks::next_grantable);
            let Some(waiter) = next else { break };
            let (session, cookie) = (waiter.lock.owner.session, waiter.cookie);
            if let Some(mine) = self.sessions.get_mut(&session) {
                mine.waiting.remove(&cookie);
            }
            self.stopped_waiting(&waiter);
            grants.push(Grant { session, cookie });
            grants.append(&mut self.hold(waiter.lock, Some(cookie)));
        }
        grants
    }

    fn stopped_waiting(&mut self, waiter: &Waiter) {
        let owner = waiter.lock.owner;
        if let Some(waits) = self.waits.get_mut(&owner) {
            waits.remove(&(waiter.lock.fid, waiter.cookie));
            if waits.is_empty() {
                self.waits.remove(&owner);
            }
        }
    }

    /// Drops a file's entry once nothing is in it, and the session's once nothing of it is.
    fn tidy(&mut self, session: u64, key: FileKey) {
        let used = self.files.get(&key).is_some_and(|file| file.has(session));
        if let Some(mine) = self.sessions.get_mut(&session).filter(|_| !used) {
            mine.files.remove(&key);
        }
        if self.files.get(&key).is_some_and(FileLocks::is_empty) {
            self.files.remove(&key);
        }
    }
}
