//! Workers that change a mount and remember what was acknowledged, so that it can be checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a name must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    seed: u64,
    bytes: usize,
}

impl Content {
    /// Different for every seed, and at every offset.
    fn generate(self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        StdRng::seed_from_u64(self.seed).fill(bytes.as_mut_slice());
        bytes
    }
}

/// One worker: its folder belongs to it alone.
#[derive(Debug)]
pub struct Worker {
    folder: PathBuf,
    rng: StdRng,
    /// What is acknowledged.
    files: BTreeMap<String, Content>,
    /// Names whose last change ended in an error: they may hold anything, or be absent.
    unknown: Vec<String>,
    next: u64,
    /// Operations that ended in EIO, as they may while an OSS is down.
    pub refused: u64,
}

/// Names that a worker uses again and again.
const NAMES: u64 = 24;
/// Files are inline, in one block, or striped.
const SIZES: [usize; 6] = [0, 100, 5000, 40_000, 300_000, 2_000_000];

impl Worker {
    /// A worker in a new folder.
    pub fn new(folder: PathBuf, seed: u64) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        let rng = StdRng::seed_from_u64(seed);
        let (files, unknown) = (BTreeMap::new(), Vec::new());
        Ok(Self { folder, rng, files, unknown, next: seed << 32, refused: 0 })
    }

    /// One operation. EIO and ESTALE are allowed where data is touched; any other error is not.
    pub fn step(&mut self) -> anyhow::Result<()> {
        let name = format!("f{}", self.rng.random_range(0..NAMES));
        match self.rng.random_range(0..10) {
            0..=4 => self.replace(&name),
            5 | 6 => self.rename(&name),
            7 => self.unlink(&name),
            8 => self.link(&name),
            _ => self.folder_and_back(),
        }
    }

    /// Writes a new file beside the old and renames it over it: the name never holds anything
    /// else than one of the two.
    fn replace(&mut self, name: &str) -> anyhow::Result<()> {
        self.next += 1;
        let size = SIZES.get(self.rng.random_range(0..SIZES.len())).copied().unwrap_or_default();
        let content = Content { seed: self.next, bytes: size + self.rng.random_range(0..7) };
        let temporary = self.path(&format!("new{}", self.next));
        let sync = self.rng.random_bool(0.3);
        if let Err(error) = write(&temporary, content, sync) {
            self.allow(&error).with_context(|| format!("write {}", temporary.display()))?;
            return remove(&temporary).with_context(|| format!("remove {}", temporary.display()));
        }
        fs::rename(&temporary, self.path(name)).with_context(|| format!("rename to {name}"))?;
        self.now_known(name);
        self.files.insert(name.to_owned(), content);
        Ok(())
    }

    fn rename(&mut self, name: &str) -> anyhow::Result<()> {
        let to = format!("f{}", self.rng.random_range(0..NAMES));
        let Some(content) = self.files.get(name).copied().filter(|_| to != name) else {
            return Ok(());
        };
        let both_names_of_one_inode = self.files.get(&to) == Some(&content);
        fs::rename(self.path(name), self.path(&to)).with_context(|| format!("{name} to {to}"))?;
        // POSIX: renaming one name of an inode to another of it does nothing.
        if !both_names_of_one_inode {
            self.files.remove(name);
        }
        self.now_known(&to);
        self.files.insert(to, content);
        Ok(())
    }

    fn unlink(&mut self, name: &str) -> anyhow::Result<()> {
        if self.files.remove(name).is_some() {
            fs::remove_file(self.path(name)).with_context(|| format!("unlink {name}"))?;
        }
        Ok(())
    }

    fn link(&mut self, name: &str) -> anyhow::Result<()> {
        let to = format!("l{}", self.rng.random_range(0..NAMES));
        let Some(content) = self.files.get(name).copied() else { return Ok(()) };
        if let Some(old) = self.files.remove(&to) {
            let _: Content = old;
            fs::remove_file(self.path(&to)).with_context(|| format!("unlink {to}"))?;
        }
        fs::hard_link(self.path(name), self.path(&to)).with_context(|| format!("link {to}"))?;
        self.files.insert(to, content);
        Ok(())
    }

    fn folder_and_back(&mut self) -> anyhow::Result<()> {
        self.next += 1;
        let path = self.path(&format!("d{}", self.next));
        fs::create_dir(&path).context("mkdir")?;
        fs::write(path.join("inner"), b"").or_else(|e| self.allow(&e)).context("write inner")?;
        remove(&path.join("inner")).context("unlink inner")?;
        fs::remove_dir(&path).context("rmdir")
    }

    /// Compares the folder with what is acknowledged: names, sizes, bytes.
    pub fn check(&self) -> anyhow::Result<()> {
        let mut seen: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.folder).context("list")? {
            seen.push(entry.context("list")?.file_name().to_string_lossy().into_owned());
        }
        seen.sort_unstable();
        let known = |name: &&String| !self.unknown.contains(name);
        let expected: Vec<&String> = self.files.keys().filter(known).collect();
        let seen: Vec<&String> = seen.iter().filter(known).collect();
        anyhow::ensure!(
            seen == expected,
            "{}: has {seen:?}, acknowledged were {expected:?}",
            self.folder.display()
        );
        for name in expected {
            let content = self.files.get(name).copied().context("listed from there")?;
            let path = self.path(name);
            let mut bytes = Vec::new();
            let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
            read.with_context(|| format!("read {}", path.display()))?;
            compare(&path, &bytes, &content.generate())?;
        }
        Ok(())
    }

    /// How many names are acknowledged.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn now_known(&mut self, name: &str) {
        self.unknown.retain(|unknown| unknown != name);
    }

    /// Counts an error that an OSS that is down may cause.
    fn allow(&mut self, error: &io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::EIO) => {
                self.refused += 1;
                Ok(())
            }
            Some(number) => Err(io::Error::from_raw_os_error(number)),
            None => Err(io::Error::other(error.to_string())),
        }
    }
}

