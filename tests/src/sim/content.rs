//! What a file must hold, as far as that is certain.

use std::time::Duration;

use super::faults::Faults;

/// A file's bytes: what they should be, and what else they may be if something went wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// What it should hold.
    newest: Vec<u8>,
    /// What it may have held before, the first of them synced.
    older: Vec<Vec<u8>>,
    /// Something since then ended in an error: each byte is of one version or another.
    doubt: bool,
    /// What is not synced was begun at this time, and answered last at `acked`.
    risk_since: Option<Duration>,
    acked: Duration,
    /// What the metadata server may have forgotten the size of: the objects may still have it, and
    /// it may come back when the file is written again.
    ghosts: Vec<Vec<u8>>,
}

/// How sure the content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// Exactly this.
    Exact,
    /// An operation failed: each byte is of one of the versions.
    Mixed,
    /// Power was lost: each byte is of one of the versions, or zero.
    Lossy,
}

impl Content {
    /// What it should hold.
    pub(super) fn newest(&self) -> &[u8] {
        &self.newest
    }

    /// A change was acknowledged.
    pub(super) fn wrote(&mut self, begun: Duration, acked: Duration, bytes: Vec<u8>) {
        self.older.push(std::mem::replace(&mut self.newest, bytes));
        self.risk_since.get_or_insert(begun);
        self.acked = acked;
    }

    /// Some of the steps of a change may have been made.
    pub(super) fn tried(&mut self, begun: Duration, now: Duration, steps: Vec<Vec<u8>>) {
        for step in steps {
            self.wrote(begun, now, step);
        }
        self.doubt = true;
    }

    /// Everything acknowledged so far is on the disks.
    pub(super) fn synced(&mut self) {
        self.older.clear();
        self.risk_since = None;
    }

    /// How sure it is, after the faults so far.
    pub(super) fn certainty(&self, faults: &Faults) -> Certainty {
        let lost = self.risk_since.is_some_and(|since| faults.oss_power_loss_after(since));
        match (lost || self.is_forgotten(faults) || !self.ghosts.is_empty(), self.doubt) {
            (true, _) => Certainty::Lossy,
            (false, true) => Certainty::Mixed,
            (false, false) => Certainty::Exact,
        }
    }

    fn is_forgotten(&self, faults: &Faults) -> bool {
        self.risk_since.is_some_and(|since| faults.mds_may_forget(since, self.acked))
    }

    /// Compares with what was read, and takes that for the truth from now on.
    pub(super) fn check(
        &mut self,
        seen: &[u8],
        faults: &Faults,
        now: Duration,
    ) -> Result<(), String> {
        let certainty = self.certainty(faults);
        if certainty == Certainty::Exact {
            return same(&self.newest, seen);
        }
        self.mixed(seen, certainty)?;
        if self.is_forgotten(faults) {
            let versions = self.older.iter().chain([&self.newest]);
            self.ghosts.extend(versions.filter(|version| *version != seen).cloned());
        }
        if seen != self.newest {
            self.older.push(std::mem::replace(&mut self.newest, seen.to_vec()));
        }
        self.doubt = false;
        self.risk_since = (!self.older.is_empty()).then_some(now);
        self.acked = now;
        Ok(())
    }

    fn mixed(&self, seen: &[u8], certainty: Certainty) -> Result<(), String> {
        let versions = || self.older.iter().chain([&self.newest]).chain(&self.ghosts);
        let shortest = versions().map(Vec::len).min().unwrap_or(0);
        let longest = versions().map(Vec::len).max().unwrap_or(0);
        if seen.len() < shortest || seen.len() > longest {
            let len = seen.len();
            return Err(format!("{len} bytes, must be {shortest} to {longest} ({certainty:?})"));
        }
        for (at, byte) in seen.iter().enumerate() {
            let zero = *byte == 0 && (certainty == Certainty::Lossy || at >= shortest);
            if !zero && !versions().any(|version| version.get(at) == Some(byte)) {
                let count = self.older.len() + self.ghosts.len() + 1;
                return Err(format!(
                    "byte {at} of {} is {byte:#04x}, as in none of {count} versions ({certainty:?})",
                    seen.len()
                ));
            }
        }
        Ok(())
    }
}

fn same(wanted: &[u8], seen: &[u8]) -> Result<(), String> {
    if wanted.len() != seen.len() {
        return Err(format!("{} bytes, must be {}", seen.len(), wanted.len()));
    }
    match wanted.iter().zip(seen).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => {
            let differing = wanted.iter().zip(seen).filter(|(a, b)| a != b).count();
            let zeros = seen.iter().skip(at).take_while(|byte| **byte == 0).count();
            Err(format!(
                "byte {at} of {} is wrong, {differing} in all; {zeros} zeros from there",
                seen.len()
            ))
        }
    }
}
