//! The names of one folder, and what they may be after the metadata server has lost power.
//!
//! The log loses a suffix of what was answered, never something in between: so the names are
//! those after one of the last operations, and the one under way happened or did not.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_model::{Fid, FileKind};

use super::faults::synced_before;

/// Names by path; the fid is absent when nobody was told it.
pub(super) type Names = BTreeMap<String, (FileKind, Option<Fid>)>;
/// Names as they are.
pub(super) type Seen = BTreeMap<String, (FileKind, Fid)>;

/// A change of names.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A new file or folder.
    Make(String, FileKind, Option<Fid>),
    /// Over whatever was there.
    Rename(String, String),
    /// Of a file or an empty folder.
    Remove(String),
}

impl Change {
    /// Makes it, if it can be made at all.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Make(path, kind, fid) => {
                if !names.contains_key(path) {
                    names.insert(path.clone(), (*kind, *fid));
                }
            }
            Self::Rename(from, to) => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

/// Names after each of the last operations.
#[derive(Debug)]
pub(super) struct Tree {
    history: Vec<(Duration, Names)>,
}

impl Tree {
    /// An empty folder.
    pub(super) fn new(at: Duration) -> Self {
        Self { history: vec![(at, Names::new())] }
    }

    /// What should be there.
    pub(super) fn names(&self) -> &Names {
        // There is always one.
        static NONE: Names = Names::new();
        self.history.last().map_or(&NONE, |(_, names)| names)
    }

    /// A change was acknowledged.
    pub(super) fn done(&mut self, at: Duration, change: &Change) {
        let mut names = self.names().clone();
        change.apply(&mut names);
        self.history.push((at, names));
        let old = synced_before(at);
        let keep = self.history.iter().rposition(|(acked, _)| *acked <= old).unwrap_or(0);
        self.history.drain(..keep);
    }

    /// Everything acknowledged so far is on the disk.
    pub(super) fn synced(&mut self) {
        let last = self.history.pop();
        self.history.clear();
        self.history.extend(last);
    }

    /// Compares with what is there and takes that for the truth. `loss`: when the power went;
    /// `under_way`: a change that may have been made or not.
    pub(super) fn check(
        &mut self,
        at: Duration,
        seen: &Seen,
        loss: Option<Duration>,
        under_way: Option<&Change>,
    ) -> Result<(), String> {
        let first = loss.map_or(self.history.len().saturating_sub(1), |loss| {
            let safe = synced_before(loss);
            self.history.iter().rposition(|(acked, _)| *acked <= safe).unwrap_or(0)
        });
        let mut candidates = Vec::new();
        for (_, names) in self.history.iter().skip(first) {
            candidates.push(names.clone());
            if let Some(change) = under_way {
                let mut names = names.clone();
                change.apply(&mut names);
                candidates.push(names);
            }
        }
        if !candidates.iter().any(|names| fits(names, seen)) {
            let count = candidates.len();
            let wanted = candidates.last().map(show).unwrap_or_default();
            let seen: Names = seen.iter().map(|(p, (k, f))| (p.clone(), (*k, Some(*f)))).collect();
            return Err(format!(
                "names are {}\nas in none of {count} states, the last of them {wanted}",
                show(&seen)
            ));
        }
        let names = seen.iter().map(|(path, (kind, fid))| (path.clone(), (*kind, Some(*fid))));
        self.history = vec![(at, names.collect())];
        Ok(())
    }
}

fn fits(wanted: &Names, seen: &Seen) -> bool {
    let same = |(path, (kind, fid)): (&String, &(FileKind, Option<Fid>))| {
        seen.get(path).is_some_and(|(k, f)| k == kind && fid.is_none_or(|fid| fid == *f))
    };
    wanted.len() == seen.len() && wanted.iter().all(same)
}

fn show(names: &Names) -> String {
    let one = |(path, (_, fid)): (&String, &(FileKind, Option<Fid>))| match fid {
        Some(fid) => format!("{path}={fid}"),
        None => format!("{path}=?"),
    };
    names.iter().map(one).collect::<Vec<_>>().join(" ")
}
