//! Appending, and making durable what was appended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nacre_node::{Disk, DiskFile};
use parking_lot::Mutex;

use super::record::{self, PAYLOAD_BYTES_MAX, Record};
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{LogConfig, LogError, io_error};
use crate::fault::io_fault;

/// The writing end. One owner.
pub struct Log {
    shared: Arc<Shared>,
    current: Arc<dyn DiskFile>,
    /// Where the next record goes in the current segment.
    end: u64,
    /// Bytes of the current segment.
    len: u64,
    next: u64,
    group: Vec<u8>,
    group_count: u64,
}

/// The other end: makes appended records durable, and removes old segments. Cheap to clone.
#[derive(Clone)]
pub struct LogSync {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    /// Last index whose record is with the operating system.
    written: AtomicU64,
    /// Last index that is known to be on the disk.
    durable: AtomicU64,
    /// A write or sync failed: what the disk holds is unknown until it is read again.
    failed: AtomicBool,
    /// Oldest first; the last one is written to. Never held across I/O.
    segments: Mutex<Vec<Open>>,
}

/// A segment in use.
pub(super) struct Open {
    pub(super) first: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Nothing will be written to it any more, and all of it is durable.
    pub(super) clean: bool,
}

impl Log {
    /// An empty log whose first record will be `next`. Segments that are there must be gone.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        config: LogConfig,
        next: u64,
    ) -> Result<Self, LogError> {
        let durable = next.saturating_sub(1);
        let (len, header) = (config.segment_bytes, SegmentHeader { first: next, durable });
        let file = segment::create(&*disk, &config.dir, header, len)
            .map_err(io_error("make segment in", &config.dir))?;
        let open = vec![Open { first: next, file: Arc::clone(&file), clean: false }];
        let shared = Arc::new(Shared {
            disk,
            config,
            written: AtomicU64::new(durable),
            durable: AtomicU64::new(durable),
            failed: AtomicBool::new(false),
            segments: Mutex::new(open),
        });
        let end = SEGMENT_HEADER_BYTES;
        Ok(Self { shared, current: file, end, len, next, group: Vec::new(), group_count: 0 })
    }

    /// Goes on behind the record before `next`, which ends at `end` of the last of `segments`.
    /// What stands behind it is zeroed: it must never be taken for a record again.
    pub(super) fn reopen(
        disk: Arc<dyn Disk>,
        config: LogConfig,
        mut segments: Vec<Open>,
        next: u64,
        end: u64,
    ) -> Result<Self, LogError> {
        let last = segments.last_mut().expect("the caller has found a segment");
        last.clean = false;
        let file = Arc::clone(&last.file);
        let len = config.segment_bytes.max(end);
        let path = segment::path_of(&config.dir, last.first);
        let rest_is_zero = || -> std::io::Result<bool> {
            let bytes = segment::read(&*file)?;
            let rest = usize::try_from(end).ok().and_then(|end| bytes.get(end..));
            Ok(bytes.len() as u64 == len && rest.is_some_and(|r| r.iter().all(|b| *b == 0)))
        };
        let zero = || -> std::io::Result<()> {
            if !rest_is_zero()? {
                io_fault!("mds::log::cut");
                file.set_len(end)?;
                file.allocate(0, len, true)?;
            }
            Ok(())
        };
        zero().map_err(io_error("cut", &path))?;
        for segment in &segments {
            // After kill -9 the tail is with the operating system only.
            sync_data(&*segment.file).map_err(io_error("sync", &path))?;
        }
        let shared = Arc::new(Shared {
            disk,
            config,
            written: AtomicU64::new(next.saturating_sub(1)),
            durable: AtomicU64::new(next.saturating_sub(1)),
            failed: AtomicBool::new(false),
            segments: Mutex::new(segments),
        });
        Ok(Self { shared, current: file, end, len, next, group: Vec::new(), group_count: 0 })
    }

    /// Throws all records away and goes on with `next`: for when the store is ahead.
    pub fn restart_at(self, next: u64) -> Result<Self, LogError> {
        let (disk, config) = (Arc::clone(&self.shared.disk), self.shared.config.clone());
        // Oldest first: what a crash leaves is still a suffix.
        let firsts: Vec<u64> = self.shared.segments.lock().iter().map(|s| s.first).collect();
        for first in firsts {
            let path = segment::path_of(&config.dir, first);
            disk.remove(&path).map_err(io_error("remove", &path))?;
        }
        Self::create(disk, config, next)
    }

    /// Index of the last record, those of the open group included.
    pub fn last_index(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The end that syncs.
    pub fn syncer(&self) -> LogSync {
        LogSync { shared: Arc::clone(&self.shared) }
    }

    /// Adds a record to the open group and returns its index.
    pub fn push(&mut self, term: u64, payload: &[u8]) -> Result<u64, LogError> {
        if payload.is_empty() || payload.len() > PAYLOAD_BYTES_MAX {
            return Err(LogError::PayloadLength { bytes: payload.len() });
        }
        let (index, durable) = (self.next, self.shared.durable.load(Ordering::Acquire));
        record::encode(&Record { term, index, durable, payload }, &mut self.group);
        self.next += 1;
        self.group_count += 1;
        Ok(index)
    }

    /// Hands the open group to the operating system with one write: it survives kill -9 when
    /// this returns, and a power cut after [`LogSync::sync`].
    ///
    /// After [`LogError::NoSpace`] the log is as it was before the group, and may be used on;
    /// after any other error it is not to be used until it was recovered.
    pub fn commit(&mut self) -> Result<(), LogError> {
        let group = std::mem::take(&mut self.group);
        let count = std::mem::take(&mut self.group_count);
        if count == 0 {
            return self.shared.usable();
        }
        let before = self.next - count;
        let done = self.write(&group, before);
        self.group = group;
        self.group.clear();
        match &done {
            Ok(()) => self.shared.written.store(self.next - 1, Ordering::Release),
            Err(LogError::NoSpace { .. }) => self.next = before,
            Err(_) => self.shared.failed.store(true, Ordering::Release),
        }
        done
    }

    fn write(&mut self, group: &[u8], first: u64) -> Result<(), LogError> {
        self.shared.usable()?;
        if self.end.saturating_add(group.len() as u64) > self.len {
            self.roll(first, group.len() as u64)?;
        }
        let dir = &self.shared.config.dir;
        write_at(&*self.current, group, self.end).map_err(io_error("write segment in", dir))?;
        self.end += group.len() as u64;
        Ok(())
    }

    /// Goes on in a new segment.
    fn roll(&mut self, first: u64, group_bytes: u64) -> Result<(), LogError> {
        let Shared { disk, config, durable, .. } = &*self.shared;
        let len = config.segment_bytes.max(SEGMENT_HEADER_BYTES.saturating_add(group_bytes));
        let header = SegmentHeader { first, durable: durable.load(Ordering::Acquire) };
        let made = segment::create(&**disk, &config.dir, header, len);
        let file = made.map_err(|error| match error.raw_os_error() {
            Some(28 | 122) => LogError::NoSpace { dir: config.dir.clone(), source: error },
            Some(_) | None => io_error("make segment in", &config.dir)(error),
        })?;
        let open = Open { first, file: Arc::clone(&file), clean: false };
        self.shared.segments.lock().push(open);
        (self.current, self.end, self.len) = (file, SEGMENT_HEADER_BYTES, len);
        Ok(())
    }
}

