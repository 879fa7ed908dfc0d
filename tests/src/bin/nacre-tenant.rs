//! Lives in a mount whose daemon comes and goes: `nacre-tenant FOLDER durable|buffered`.
//!
//! It works in its folder, holds files open and locked there, and takes any error for its end.
//! Every step is told by a line on standard output. A line on standard input makes it stop and
//! compare everything with what it knows; it says `ok` or `failed …`, and leaves at the next one.
//!
//! `durable` waits for the disk with every write, `buffered` never does. The file `shared` is there
//! already: others append to it too.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, RenameFlags};

/// Threads that work at a time.
const HANDS: u64 = 3;
/// Bytes of one entry of a hand's log.
const ENTRY: usize = 64;
/// Files that a hand has at a time.
const FILES: u64 = 20;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().context("a folder")?;
    let durable = match args.next().as_deref() {
        Some("durable") => true,
        Some("buffered") => false,
        _ => anyhow::bail!("durable or buffered"),
    };
    // From here on all paths are relative to where it stands.
    std::env::set_current_dir(&folder).context("folder")?;
    let held = Held::take()?;
    let stop = Arc::new(AtomicBool::new(false));
    let hands: Vec<_> = (0..HANDS)
        .map(|hand| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || Hand::new(hand, durable)?.work(&stop))
        })
        .collect();
    let mut lines = std::io::stdin().lock().lines();
    lines.next().context("told to stop")??;
    stop.store(true, Ordering::Release);
    let mut verdict = Ok(());
    for hand in hands {
        let ended = hand.join().map_err(|_| anyhow::anyhow!("a hand panicked"));
        verdict = verdict.and(ended.and_then(|ended| ended?.check()));
    }
    match verdict.and_then(|()| held.check(Path::new(&folder))) {
        Ok(()) => say("ok"),
        Err(error) => say(&format!("failed {error:#}")),
    }
    lines.next().context("told to leave")??;
    drop(held);
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: then nobody needs to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What is open and locked all the time.
struct Held {
    flocked: File,
    ranged: File,
    read: File,
    nameless: File,
}

impl Held {
    fn take() -> anyhow::Result<Self> {
        let open = |name: &str| {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(name);
            file.with_context(|| name.to_owned())
        };
        let (flocked, ranged) = (open("flocked")?, open("ranged")?);
        rustix::fs::flock(&flocked, FlockOperation::NonBlockingLockExclusive).context("flock")?;
        rustix::fs::fcntl_lock(&ranged, FlockOperation::NonBlockingLockExclusive)
            .context("fcntl lock")?;
        let mut read = open("read")?;
        read.write_all(b"to be read").context("write")?;
        read.sync_all().context("sync")?;
        let nameless = open("nameless")?;
        nameless.write_all_at(b"without a name", 0).context("nameless")?;
        nameless.sync_all().context("nameless")?;
        fs::remove_file("nameless").context("nameless")?;
        Ok(Self { flocked, ranged, read: File::open("read")?, nameless })
    }

    fn check(&self, folder: &Path) -> anyhow::Result<()> {
        ensure!(std::env::current_dir()? == folder, "the working directory is another");
        let mut text = String::new();
        (&self.read).seek(SeekFrom::Start(0))?;
        (&self.read).read_to_string(&mut text).context("the file that was open to read")?;
        ensure!(text == "to be read", "read {text:?}");
        let mut bytes = [0; 14];
        self.nameless.read_exact_at(&mut bytes, 0).context("the file without a name")?;
        ensure!(&bytes == b"without a name", "{bytes:?}");
        self.nameless.write_all_at(b"still", 0).context("write to the file without a name")?;
        self.nameless.sync_all().context("sync the file without a name")?;
        self.flocked.write_all_at(b"x", 0).context("write to the locked file")?;
        self.flocked.sync_all().context("sync the locked file")?;
        self.ranged.sync_all().context("sync the other locked file")
    }
}

/// One thread's work, in a folder of its own.
struct Hand {
    folder: PathBuf,
    durable: bool,
    log: File,
    /// Others append to it too, by other mounts.
    shared: File,
    entries: u64,
    /// Numbers of the files that are there.
    files: BTreeSet<u64>,
    next: u64,
}

