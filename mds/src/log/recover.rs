//! Reading the log after a restart: what is good, what was torn, what is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_node::{Disk, DiskFile};

use super::record::{self, Record};
use super::segment::{self, HEADER_LEN, SegmentHeader};
use super::writer::{Log, Open};
use super::{LogConfig, LogError, io_error};
use crate::fault::io_fault;

/// No two records that may both be in the log are further apart: it bounds what is checked.
const INDEX_REACH: u64 = 1 << 32;

/// A log that has been found, but not read yet.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    found: Vec<Found>,
}

struct Found {
    first: u64,
    /// `None` if it is bad, or says another index than the name.
    header: Option<SegmentHeader>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

/// How far a segment's records go.
struct Scanned {
    next: u64,
    end: usize,
}

impl LogReader {
    /// Looks for the log in its folder, which is made if there is none.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<Self, LogError> {
        let dir = &config.dir;
        create_dir(&*disk, dir).map_err(io_error("make folder", dir))?;
        let parent = dir.parent().unwrap_or(dir);
        disk.sync_dir(parent).map_err(io_error("sync folder", parent))?;
        let mut found = Vec::new();
        for first in segment::list(&*disk, dir).map_err(io_error("list", dir))? {
            let path = segment::path_of(dir, first);
            let file = open(&*disk, &path).map_err(io_error("open", &path))?;
            let mut bytes = vec![0; HEADER_LEN];
            let got = file.read_at(&mut bytes, 0).map_err(io_error("read", &path))?;
            bytes.truncate(got);
            let header = SegmentHeader::decode(&bytes).filter(|header| header.first == first);
            found.push(Found { first, header, path, file });
        }
        Ok(Self { disk, config, found })
    }

    /// Index of the oldest record that may be there; `None` without segments.
    pub fn first_index(&self) -> Option<u64> {
        self.found.iter().find_map(|found| found.header).map(|header| header.first)
    }

    /// Shows `visit` all good records from index `from` on, cuts a torn tail off, and opens the
    /// log for appending behind the last one.
    ///
    /// Everything shown is durable when this returns. Fails with [`LogError::Gap`] if older
    /// records than those that are there would be needed, and with [`LogError::Damaged`] if a
    /// record that had been durable is bad.
    pub fn recover<E: From<LogError>>(
        self,
        from: u64,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Log, E> {
        let begins_before = |found: &Found| found.header.is_some_and(|h| h.first <= from);
        let Some(start) = self.found.iter().rposition(begins_before) else {
            if let Some(oldest) = self.first_index() {
                return Err(LogError::Gap { needed: from, oldest }.into());
            }
            // A first segment that was being made when the machine stopped.
            self.damage_behind(0, from)?;
            return Ok(Log::create(self.disk, self.config, from)?);
        };
        let mut next = self.found.get(start).map_or(from, |found| found.first);
        let mut last = start;
        let mut end = HEADER_LEN;
        for (at, found) in self.found.iter().enumerate().skip(start) {
            // A bad header: it was being made when the machine stopped. Another index: what is
            // before it was torn.
            if found.header.is_none_or(|header| header.first != next) {
                break;
            }
            let bytes = segment::read(&*found.file).map_err(io_error("read", &found.path))?;
            let scanned = scan(&bytes, next, from, visit)?;
            (last, next, end) = (at, scanned.next, scanned.end);
            damage_in(found, end, &bytes, next)?;
        }
        self.damage_behind(last + 1, next)?;
        Ok(self.cut(last, next, end as u64)?)
    }

    /// The segments from number `at` on are to be thrown away: had any record from `next` on
    /// been durable?
    fn damage_behind(&self, at: usize, next: u64) -> Result<(), LogError> {
        for found in self.found.iter().skip(at) {
            if found.header.is_some_and(|header| header.durable >= next) {
                let (path, offset) = (found.path.clone(), 0);
                return Err(LogError::Damaged { path, offset, index: next });
            }
            let bytes = segment::read(&*found.file).map_err(io_error("read", &found.path))?;
            damage_in(found, 0, &bytes, next)?;
        }
        Ok(())
    }

    /// Makes the log end before `next`, at `end` of segment number `last`, on the disk too.
    fn cut(self, last: usize, next: u64, end: u64) -> Result<Log, LogError> {
        let Self { disk, config, mut found } = self;
        let torn = found.split_off(last + 1);
        // Newest first: a crash in between leaves no gap.
        for segment in torn.iter().rev() {
            tracing::warn!(path = %segment.path.display(), next, "removing torn log segment");
            disk.remove(&segment.path).map_err(io_error("remove", &segment.path))?;
        }
        if !torn.is_empty() {
            disk.sync_dir(&config.dir).map_err(io_error("sync folder", &config.dir))?;
        }
        let open = found.into_iter().map(|f| Open { first: f.first, file: f.file, clean: true });
        Log::reopen(disk, config, open.collect(), next, end)
    }
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
    io_fault!("mds::log::create_dir");
    disk.create_dir(dir)
}

fn open(disk: &dyn Disk, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
    io_fault!("mds::log::open");
    disk.open(path)
}

/// Finds out whether the records from `next` on, of which none is good at `offset`, had been
/// durable: a later record that is good would say so.
fn damage_in(found: &Found, offset: usize, bytes: &[u8], next: u64) -> Result<(), LogError> {
    let bytes = bytes.get(offset..).unwrap_or(&[]);
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    for at in (0..bytes.len()).step_by(record::ALIGN_BYTES) {
        let bytes = bytes.get(at..).unwrap_or(&[]);
        let near = |(index, _)| index > next && index - next < INDEX_REACH;
        if record::peek(bytes).is_some_and(near)
            && let Some((later, _)) = record::decode(bytes)
            && later.durable >= next
        {
            let (path, offset) = (found.path.clone(), (offset + at) as u64);
            return Err(LogError::Damaged { path, offset, index: next });
        }
    }
    Ok(())
}

/// Walks the records of one segment that begins with `next`.
fn scan<E>(
    bytes: &[u8],
    mut next: u64,
    from: u64,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut end = HEADER_LEN;
    while let Some((record, len)) = bytes.get(end..).and_then(record::decode) {
        if record.index != next {
            break;
        }
        if record.index >= from {
            visit(record)?;
        }
        next += 1;
        end += len;
    }
    Ok(Scanned { next, end })
}