fn write_at(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    io_fault!("mds::log::write");
    file.write_at(bytes, offset)
}

fn sync_data(file: &dyn DiskFile) -> std::io::Result<()> {
    io_fault!("mds::log::sync");
    file.sync_data()
}

impl Shared {
    fn usable(&self) -> Result<(), LogError> {
        if self.failed.load(Ordering::Acquire) { Err(LogError::Poisoned) } else { Ok(()) }
    }
}

impl LogSync {
    /// Last index whose record is with the operating system.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// Last index that is known to be on the disk.
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Space that the segments take, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.segments.lock().len() as u64 * self.shared.config.segment_bytes
    }

    /// Space of the segments that hold nothing up to `index`, in bytes.
    pub fn bytes_after(&self, index: u64) -> u64 {
        let segments = self.shared.segments.lock();
        let count = segments.iter().filter(|segment| segment.first > index).count();
        count as u64 * self.shared.config.segment_bytes
    }

    /// Makes all records written so far durable; returns the last one's index. Blocks.
    ///
    /// It is never tried again after an error: the kernel may have dropped the pages.
    pub fn sync(&self) -> Result<u64, LogError> {
        self.shared.usable()?;
        let written = self.written();
        let dirty: Vec<(u64, Arc<dyn DiskFile>)> = {
            let segments = self.shared.segments.lock();
            let dirty = segments.iter().filter(|segment| !segment.clean);
            dirty.map(|segment| (segment.first, Arc::clone(&segment.file))).collect()
        };
        for (first, file) in &dirty {
            if let Err(error) = sync_data(&**file) {
                self.shared.failed.store(true, Ordering::Release);
                let path = segment::path_of(&self.shared.config.dir, *first);
                return Err(io_error("sync", &path)(error));
            }
        }
        // All but the newest had been left for a newer one before they were synced.
        let newest = dirty.last().map_or(0, |(first, _)| *first);
        for segment in self.shared.segments.lock().iter_mut() {
            segment.clean |= segment.first < newest;
        }
        self.shared.durable.fetch_max(written, Ordering::AcqRel);
        Ok(written)
    }

    /// Removes segments that hold no record above `upto`. Blocks.
    pub fn purge(&self, upto: u64) -> Result<(), LogError> {
        let Shared { disk, config, segments, .. } = &*self.shared;
        let gone: Vec<u64> = {
            let mut segments = segments.lock();
            let nexts = segments.iter().skip(1).map(|segment| segment.first);
            let count = nexts.take_while(|next| *next <= upto.saturating_add(1)).count();
            segments.drain(..count).map(|segment| segment.first).collect()
        };
        // Oldest first: a crash in between leaves no gap.
        for first in gone {
            let path = segment::path_of(&config.dir, first);
            remove(&**disk, &path).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }
}

fn remove(disk: &dyn Disk, path: &std::path::Path) -> std::io::Result<()> {
    io_fault!("mds::log::remove");
    disk.remove(path)
}
