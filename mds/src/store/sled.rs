//! The store in sled 0.34, used as it must be to survive a power cut.
//!
//! One tree, one batch per group of commands, one applier, no transactions. The process must
//! carry [`nacre_node::durable`], which is tested at every open. What a crash may leave half
//! made is removed before an open, what sled never syncs (its configuration, its folders) is synced
//! here, and nothing is let grow so large that sled puts it into a file that it never syncs. Every value ends with the crc32c of key and value.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nacre_node::durable;

use super::closing::Closing;
use super::{Batch, KEY_BYTES_MAX, MetaStore, StoreError, VALUE_BYTES_MAX, View, Visit, io_error};
use crate::engine::is_rebuilding;
use crate::fault::io_fault;

const CRC_BYTES: usize = 4;
/// How long the files' lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to get it.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// sled writes whatever is longer than a quarter of this into a file of its own (a blob), which it
/// never syncs, and skips it without a word when a power cut took the file. So nothing may be
/// longer: neither a leaf, which holds up to 16 rows, and 21 for a moment after a merge, nor a
/// node above them, with up to 257 keys.
const SEGMENT_BYTES: usize = 8 << 20;
const _: () = assert!(21 * (KEY_BYTES_MAX + VALUE_BYTES_MAX + 64) < SEGMENT_BYTES / 4 - 64);
/// Written at every open, to see that a flush really syncs.
const PROBE_KEY: [u8; 2] = [0, b't'];

/// How sled is run.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Its page cache, in bytes; it takes about twice that of memory when full.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// A store, or why there is none.
#[derive(Debug)]
pub enum Opened {
    /// It can be used.
    Ready(SledStore),
    /// What is there must not be served: rebuild it from snapshot and log.
    MustRebuild(String),
}

/// A store in a folder.
#[derive(Debug)]
pub struct SledStore {
    db: Closing,
    dir: PathBuf,
    suspect: OnceLock<String>,
}

/// Opens the store in `dir`. One that must be rebuilt is moved aside to `<dir>.damaged`, and
/// an empty one is returned, which the engine fills from snapshot and log.
pub fn open_or_renew(dir: &Path, options: &SledOptions) -> Result<SledStore, StoreError> {
    let reason = match SledStore::open(dir, options)? {
        Opened::Ready(store) => return Ok(store),
        Opened::MustRebuild(reason) => reason,
    };
    tracing::error!(dir = %dir.display(), reason, "metadata store must be rebuilt");
    let aside = beside(dir, "damaged");
    move_aside(dir, &aside).map_err(io_error("move aside", dir))?;
    match SledStore::open(dir, options)? {
        Opened::Ready(store) => Ok(store),
        Opened::MustRebuild(reason) => Err(StoreError::Damaged(reason)),
    }
}

fn move_aside(dir: &Path, aside: &Path) -> io::Result<()> {
    if aside.exists() {
        fs::remove_dir_all(aside)?;
    }
    fs::rename(dir, aside)?;
    let mark = beside(dir, "suspect");
    if mark.exists() {
        fs::remove_file(mark)?;
    }
    sync_path(parent(dir))
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|up| !up.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_path(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Opens, and waits a moment for whoever is just letting go of the files: sled gives its lock back
/// from a thread of its own, some time after it was closed.
#[expect(clippy::disallowed_methods, reason = "sled says of no event that the lock is free")]
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("acquire lock") && Instant::now() < until =>
            {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

impl SledStore {
    /// Opens or creates a store in `dir`.
    pub fn open(dir: &Path, options: &SledOptions) -> Result<Opened, StoreError> {
        let mark = beside(dir, "suspect");
        if mark.exists() {
            let reason = fs::read_to_string(&mark).unwrap_or_default();
            return Ok(Opened::MustRebuild(format!("damage was met before: {reason}")));
        }
        prepare(dir).map_err(io_error("make folder", dir))?;
        let config = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::HighThroughput)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None);
        // It panics on some damage.
        let opened = catch_unwind(AssertUnwindSafe(|| open_unlocked(&config)));
        let db = match opened.unwrap_or_else(|_| Err(sled::Error::Corruption { at: None, bt: () }))
        {
            Ok(db) => db,
            Err(error) => {
                return match error_of("open", dir)(error) {
                    StoreError::Damaged(reason) => Ok(Opened::MustRebuild(reason)),
                    other @ (StoreError::Io { .. }
                    | StoreError::Record { .. }
                    | StoreError::Limits { .. }) => Err(other),
                };
            }
        };
        let store = Self { db: Closing::new(db), dir: dir.to_owned(), suspect: OnceLock::new() };
        store.sync_all().map_err(io_error("sync", dir))?;
        store.prove_that_flush_syncs()?;
        if is_rebuilding(&store)? {
            return Ok(Opened::MustRebuild("a rebuild was interrupted".to_owned()));
        }
        Ok(Opened::Ready(store))
    }

    #[cfg(test)]
    pub(super) fn db_for_tests(&self) -> &sled::Db {
        &self.db
    }

    /// What sled leaves to chance when it creates its files.
    fn sync_all(&self) -> io::Result<()> {
        for name in ["conf", "db", "blobs"] {
            let path = self.dir.join(name);
            if path.exists() {
                sync_path(&path)?;
            }
        }
        sync_path(&self.dir)?;
        sync_path(parent(&self.dir))
    }

    fn prove_that_flush_syncs(&self) -> Result<(), StoreError> {
        let before = durable::sync_calls();
        // Another value each time: sled does not write what is there already.
        let old = self.db.get(PROBE_KEY).map_err(error_of("read", &self.dir))?;
        let old =
            old.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes);
        let probe = old.wrapping_add(1).to_le_bytes();
        self.db.insert(PROBE_KEY, &probe).map_err(error_of("write to", &self.dir))?;
        self.db.flush().map_err(error_of("flush", &self.dir))?;
        if durable::sync_calls() == before {
            let text = "the store's flush does not reach the disk in this build";
            return Err(io_error("flush", &self.dir)(io::Error::other(text)));
        }
        Ok(())
    }

    /// Remembers damage, beyond a restart: such a store is not served again.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Damaged(_) | StoreError::Record { .. })) = &result {
            let reason = error.to_string();
            if self.suspect.set(reason.clone()).is_ok() {
                let mark = beside(&self.dir, "suspect");
                let marked = fs::write(&mark, reason)
                    .and_then(|()| sync_path(&mark))
                    .and_then(|()| sync_path(parent(&self.dir)));
                if let Err(error) = marked {
                    tracing::error!(path = %mark.display(), %error, "cannot mark the store");
                }
            }
        }
        result
    }
}

