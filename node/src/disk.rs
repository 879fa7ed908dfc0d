//! Files below one folder, as the log and the object store use them.
//!
//! Calls block: async code runs them on [`crate::tasks::Blocking`]. What is written is durable
//! only after [`DiskFile::sync_data`]; a created, renamed or removed name only after
//! [`Disk::sync_dir`] of its folder. [`OsDisk`] is the real one; [`mem::MemDisk`] forgets, at a
//! crash, everything that was not made durable.

pub mod mem;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate};

/// A folder and everything below it. Paths are relative to it, without `..`.
pub trait Disk: Send + Sync + 'static {
    /// Opens for reading and writing; `NotFound` if it is not there.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens for reading and writing, creating it if it is not there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Whether something of that name is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Replaces `to` atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and its parents.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything durable that was done so far, below the folder and perhaps elsewhere on
    /// its file system; worth it where many files are to be synced. `Unsupported` if it cannot.
    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Space of the file system that the folder is on.
    fn space(&self) -> io::Result<Space>;
}

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All, in bytes.
    pub bytes_total: u64,
    /// Free for root, in bytes.
    pub bytes_free: u64,
    /// Free for everybody, in bytes.
    pub bytes_available: u64,
    /// Inodes that exist or may exist.
    pub inodes_total: u64,
    /// Inodes that may still be made.
    pub inodes_free: u64,
}

/// One open file. Shared by threads; positions are explicit.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes; short only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Allocated space in 512-byte units.
    fn blocks(&self) -> io::Result<u64>;
    /// Makes content and length durable. After an error the content on disk is unknown.
    fn sync_data(&self) -> io::Result<()>;
    /// Zeroes a range and gives its space back; the length stays.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Reserves space for a range; grows the file if `grow`, else keeps its length.
    fn allocate(&self, offset: u64, len: u64, grow: bool) -> io::Result<()>;
    /// First data at or after `offset`; `None` if there is none.
    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>>;
    /// First hole at or after `offset`, the end of the file counting as one.
    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>>;
    /// Begins to write dirty pages of the range to the disk without waiting; a hint.
    fn start_writeback(&self, _offset: u64, _len: u64) {}
}

/// The operating system's files below a root folder.
#[derive(Debug, Clone)]
pub struct OsDisk {
    root: PathBuf,
    /// Open for as long as the disk is: a failed write-back is told once to each handle that was
    /// open at the time, and to no later one.
    handle: Option<Arc<fs::File>>,
}

impl OsDisk {
    /// `root` must exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let handle = fs::File::open(&root).ok().map(Arc::new);
        Self { root, handle }
    }

    fn at(&self, path: &Path) -> io::Result<PathBuf> {
        let inside =
            path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if inside {
            Ok(self.root.join(path))
        } else {
            let text = format!("{} is not a path below the folder", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// Says which file an error is about.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |error| match error.raw_os_error() {
        // The number is what callers decide on: keep it.
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.at(path)?;
        let file = fs::File::options().read(true).write(true).open(&path).map_err(named(&path))?;
        Ok(Arc::new(OsFile { file }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.at(path)?;
        let mut options = fs::File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(named(&path))?;
        Ok(Arc::new(OsFile { file }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.at(path)?.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?).map_err(named(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.at(path)?).map_err(named(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(self.at(path)?).map_err(named(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(path)?).map_err(named(path))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(self.at(path)?)?.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let handle = self.handle.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(rustix::fs::syncfs(handle)?)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
        Ok(Space {
            bytes_total: stat.f_blocks.saturating_mul(unit),
            bytes_free: stat.f_bfree.saturating_mul(unit),
            bytes_available: stat.f_bavail.saturating_mul(unit),
            inodes_total: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }
}

struct OsFile {
    file: fs::File,
}

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn blocks(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata()?.blocks())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset, len)?)
    }

    fn allocate(&self, offset: u64, len: u64, grow: bool) -> io::Result<()> {
        let flags = if grow { FallocateFlags::empty() } else { FallocateFlags::KEEP_SIZE };
        Ok(fallocate(&self.file, flags, offset, len)?)
    }

    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>> {
        found(rustix::fs::seek(&self.file, SeekFrom::Data(offset)))
    }

    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        found(rustix::fs::seek(&self.file, SeekFrom::Hole(offset)))
    }
}

fn found(result: rustix::io::Result<u64>) -> io::Result<Option<u64>> {
    match result {
        Ok(offset) => Ok(Some(offset)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
