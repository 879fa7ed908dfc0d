//! Names of files and folders: those that are seen, and those that a crash would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// A folder.
    Dir,
    /// A file, by its number.
    File(u64),
}

/// A change of names that a crash may undo.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    /// A new name, perhaps in place of another.
    Link { path: PathBuf, node: Node },
    /// A name went.
    Unlink { path: PathBuf },
    /// A name moved, as one step.
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl NameChange {
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let (first, second) = match self {
            Self::Link { path, .. } | Self::Unlink { path } => (path, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let (first, second) = match self {
            Self::Link { path, .. } | Self::Unlink { path } => (path, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }
}

/// The new path of what lies below a folder that moves.
fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(from).ok().filter(|below| !below.as_os_str().is_empty())?;
    Some(to.join(below))
}

/// Paths and what they stand for. The root folder is not in it.
pub(super) type NameMap = BTreeMap<PathBuf, Node>;

/// Names as seen, as durable, and the changes between, each with its place in time.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) live: NameMap,
    pub(super) durable: NameMap,
    pub(super) pending: Vec<(u64, NameChange)>,
}

impl Names {
    pub(super) fn change(&mut self, at: u64, change: NameChange) {
        apply(&mut self.live, &change);
        if let NameChange::Rename { from, to, node: Node::Dir } = &change {
            // What is not durable yet in the folder is in it wherever it is.
            for path in self.pending.iter_mut().flat_map(|(_, change)| change.paths_mut()) {
                if let Some(moved) = moved(path, from, to) {
                    *path = moved;
                }
            }
        }
        self.pending.push((at, change));
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.live.get(path) == Some(&Node::Dir)
    }

    /// Makes the names in one folder durable, and no others: the disk owes nobody more.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        // A rename takes with it what came before it under its other name.
        let mut wanted: BTreeSet<PathBuf> = BTreeSet::new();
        let mut chosen: BTreeSet<u64> = BTreeSet::new();
        for (at, change) in self.pending.iter().rev() {
            if change.paths().any(|p| p.parent() == Some(dir) || wanted.contains(p)) {
                chosen.insert(*at);
                wanted.extend(change.paths().cloned());
            }
        }
        for (at, change) in &self.pending {
            if chosen.contains(at) {
                apply(&mut self.durable, change);
            }
        }
        self.pending.retain(|(at, _)| !chosen.contains(at));
    }

    /// Makes all names durable.
    pub(super) fn sync_all(&mut self) {
        self.pending.clear();
        self.durable = self.live.clone();
    }

    /// After a crash that kept the changes for which `keep` holds.
    pub(super) fn crash(&mut self, mut keep: impl FnMut(u64) -> bool) {
        for (at, change) in std::mem::take(&mut self.pending) {
            if keep(at) {
                apply(&mut self.durable, &change);
            }
        }
        // What lay in a folder that is gone is gone.
        let dirs: BTreeSet<PathBuf> = self
            .durable
            .iter()
            .filter(|(_, node)| **node == Node::Dir)
            .map(|(path, _)| path.clone())
            .collect();
        self.durable.retain(|path, _| {
            path.ancestors().skip(1).all(|up| up.as_os_str().is_empty() || dirs.contains(up))
        });
        self.live = self.durable.clone();
    }
}

fn apply(map: &mut NameMap, change: &NameChange) {
    match change {
        NameChange::Link { path, node } => {
            map.insert(path.clone(), *node);
        }
        NameChange::Unlink { path } => {
            map.remove(path);
        }
        NameChange::Rename { from, to, node } => {
            map.remove(from);
            map.insert(to.clone(), *node);
            if *node == Node::Dir {
                let below: Vec<PathBuf> =
                    map.keys().filter(|path| moved(path, from, to).is_some()).cloned().collect();
                for path in below {
                    if let (Some(node), Some(to)) = (map.remove(&path), moved(&path, from, to)) {
                        map.insert(to, node);
                    }
                }
            }
        }
    }
}
