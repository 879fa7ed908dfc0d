//! What the kernel keeps, as far as it must be known to make it forget.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::known::Known;
use super::linking::Linking;

/// Shared by those who tell the kernel things and those who make it forget.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) known: Known,
    pub(super) linking: Linking,
    pub(super) names: Names,
}

impl Kept {
    pub(super) fn new(rest: Duration) -> Self {
        Self { known: Known::default(), linking: Linking::default(), names: Names::new(rest) }
    }

    /// Another process told the kernel things before.
    pub(super) fn inherit(&self) {
        self.names.state.lock().granted = true;
    }
}

/// Whether the kernel keeps names, and may.
///
/// It forgets all at once or none, and what it forgets costs more than the name: with its last
/// name the inode goes, and with it the pages of files that nobody has open. So after names had to
/// be forgotten none are granted for a while, and as long as none are, nothing must be forgotten.
#[derive(Debug)]
pub(super) struct Names {
    state: Mutex<State>,
    rest: Duration,
}

#[derive(Debug, Default)]
struct State {
    granted: bool,
    not_before: Option<Instant>,
}

impl Names {
    fn new(rest: Duration) -> Self {
        Self { state: Mutex::default(), rest }
    }

    /// Asks to grant names in an answer that is sent now.
    pub(super) fn grant(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        if state.not_before.is_some_and(|time| now < time) {
            return false;
        }
        state.granted = true;
        true
    }

    /// Whether any were granted since they were forgotten last: then they must be forgotten now.
    pub(super) fn recall(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let granted = std::mem::take(&mut state.granted);
        if granted {
            state.not_before = now.checked_add(self.rest);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_rest_after_they_were_forgotten_and_are_forgotten_only_if_there_are_any() {
        let names = Names::new(Duration::from_secs(1));
        let at = |millis| Instant::now() + Duration::from_millis(millis);
        assert!(!names.recall(at(0)), "there are none");
        assert!(names.grant(at(0)));
        assert!(names.recall(at(0)));
        assert!(!names.grant(at(500)) && !names.recall(at(500)));
        assert!(names.grant(at(2_000)) && names.recall(at(2_000)));
    }
}