fn write(path: &Path, content: Content, sync: bool) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for piece in content.generate().chunks(70_000) {
        file.write_all(piece)?;
    }
    if sync {
        file.sync_all()?;
    }
    // The standard library's drop would swallow what close says.
    rustix_close(file)
}

fn rustix_close(file: File) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    let fd = file.into_raw_fd();
    #[expect(unsafe_code, reason = "close(2) with its result")]
    // SAFETY: the descriptor was taken out of its owner, so nobody else closes it.
    let closed = unsafe { libc::close(fd) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn compare(path: &Path, got: &[u8], want: &[u8]) -> anyhow::Result<()> {
    if got == want {
        return Ok(());
    }
    let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
    anyhow::bail!(
        "{}: {} bytes instead of {}, the first wrong one at {at}",
        path.display(),
        got.len(),
        want.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worked(folder: &Path) -> Worker {
        let mut worker = Worker::new(folder.join("w"), 7).unwrap();
        for _ in 0..300 {
            worker.step().unwrap();
        }
        worker
    }

    #[test]
    fn a_local_file_system_passes() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worked(folder.path());
        assert!(worker.len() > 5);
        worker.check().unwrap();
    }

    #[test]
    fn a_lost_name_a_changed_byte_and_a_name_too_many_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worked(folder.path());
        let (name, content) = worker.files.iter().find(|(_, c)| c.bytes > 99).unwrap();
        let path = worker.path(name);
        let mut bytes = content.generate();
        bytes[50] ^= 1;
        // A new file, for the old one may have more names.
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert!(worker.check().unwrap_err().to_string().contains("wrong one at 50"));
        fs::remove_file(&path).unwrap();
        assert!(worker.check().is_err());
        fs::write(&path, content.generate()).unwrap();
        worker.check().unwrap();
        fs::write(worker.path("more"), "").unwrap();
        assert!(worker.check().is_err());
    }
}
