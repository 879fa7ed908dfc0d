//! Writing a snapshot: under another name until it is whole and durable.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_node::{Disk, DiskFile};

use super::format::{self, Kind};
use super::{KEPT, SnapshotError, io_error, list, path_of};
use crate::engine::Head;
use crate::fault::io_fault;
use crate::store::{Batch, KEY_END, StoreError, View};

/// Bytes of the scan that are written at a time.
const SCAN_BYTES: usize = 1 << 20;
const NEW: &str = "new.tmp";

/// A snapshot that is being written.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn DiskFile>,
    end: u64,
    chunks: u64,
    /// Where the scan goes on; `None` when it is through.
    cursor: Option<Vec<u8>>,
}

impl SnapshotWriter {
    /// Begins one; what an interrupted one left is overwritten.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, SnapshotError> {
        disk.create_dir(dir).map_err(io_error("make folder", dir))?;
        let path = dir.join(NEW);
        let file = create(&*disk, &path).map_err(io_error("create", &path))?;
        file.set_len(0).map_err(io_error("cut", &path))?;
        let dir = dir.to_owned();
        let mut new = Self { disk, dir, file, end: 0, chunks: 0, cursor: Some(vec![1]) };
        new.write(&format::FILE_HEADER)?;
        Ok(new)
    }

    /// Copies the next piece of the store; false when the scan is through.
    pub fn copy_some(&mut self, view: &dyn View) -> Result<bool, SnapshotError> {
        let Some(from) = self.cursor.take() else { return Ok(false) };
        let mut payload = Vec::new();
        view.scan(&from, &KEY_END, &mut |key, value| {
            if payload.len() >= SCAN_BYTES {
                self.cursor = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            format::put_pair(key, Some(value), &mut payload);
            ControlFlow::Continue(())
        })?;
        self.chunk(Kind::Pairs, &payload)?;
        Ok(self.cursor.is_some())
    }

    /// Adds changes that were made since the scan began.
    pub fn add_changes(&mut self, batch: &Batch) -> Result<(), SnapshotError> {
        let mut payload = Vec::new();
        for (key, value) in batch {
            // The engine's own records are made anew when it is loaded.
            if key.first().is_some_and(|kind| *kind > 0) {
                format::put_pair(key, value.as_deref(), &mut payload);
            }
        }
        self.chunk(Kind::Changes, &payload)
    }

    /// Makes it durable and gives it its name, `head` being the state that it holds. Of the
    /// older ones the newest is kept.
    pub fn finish(mut self, head: Head) -> Result<(), SnapshotError> {
        let end = format::end(head, self.chunks);
        self.chunk(Kind::End, &end)?;
        let (new, path) = (self.dir.join(NEW), path_of(&self.dir, head.applied));
        sync_data(&*self.file).map_err(io_error("sync", &new))?;
        rename(&*self.disk, &new, &path).map_err(io_error("rename", &path))?;
        self.disk.sync_dir(&self.dir).map_err(io_error("sync folder", &self.dir))?;
        let parent = self.dir.parent().unwrap_or(&self.dir);
        self.disk.sync_dir(parent).map_err(io_error("sync folder", parent))?;
        let all = list(&*self.disk, &self.dir)?;
        for old in all.iter().rev().skip(KEPT) {
            let path = path_of(&self.dir, *old);
            self.disk.remove(&path).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    fn chunk(&mut self, kind: Kind, payload: &[u8]) -> Result<(), SnapshotError> {
        let limits = StoreError::Limits { key_bytes: 0, value_bytes: payload.len() };
        let bytes = format::chunk(kind, payload).ok_or(limits)?;
        self.chunks += 1;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let path = self.dir.join(NEW);
        write_at(&*self.file, bytes, self.end).map_err(io_error("write", &path))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

fn create(disk: &dyn Disk, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
    io_fault!("mds::snapshot::create");
    disk.create(path)
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> std::io::Result<()> {
    io_fault!("mds::snapshot::rename");
    disk.rename(from, to)
}

fn write_at(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    io_fault!("mds::snapshot::write");
    file.write_at(bytes, offset)
}

fn sync_data(file: &dyn DiskFile) -> std::io::Result<()> {
    io_fault!("mds::snapshot::sync");
    file.sync_data()
}
