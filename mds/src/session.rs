//! Client sessions: who is alive, who has to be evicted, who has not come back yet.
//!
//! ```text
//!            OpenSession                    silent for a lease time
//! (unknown) ─────────────► live ─────────────────────────────────────► evicted: ESTALE
//!                           ▲                                              ▲
//!  after a restart: lost ───┴──── OpenSession within the reclaim window    │
//!                     └────────── window over ─────────────────────────────┘
//! ```
//!
//! Which sessions exist is durable and in the namespace; how they feel is here. Times are measured
//! from the server's start, by the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nacre_model::{Effect, Errno, Retry, ServiceError};

/// Most sessions at a time.
pub const SESSIONS_MAX: usize = 1 << 16;

/// Why a request of a session is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It was evicted, or is of another file system's life: open a new one.
    #[error("session {0:#x} is not open here: it was closed or evicted")]
    Unknown(u64),
    /// It was open before the server restarted: open it again and claim what it holds.
    #[error("session {0:#x} must be opened again after the restart of the server")]
    Reopen(u64),
    /// The client claims what it held in a session that has ended since.
    #[error("client {0} was evicted: what it held is lost")]
    Evicted(String),
    /// A limit is reached.
    #[error("{SESSIONS_MAX} clients are connected")]
    TooMany,
}

impl ServiceError for SessionError {
    fn errno(&self) -> Errno {
        match self {
            Self::Unknown(_) | Self::Reopen(_) | Self::Evicted(_) => Errno::ESTALE,
            Self::TooMany => Errno::ENFILE,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            Self::Unknown(_) | Self::Reopen(_) | Self::Evicted(_) => Retry::AfterRefresh,
            Self::TooMany => Retry::Never,
        }
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

/// Volatile part of the session table.
#[derive(Debug)]
pub struct SessionTable {
    lease: Duration,
    live: BTreeMap<u64, Duration>,
    /// Durable, and not heard of since the start.
    lost: BTreeSet<u64>,
    /// On their way out: they cannot be opened again.
    ending: BTreeSet<u64>,
    window_end: Duration,
    recovering: bool,
}

/// What time has brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Sessions to end: their clients were silent for too long.
    pub evicted: Vec<u64>,
    /// Sessions to end: their clients did not come back after the restart.
    pub lost: Vec<u64>,
    /// The reclaim window has closed just now.
    pub recovered: bool,
}

impl SessionTable {
    /// A table after a start at time zero, with the sessions that the namespace knows. Without
    /// any there is nothing to wait for, and the first tick says so.
    pub fn new(lease: Duration, durable: impl IntoIterator<Item = u64>) -> Self {
        Self {
            lease,
            live: BTreeMap::new(),
            lost: durable.into_iter().collect(),
            ending: BTreeSet::new(),
            window_end: lease,
            recovering: true,
        }
    }

    /// A client has opened its session, for the first time or again.
    pub fn opened(&mut self, session: u64, now: Duration) -> Result<(), SessionError> {
        if self.ending.contains(&session) {
            return Err(SessionError::Unknown(session));
        }
        if self.live.len() >= SESSIONS_MAX && !self.live.contains_key(&session) {
            return Err(SessionError::TooMany);
        }
        self.lost.remove(&session);
        self.live.insert(session, now);
        Ok(())
    }

    /// The session is about to end: nothing of it is served from here on. `false`: it was not
    /// live.
    pub fn ends(&mut self, session: u64) -> bool {
        self.lost.remove(&session);
        self.ending.insert(session);
        self.live.remove(&session).is_some()
    }

    /// The session has ended.
    pub fn closed(&mut self, session: u64) {
        self.ending.remove(&session);
        self.live.remove(&session);
        self.lost.remove(&session);
    }

    /// The client was heard. Also the check that every request begins with.
    pub fn heard(&mut self, session: u64, now: Duration) -> Result<(), SessionError> {
        match self.live.get_mut(&session) {
            Some(last) => {
                *last = (*last).max(now);
                Ok(())
            }
            None if self.lost.contains(&session) => Err(SessionError::Reopen(session)),
            None => Err(SessionError::Unknown(session)),
        }
    }

    /// Looks at the time. Evicted sessions are out of the table at once: nothing of theirs is
    /// served from here on.
    pub fn tick(&mut self, now: Duration) -> Ticked {
        let mut ticked = Ticked::default();
        // Whoever is on its way out may still have something under way.
        let none_ending = self.ending.is_empty();
        if self.recovering && none_ending && (self.lost.is_empty() || now >= self.window_end) {
            self.recovering = false;
            ticked.recovered = true;
            ticked.lost.extend(std::mem::take(&mut self.lost));
            self.ending.extend(&ticked.lost);
        }
        let lease = self.lease;
        self.live.retain(|session, last| {
            let silent = now.saturating_sub(*last) > lease;
            if silent {
                ticked.evicted.push(*session);
            }
            !silent
        });
        self.ending.extend(&ticked.evicted);
        ticked
    }

    /// Whether clients may still claim what they held before the restart.
    pub fn recovering(&self) -> bool {
        self.recovering
    }

    /// Whether a session is live.
    pub fn is_live(&self, session: u64) -> bool {
        self.live.contains_key(&session)
    }

    /// Live sessions.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_silent_session_is_evicted_and_told_to_begin_anew() {
        let mut table = SessionTable::new(secs(10), []);
        assert!(table.tick(secs(0)).recovered);
        table.opened(1, secs(0)).unwrap();
        table.opened(2, secs(0)).unwrap();
        table.heard(2, secs(5)).unwrap();
        assert_eq!(table.tick(secs(10)), Ticked::default(), "a lease time is not yet over");
        assert_eq!(table.tick(secs(11)).evicted, [1]);
        assert_eq!(table.heard(1, secs(11)), Err(SessionError::Unknown(1)));
        assert_eq!(table.heard(2, secs(11)), Ok(()));
    }

    #[test]
    fn the_reclaim_window_closes_early_when_all_are_back() {
        let mut table = SessionTable::new(secs(10), [1, 2]);
        assert_eq!(table.heard(1, secs(1)), Err(SessionError::Reopen(1)));
        table.opened(1, secs(1)).unwrap();
        assert_eq!(table.tick(secs(1)), Ticked::default());
        table.opened(2, secs(2)).unwrap();
        assert_eq!(table.tick(secs(2)), Ticked { recovered: true, ..Ticked::default() });
        assert!(!table.recovering());
    }

    #[test]
    fn the_window_stays_open_while_a_session_is_being_ended() {
        let mut table = SessionTable::new(secs(10), [1]);
        assert!(!table.ends(1));
        assert!(!table.tick(secs(1)).recovered);
        assert_eq!(table.opened(1, secs(1)), Err(SessionError::Unknown(1)));
        table.closed(1);
        assert!(table.tick(secs(1)).recovered);
    }

    #[test]
    fn who_does_not_come_back_in_time_is_evicted_once() {
        let mut table = SessionTable::new(secs(10), [1, 2]);
        table.opened(1, secs(5)).unwrap();
        let ended = Ticked { lost: vec![2], recovered: true, ..Ticked::default() };
        assert_eq!(table.tick(secs(10)), ended);
        assert_eq!(table.tick(secs(10)), Ticked::default());
        assert_eq!(table.heard(2, secs(10)), Err(SessionError::Unknown(2)));
    }
}
