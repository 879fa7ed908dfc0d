//! What whole folders are asked for beyond [`Disk`](crate::Disk): engines that use files on their
//! own move and remove them, and tests look whether everything in one is durable.

use std::io;
use std::path::Path;

use super::names::{NameChange, Node};
use super::{DiskCall, MemDisk, errno, file_of, not_found, plain};

impl MemDisk {
    /// Changes of files in a folder, and of its names, that a crash could still undo.
    pub fn unsynced(&self, folder: &Path) -> usize {
        let state = self.state.lock();
        let inside = state.names.live.iter().filter(|(path, _)| path.parent() == Some(folder));
        let files = inside.filter_map(|(_, node)| state.files.get(&file_of(*node)?));
        let names = state.names.pending.iter().flat_map(|(_, change)| change.paths());
        files.map(|file| file.pending.len()).sum::<usize>()
            + names.filter(|path| path.parent() == Some(folder)).count()
    }

    /// Moves a folder with all that is in it to a place that is free.
    pub fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from)?, plain(to)?);
        let mut state = self.state.lock();
        state.powered()?;
        if state.names.live.get(&from) != Some(&Node::Dir) {
            return Err(not_found(&from));
        }
        state.parent_must_exist(&to)?;
        if to.starts_with(&from) {
            return Err(errno(libc::EINVAL));
        }
        if state.names.live.contains_key(&to) {
            return Err(errno(libc::EEXIST));
        }
        state.call(DiskCall::Rename)?;
        let at = state.tick();
        state.names.change(at, NameChange::Rename { from, to, node: Node::Dir });
        Ok(())
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let path = plain(path)?;
        let mut state = self.state.lock();
        state.powered()?;
        if state.names.live.get(&path) != Some(&Node::Dir) {
            return Err(not_found(&path));
        }
        if state.names.live.keys().any(|name| name.parent() == Some(&path)) {
            return Err(errno(libc::ENOTEMPTY));
        }
        state.call(DiskCall::Remove)?;
        let at = state.tick();
        state.names.change(at, NameChange::Unlink { path });
        Ok(())
    }
}
