//! Numbers that the kernel knows, and the paths and open files behind them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_node::DiskFile;

/// The root, as FUSE numbers it.
pub(super) const ROOT: u64 = 1;

/// One inode.
#[derive(Clone)]
pub(super) struct Inode {
    pub(super) path: PathBuf,
    /// `None` of a folder. A file stays readable here after it has lost its name.
    pub(super) file: Option<Arc<dyn DiskFile>>,
}

/// The table. Numbers are never used twice.
pub(super) struct Inodes {
    by_number: BTreeMap<u64, Inode>,
    by_path: BTreeMap<PathBuf, u64>,
    next: u64,
}

impl Default for Inodes {
    fn default() -> Self {
        let root = Inode { path: PathBuf::new(), file: None };
        let by_path = BTreeMap::from([(PathBuf::new(), ROOT)]);
        Self { by_number: BTreeMap::from([(ROOT, root)]), by_path, next: ROOT + 1 }
    }
}

impl Inodes {
    pub(super) fn get(&self, number: u64) -> Option<Inode> {
        self.by_number.get(&number).cloned()
    }

    pub(super) fn number_of(&self, path: &Path) -> Option<u64> {
        self.by_path.get(path).copied()
    }

    pub(super) fn add(&mut self, path: PathBuf, file: Option<Arc<dyn DiskFile>>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_path.insert(path.clone(), number);
        self.by_number.insert(number, Inode { path, file });
        number
    }

    pub(super) fn removed(&mut self, path: &Path) {
        self.by_path.remove(path);
    }

    /// A file or folder has a new path, and so has everything below it.
    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        self.by_path.remove(to);
        let moved: Vec<_> =
            self.by_path.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for old in moved {
            let Some(number) = self.by_path.remove(&old) else { continue };
            let below = old.strip_prefix(from).map(Path::to_owned).unwrap_or_default();
            let new = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            if let Some(inode) = self.by_number.get_mut(&number) {
                inode.path.clone_from(&new);
            }
            self.by_path.insert(new, number);
        }
    }

    /// After a crash: whatever the kernel still knows is stale.
    pub(super) fn forget_all(&mut self) {
        let next = self.next;
        *self = Self { next, ..Self::default() };
    }
}
