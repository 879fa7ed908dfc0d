//! Reading the log after a restart: what is good, what was torn, what is damaged.

use std::path::PathBuf;
use std::sync::Arc;

use nacre_node::{Disk, DiskFile};

use super::record::{self, Record};
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::writer::{Log, Open};
use super::{LogConfig, LogError, io_error};

/// A log that has been found, but not read yet.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    found: Vec<Found>,
}

struct Found {
    first: u64,
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
        disk.create_dir(dir).map_err(io_error("make folder", dir))?;
        let parent = dir.parent().unwrap_or(dir);
        disk.sync_dir(parent).map_err(io_error("sync folder", parent))?;
        let mut found = Vec::new();
        for first in segment::list(&*disk, dir).map_err(io_error("list", dir))? {
            let path = segment::path_of(dir, first);
            let file = disk.open(&path).map_err(io_error("open", &path))?;
            found.push(Found { first, path, file });
        }
        Ok(Self { disk, config, found })
    }

    /// Index of the oldest record that may be there; `None` without segments.
    pub fn first_index(&self) -> Option<u64> {
        self.found.first().map(|found| found.first)
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
        let Some(oldest) = self.first_index() else {
            return Ok(Log::create(self.disk, self.config, from)?);
        };
        if oldest > from {
            return Err(LogError::Gap { needed: from, oldest }.into());
        }
        let start = self.found.iter().rposition(|found| found.first <= from).unwrap_or(0);
        let mut next = self.found.get(start).map_or(from, |found| found.first);
        let mut last = start;
        let mut end = SEGMENT_HEADER_BYTES;
        for (at, found) in self.found.iter().enumerate().skip(start) {
            let bytes = segment::read(&*found.file).map_err(io_error("read", &found.path))?;
            let Some(scanned) = scan(&bytes, found.first, next, from, visit)? else {
                break;
            };
            (last, next, end) = (at, scanned.next, scanned.end as u64);
            let rest = bytes.get(scanned.end..).unwrap_or(&[]);
            self.damage_in(found, scanned.end, rest, next)?;
        }
        for found in self.found.iter().skip(last + 1) {
            let bytes = segment::read(&*found.file).map_err(io_error("read", &found.path))?;
            let header = SegmentHeader::decode(&bytes);
            if header.is_some_and(|header| header.first == found.first && header.durable >= next) {
                let (path, offset) = (found.path.clone(), 0);
                return Err(LogError::Damaged { path, offset, index: next }.into());
            }
            self.damage_in(found, 0, &bytes, next)?;
        }
        Ok(self.cut(last, next, end)?)
    }

    /// Finds out whether the records from `next` on, of which none is good at `offset`, had been
    /// durable: a later record that is good would say so.
    fn damage_in(
        &self,
        found: &Found,
        offset: usize,
        bytes: &[u8],
        next: u64,
    ) -> Result<(), LogError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        // An index cannot be further away than there is room for records.
        let room = u64::MAX / 2;
        for at in (0..bytes.len()).step_by(record::ALIGN_BYTES) {
            let bytes = bytes.get(at..).unwrap_or(&[]);
            let near = |(index, _)| index > next && index - next < room;
            if record::peek(bytes).is_some_and(near)
                && let Some((later, _)) = record::decode(bytes)
                && later.durable >= next
            {
                let (path, offset) = (found.path.clone(), offset as u64);
                return Err(LogError::Damaged { path, offset, index: next });
            }
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

/// Walks the records of one segment. `None` if its header is bad or it does not begin at `next`:
/// it was being made when the machine stopped, or follows what was torn.
fn scan<E>(
    bytes: &[u8],
    first: u64,
    next: u64,
    from: u64,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Option<Scanned>, E> {
    let begins_here = SegmentHeader::decode(bytes).is_some_and(|header| header.first == first);
    if !begins_here || first != next {
        return Ok(None);
    }
    let mut next = next;
    let mut end = usize::try_from(SEGMENT_HEADER_BYTES).expect("64");
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
    Ok(Some(Scanned { next, end }))
}
