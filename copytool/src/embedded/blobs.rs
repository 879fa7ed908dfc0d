//! Bodies of objects and parts, each a file that is written once.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A file with bytes of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blob {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// A blob that was written to its end, with what identifies its bytes.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) blob: Blob,
    pub(super) md5: [u8; 16],
    pub(super) crc32c: u32,
}

/// The folder of blobs.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// Opens the folder and removes every blob but those that are `kept`.
    pub(super) fn open(dir: PathBuf, kept: impl Fn(&str) -> bool) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(&kept) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { dir })
    }

    pub(super) fn create(&self) -> io::Result<Writer> {
        let name = Uuid::new_v4().simple().to_string();
        let path = self.path(&name);
        let file = File::create_new(&path)?;
        let blob = Blob { name, bytes: 0 };
        Ok(Writer { file, path: Some(path), blob, md5: Md5::new(), crc32c: 0 })
    }

    /// Removes blobs; one that stays is removed at the next start.
    pub(super) fn remove(&self, blobs: &[Blob]) {
        for blob in blobs {
            if let Err(error) = fs::remove_file(self.path(&blob.name)) {
                tracing::debug!(%error, blob = blob.name, "removing a blob");
            }
        }
    }

    /// Opens the files behind a range of an object: each with the range of it that belongs in.
    pub(super) fn open_range(
        &self,
        blobs: &[Blob],
        range: &Range<u64>,
    ) -> io::Result<Vec<(File, Range<u64>)>> {
        let mut start = 0_u64;
        let mut opened = Vec::new();
        for blob in blobs {
            let end = start.saturating_add(blob.bytes);
            let within = range.start.max(start)..range.end.min(end);
            if within.start < within.end {
                let file = File::open(self.path(&blob.name))?;
                opened.push((file, within.start - start..within.end - start));
            }
            start = end;
        }
        Ok(opened)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Reads a range of a file.
pub(super) fn read(file: &mut File, range: &Range<u64>) -> io::Result<Bytes> {
    let bytes = range.end.saturating_sub(range.start);
    let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut buffer)?;
    Ok(buffer.into())
}

/// A blob that is being written; dropped before its end, it leaves no file.
pub(super) struct Writer {
    file: File,
    /// Until it is finished.
    path: Option<PathBuf>,
    blob: Blob,
    md5: Md5,
    crc32c: u32,
}

impl Writer {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.md5.update(bytes);
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        let more = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.blob.bytes = self.blob.bytes.saturating_add(more);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Written {
        self.path = None;
        let md5 = self.md5.finalize_reset().into();
        Written { blob: self.blob.clone(), md5, crc32c: self.crc32c }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            remove_quietly(path);
        }
    }
}

fn remove_quietly(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "removing an unfinished blob");
    }
}