impl Hand {
    fn new(hand: u64, durable: bool) -> anyhow::Result<Self> {
        let folder = PathBuf::from(format!("hand{hand}"));
        fs::create_dir(&folder).context("make its folder")?;
        let mut options = Self::options(durable);
        let log = options.append(true).create_new(true).open(folder.join("log"))?;
        let shared = Self::options(true).append(true).open("shared").context("shared")?;
        Ok(Self { folder, durable, log, shared, entries: 0, files: BTreeSet::new(), next: 0 })
    }

    fn options(durable: bool) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.custom_flags(if durable { libc::O_DSYNC } else { 0 });
        options
    }

    fn work(mut self, stop: &AtomicBool) -> anyhow::Result<Self> {
        while !stop.load(Ordering::Acquire) {
            let began = Instant::now();
            if let Err(error) = self.step() {
                say(&format!("failed {}: {error:#}", self.folder.display()));
                return Err(error);
            }
            say(&format!("step {}", began.elapsed().as_micros()));
        }
        Ok(self)
    }

    fn entry(number: u64) -> Vec<u8> {
        let mut entry = format!("{number:>width$}", width = ENTRY - 1).into_bytes();
        entry.push(b'\n');
        entry
    }

    fn shared_entry(&self, number: u64) -> Vec<u8> {
        format!("{:<16}{number:>width$}\n", self.folder.display(), width = ENTRY - 17).into_bytes()
    }

    /// Things that must happen exactly once, or the next try tells.
    fn step(&mut self) -> anyhow::Result<()> {
        let number = self.next;
        self.next += 1;
        let path = |name: &str| self.folder.join(format!("{name}{number}"));
        let (made, renamed) = (path("made"), path("file"));
        let mut file = Self::options(self.durable)
            .write(true)
            .create_new(true)
            .open(&made)
            .with_context(|| format!("create {}", made.display()))?;
        file.write_all(&Self::entry(number)).context("write")?;
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, &made, cwd, &renamed, RenameFlags::NOREPLACE)
            .with_context(|| format!("rename {}", made.display()))?;
        self.files.insert(number);
        file.write_all(&Self::entry(number)).context("write after the rename")?;
        drop(file);
        self.log.write_all(&Self::entry(self.entries)).context("append")?;
        self.shared.write_all(&self.shared_entry(self.entries)).context("append to shared")?;
        self.entries += 1;
        let (dir, link) = (path("dir"), path("link"));
        fs::create_dir(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
        fs::hard_link(&renamed, &link).with_context(|| format!("link {}", link.display()))?;
        fs::remove_file(&link).with_context(|| format!("unlink {}", link.display()))?;
        fs::remove_dir(&dir).with_context(|| format!("rmdir {}", dir.display()))?;
        if let Some(old) = number.checked_sub(FILES) {
            let old_path = self.folder.join(format!("file{old}"));
            fs::remove_file(&old_path).with_context(|| format!("unlink {}", old_path.display()))?;
            self.files.remove(&old);
        }
        Ok(())
    }

    fn check(self) -> anyhow::Result<()> {
        self.log.sync_all().context("sync the log")?;
        let log = fs::read(self.folder.join("log")).context("read the log")?;
        let expected: Vec<u8> = (0..self.entries).flat_map(Self::entry).collect();
        ensure!(log == expected, "log of {} bytes, not {}", log.len(), expected.len());
        let shared = fs::read("shared").context("read what is shared")?;
        let own = self.folder.display().to_string();
        let mine = shared.chunks(ENTRY).filter(|entry| entry.starts_with(own.as_bytes()));
        let expected = (0..self.entries).map(|number| self.shared_entry(number));
        ensure!(mine.eq(expected), "of {} entries not each is there once", self.entries);
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).context("list")? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let mut wanted: BTreeSet<_> = self.files.iter().map(|n| format!("file{n}")).collect();
        wanted.insert("log".to_owned());
        ensure!(names == wanted, "there are {names:?}, not {wanted:?}");
        for number in &self.files {
            let path = self.folder.join(format!("file{number}"));
            let found = fs::read(&path).with_context(|| path.display().to_string())?;
            ensure!(found == Self::entry(*number).repeat(2), "{}: {found:?}", path.display());
        }
        Ok(())
    }
}
