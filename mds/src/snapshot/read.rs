//! Checking a snapshot, and filling a store from it.

use std::ops::ControlFlow;
use std::path::Path;

use nacre_node::{Disk, DiskFile};

use super::format::{self, CHUNK_HEADER_BYTES, FILE_HEADER, Kind};
use super::{SnapshotError, io_error, list, path_of};
use crate::engine::{Head, set_rebuilding};
use crate::fault::io_fault;
use crate::store::{Batch, KEY_END, MetaStore, StoreError};

/// Keys removed at a time while a store is emptied.
const CLEAR_KEYS: usize = 4096;

/// Fills `store` from the newest good snapshot that holds at least command `from_min`; `None`
/// if there is none, and nothing has been changed then. A crash on the way leaves a store that
/// says of itself that it is being rebuilt.
pub fn restore(
    disk: &dyn Disk,
    dir: &Path,
    store: &dyn MetaStore,
    from_min: u64,
) -> Result<Option<Head>, SnapshotError> {
    for index in list(disk, dir)?.into_iter().rev().filter(|index| *index >= from_min) {
        let path = path_of(dir, index);
        // All of it is checked before the store loses anything.
        let head = match walk(disk, &path, &mut |_| Ok(())) {
            Ok(head) if head.applied == index => head,
            Ok(_) => {
                tracing::error!(path = %path.display(), "snapshot holds another state than its name says");
                continue;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(path = %path.display(), error, "bad snapshot, trying an older one");
                continue;
            }
        };
        clear(store)?;
        walk(disk, &path, &mut |batch| store.apply(&batch))?;
        let mut last = Batch::new();
        head.store_in(&mut last);
        set_rebuilding(&mut last, false);
        store.apply(&last)?;
        store.checkpoint()?;
        return Ok(Some(head));
    }
    Ok(None)
}

/// Empties a store, leaving the mark that it is being rebuilt.
pub fn clear(store: &dyn MetaStore) -> Result<(), StoreError> {
    let mut mark = Batch::new();
    set_rebuilding(&mut mark, true);
    store.apply(&mark)?;
    loop {
        let mut gone = Batch::new();
        store.scan(&[1], &KEY_END, &mut |key, _| {
            gone.insert(key.to_vec(), None);
            if gone.len() < CLEAR_KEYS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if gone.is_empty() {
            return Ok(());
        }
        store.apply(&gone)?;
    }
}

/// Shows every chunk in order, and returns what the end says.
fn walk(
    disk: &dyn Disk,
    path: &Path,
    visit: &mut dyn FnMut(Batch) -> Result<(), StoreError>,
) -> Result<Head, SnapshotError> {
    let file = disk.open(path).map_err(io_error("open", path))?;
    let damaged = |offset| SnapshotError::Damaged { path: path.to_owned(), offset };
    let header = read(&*file, 0, FILE_HEADER.len()).map_err(io_error("read", path))?;
    if header != FILE_HEADER {
        return Err(damaged(0));
    }
    let (mut at, mut chunks) = (FILE_HEADER.len() as u64, 0);
    loop {
        let header = read(&*file, at, CHUNK_HEADER_BYTES).map_err(io_error("read", path))?;
        let header = header.first_chunk().ok_or_else(|| damaged(at))?;
        let (len, kind) = format::parse_header(header).ok_or_else(|| damaged(at))?;
        let begin = at + CHUNK_HEADER_BYTES as u64;
        let all = file.len().map_err(io_error("read", path))?;
        if begin.saturating_add(len as u64) > all {
            return Err(damaged(at));
        }
        let payload = read(&*file, begin, len).map_err(io_error("read", path))?;
        if payload.len() != len || !format::is_good(header, &payload) {
            return Err(damaged(at));
        }
        match kind {
            Kind::Pairs | Kind::Changes => {
                visit(format::pairs(&payload).ok_or_else(|| damaged(at))?)?;
            }
            Kind::End => {
                let (head, count) = format::parse_end(&payload).ok_or_else(|| damaged(at))?;
                let whole = count == chunks && begin + len as u64 == all;
                return if whole { Ok(head) } else { Err(damaged(at)) };
            }
        }
        chunks += 1;
        at = begin + len as u64;
    }
}

/// Up to `len` bytes; fewer at the end of the file.
fn read(file: &dyn DiskFile, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    io_fault!("mds::snapshot::read");
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, offset)?;
    bytes.truncate(got);
    Ok(bytes)
}