/// Makes the folder, and removes what an interrupted sled would stumble over.
fn prepare(dir: &Path) -> io::Result<()> {
    io_fault!("mds::store::open");
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Sorts what sled says while it does `what`.
fn error_of(what: &'static str, dir: &Path) -> impl FnOnce(sled::Error) -> StoreError {
    move |error| match error {
        sled::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
            ) =>
        {
            StoreError::Io { what, path: dir.to_owned(), source: error }
        }
        error @ (sled::Error::Io(_)
        | sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => StoreError::Damaged(error.to_string()),
    }
}

#[cfg_attr(
    not(feature = "failpoints"),
    expect(clippy::unnecessary_wraps, reason = "a fail point makes it fail")
)]
fn apply_fault() -> io::Result<()> {
    io_fault!("mds::store::apply");
    Ok(())
}

#[cfg_attr(
    not(feature = "failpoints"),
    expect(clippy::unnecessary_wraps, reason = "a fail point makes it fail")
)]
fn checkpoint_fault() -> io::Result<()> {
    io_fault!("mds::store::checkpoint");
    Ok(())
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let mut out = Vec::with_capacity(value.len() + CRC_BYTES);
    out.extend_from_slice(value);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let parts = sealed.split_last_chunk::<CRC_BYTES>();
    match parts {
        Some((value, crc))
            if crc32c::crc32c_append(crc32c::crc32c(key), value) == u32::from_le_bytes(*crc) =>
        {
            Ok(value)
        }
        Some(_) | None => Err(StoreError::Record {
            key: key.escape_ascii().to_string(),
            reason: "wrong checksum",
        }),
    }
}

impl View for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.db.get(key).map_err(error_of("read", &self.dir));
        self.note(found.and_then(|found| {
            found.map(|sealed| unseal(key, &sealed).map(<[u8]>::to_vec)).transpose()
        }))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        for pair in self.db.range(from..to) {
            let (key, sealed) = self.note(pair.map_err(error_of("read", &self.dir)))?;
            if key.as_ref() == PROBE_KEY {
                continue;
            }
            let value = self.note(unseal(&key, &sealed))?;
            if visit(&key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl MetaStore for SledStore {
    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let dir = &self.dir;
        apply_fault().map_err(io_error("write to", dir))?;
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key.as_slice(), sealed(key, value)),
                None => changes.remove(key.as_slice()),
            }
        }
        self.note(self.db.apply_batch(changes).map_err(error_of("write to", dir)))
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        checkpoint_fault().map_err(io_error("flush", &self.dir))?;
        self.note(self.db.flush().map(drop).map_err(error_of("flush", &self.dir)))
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(error_of("measure", &self.dir))
    }

    fn health(&self) -> Result<(), StoreError> {
        self.suspect.get().map_or(Ok(()), |reason| Err(StoreError::Damaged(reason.clone())))
    }
}
