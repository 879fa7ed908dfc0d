//! A disk in memory that forgets, at a crash, what was not made durable.
//!
//! It owes nobody more than [`Disk`] promises: [`DiskFile::sync_data`] makes one file's content
//! and length durable and [`Disk::sync_dir`] the names in one folder, nothing else. What a crash
//! does to the rest is chosen by a [`Crash`] and a seed, so a run can be repeated exactly.

mod content;
mod dirs;
mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::content::{Change, Content, PAGE_BYTES};
use self::names::{NameChange, Names, Node};
use super::{Disk, DiskFile, Space};

/// What becomes of changes that were not made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process died, the machine lives: everything written stays.
    Process,
    /// All of them are lost.
    DropAll,
    /// Those up to some moment stay, in the order in which they were made; the last is torn.
    Prefix,
    /// Each page of 4 KiB and each name stays or is lost on its own.
    Pages,
    /// Each sector of 512 bytes and each name stays or is lost on its own.
    Sectors,
}

impl Crash {
    /// Every way to lose power.
    pub const POWER: [Self; 4] = [Self::DropAll, Self::Prefix, Self::Pages, Self::Sectors];
}

/// A call that changes something, as a fault injector sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskCall {
    /// [`Disk::create`] of a new file.
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::create_dir`].
    CreateDir,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::sync_all`].
    SyncAll,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::set_len`].
    SetLen,
    /// [`DiskFile::sync_data`].
    SyncData,
    /// [`DiskFile::punch`].
    Punch,
    /// [`DiskFile::allocate`].
    Allocate,
}

/// Decides, for the n-th changing call (from 0), whether it fails.
pub type Fault = Box<dyn FnMut(u64, DiskCall) -> Option<io::Error> + Send>;

/// The disk. Clones are the same disk, as after a restart of what uses it.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    names: Names,
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    /// Ascending over all changes of the disk.
    now: u64,
    /// Raised at each crash: older handles are dead.
    boot: u64,
    pages_max: u64,
    pages_used: u64,
    calls: u64,
    power_off_at: Option<u64>,
    fault: Option<Fault>,
}

#[derive(Default)]
struct FileState {
    live: Content,
    durable: Content,
    pending: Vec<(u64, Change)>,
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new(16 << 30)
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("MemDisk")
            .field("files", &state.files.len())
            .field("pages_used", &state.pages_used)
            .field("calls", &state.calls)
            .finish_non_exhaustive()
    }
}

impl MemDisk {
    /// An empty disk of so many bytes: beyond them, `ENOSPC`.
    pub fn new(bytes_max: u64) -> Self {
        let state = State {
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 0,
            now: 0,
            boot: 0,
            pages_max: bytes_max / PAGE_BYTES,
            pages_used: 0,
            calls: 0,
            power_off_at: None,
            fault: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Changing calls so far: the points at which [`MemDisk::power_off_at`] can cut.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// From the n-th changing call on (counted from 0) every call fails with EIO, that one
    /// included, until [`MemDisk::crash`] brings power back.
    pub fn power_off_at(&self, call: u64) {
        self.state.lock().power_off_at = Some(call);
    }

    /// Asks `fault` before each changing call; `None` stops that. It must not use the disk.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// Forgets unsynced changes as `crash` says, switches power on again, and makes every handle
    /// opened before useless (EIO).
    pub fn crash(&self, crash: Crash, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut state = self.state.lock();
        let state = &mut *state;
        state.boot += 1;
        state.power_off_at = None;
        let cut = prefix_end(state, &mut rng);
        for file in state.files.values_mut() {
            for (at, change) in std::mem::take(&mut file.pending) {
                match crash {
                    Crash::Process => file.durable.apply(&change),
                    Crash::Prefix if at < cut => file.durable.apply(&change),
                    Crash::Prefix if at == cut => tear(&mut file.durable, change, &mut rng),
                    Crash::DropAll | Crash::Prefix => {}
                    Crash::Pages => scatter(&mut file.durable, change, PAGE_BYTES, &mut rng),
                    Crash::Sectors => scatter(&mut file.durable, change, 512, &mut rng),
                }
            }
            file.live = file.durable.clone();
        }
        state.names.crash(|at| match crash {
            Crash::Process => true,
            Crash::DropAll => false,
            Crash::Prefix => at < cut,
            Crash::Pages | Crash::Sectors => rng.random(),
        });
        let named: std::collections::BTreeSet<u64> =
            state.names.live.values().filter_map(|node| file_of(*node)).collect();
        state.files.retain(|number, _| named.contains(number));
        state.pages_used = state.files.values().map(|file| file.live.page_count()).sum();
    }
}

fn file_of(node: Node) -> Option<u64> {
    match node {
        Node::File(number) => Some(number),
        Node::Dir => None,
    }
}

/// The change at which an in-order crash cuts: one of the pending ones, or after all of them.
fn prefix_end(state: &State, rng: &mut StdRng) -> u64 {
    let mut pending: Vec<u64> = state.names.pending.iter().map(|(at, _)| *at).collect();
    for file in state.files.values() {
        pending.extend(file.pending.iter().map(|(at, _)| *at));
    }
    pending.sort_unstable();
    let index = rng.random_range(0..=pending.len());
    pending.get(index).copied().unwrap_or(u64::MAX)
}

/// Keeps the beginning of a write.
fn tear(content: &mut Content, change: Change, rng: &mut StdRng) {
    if let Change::Write { offset, mut bytes } = change {
        bytes.truncate(rng.random_range(0..=bytes.len()));
        content.apply(&Change::Write { offset, bytes });
    }
}

/// Keeps each unit of a write, or the whole of another change, by a coin.
fn scatter(content: &mut Content, change: Change, unit: u64, rng: &mut StdRng) {
    let Change::Write { offset, bytes } = change else {
        if rng.random() {
            content.apply(&change);
        }
        return;
    };
    let (mut rest, mut at) = (bytes.as_slice(), offset);
    while !rest.is_empty() {
        let len = usize::try_from(unit - at % unit).unwrap_or(rest.len()).min(rest.len());
        let (piece, next) = rest.split_at(len);
        if rng.random() {
            content.apply(&Change::Write { offset: at, bytes: piece.to_vec() });
        }
        at += len as u64;
        rest = next;
    }
}

impl State {
    /// Passes a changing call, or says why it fails.
    fn call(&mut self, call: DiskCall) -> io::Result<()> {
        let number = self.calls;
        self.powered()?;
        self.calls += 1;
        match self.fault.as_mut().and_then(|fault| fault(number, call)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn powered(&self) -> io::Result<()> {
        match self.power_off_at {
            Some(at) if self.calls >= at => Err(errno(libc::EIO)),
            Some(_) | None => Ok(()),
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn parent_must_exist(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.names.is_dir(parent) => Ok(()),
            Some(_) | None => Err(not_found(path)),
        }
    }

    /// Frees a file that has lost its name; a handle may still read it, as on a real disk.
    fn freed(&mut self, node: Option<Node>) {
        if let Some(file) = node.and_then(file_of).and_then(|number| self.files.get(&number)) {
            self.pages_used = self.pages_used.saturating_sub(file.live.page_count());
        }
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: not found", path.display()))
}

/// Without `.` components, so that equal places have equal names.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                let text = format!("{} is not a path below the folder", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
    }
    Ok(plain)
}

impl Disk for MemDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = plain(path)?;
        let state = self.state.lock();
        state.powered()?;
        match state.names.live.get(&path) {
            Some(Node::File(number)) => Ok(Arc::new(self.handle(*number, state.boot))),
            Some(Node::Dir) => Err(errno(libc::EISDIR)),
            None => Err(not_found(&path)),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = plain(path)?;
        let mut state = self.state.lock();
        state.powered()?;
        match state.names.live.get(&path) {
            Some(Node::File(number)) => return Ok(Arc::new(self.handle(*number, state.boot))),
            Some(Node::Dir) => return Err(errno(libc::EISDIR)),
            None => {}
        }
        state.parent_must_exist(&path)?;
        state.call(DiskCall::Create)?;
        let number = state.next_file;
        state.next_file += 1;
        state.files.insert(number, FileState::default());
        let at = state.tick();
        state.names.change(at, NameChange::Link { path, node: Node::File(number) });
        Ok(Arc::new(self.handle(number, state.boot)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let path = plain(path)?;
        let state = self.state.lock();
        state.powered()?;
        Ok(state.names.is_dir(&path) || state.names.live.contains_key(&path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from)?, plain(to)?);
        let mut state = self.state.lock();
        state.powered()?;
        let node = match state.names.live.get(&from) {
            Some(node @ Node::File(_)) => *node,
            Some(Node::Dir) => return Err(errno(libc::EISDIR)),
            None => return Err(not_found(&from)),
        };
        state.parent_must_exist(&to)?;
        if state.names.is_dir(&to) {
            return Err(errno(libc::EISDIR));
        }
        state.call(DiskCall::Rename)?;
        if from != to {
            let over = state.names.live.get(&to).copied();
            state.freed(over);
            let at = state.tick();
            state.names.change(at, NameChange::Rename { from, to, node });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = plain(path)?;
        let mut state = self.state.lock();
        state.powered()?;
        let node = match state.names.live.get(&path) {
            Some(node @ Node::File(_)) => *node,
            Some(Node::Dir) => return Err(errno(libc::EISDIR)),
            None => return Err(not_found(&path)),
        };
        state.call(DiskCall::Remove)?;
        state.freed(Some(node));
        let at = state.tick();
        state.names.change(at, NameChange::Unlink { path });
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = plain(path)?;
        let mut state = self.state.lock();
        state.call(DiskCall::CreateDir)?;
        let mut folder = PathBuf::new();
        for part in &path {
            folder.push(part);
            match state.names.live.get(&folder) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(errno(libc::ENOTDIR)),
                None => {
                    let at = state.tick();
                    let path = folder.clone();
                    state.names.change(at, NameChange::Link { path, node: Node::Dir });
                }
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let path = plain(path)?;
        let state = self.state.lock();
        state.powered()?;
        if !state.names.is_dir(&path) {
            return Err(not_found(&path));
        }
        let inside = state.names.live.keys().filter(|name| name.parent() == Some(&path));
        let mut names: Vec<String> = inside
            .filter_map(|name| name.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = plain(path)?;
        let mut state = self.state.lock();
        if !state.names.is_dir(&path) {
            return Err(not_found(&path));
        }
        state.call(DiskCall::SyncDir)?;
        state.names.sync_dir(&path);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call(DiskCall::SyncAll)?;
        state.names.sync_all();
        for file in state.files.values_mut() {
            for (_, change) in std::mem::take(&mut file.pending) {
                file.durable.apply(&change);
            }
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state.lock();
        state.powered()?;
        let free = state.pages_max.saturating_sub(state.pages_used) * PAGE_BYTES;
        Ok(Space {
            bytes_total: state.pages_max * PAGE_BYTES,
            bytes_free: free,
            bytes_available: free,
            inodes_total: u64::from(u32::MAX),
            inodes_free: u64::from(u32::MAX).saturating_sub(state.names.live.len() as u64),
        })
    }
}

impl MemDisk {
    fn handle(&self, number: u64, boot: u64) -> MemFile {
        MemFile { disk: self.clone(), number, boot }
    }
}

struct MemFile {
    disk: MemDisk,
    number: u64,
    boot: u64,
}

impl MemFile {
    /// Runs `work` on the file, unless the machine has crashed since it was opened.
    fn with<T>(&self, work: impl FnOnce(&FileState) -> T) -> io::Result<T> {
        let state = self.disk.state.lock();
        state.powered()?;
        match state.files.get(&self.number) {
            Some(file) if self.boot == state.boot => Ok(work(file)),
            Some(_) | None => Err(errno(libc::EIO)),
        }
    }

    fn change(&self, call: DiskCall, change: impl FnOnce(&FileState) -> Change) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if self.boot != state.boot {
            return Err(errno(libc::EIO));
        }
        state.call(call)?;
        let at = state.tick();
        let (used, max) = (state.pages_used, state.pages_max);
        let file = state.files.get_mut(&self.number).ok_or_else(|| errno(libc::EIO))?;
        let change = change(file);
        if used.saturating_add(file.live.pages_added(&change)) > max {
            return Err(errno(libc::ENOSPC));
        }
        let before = file.live.page_count();
        file.live.apply(&change);
        let after = file.live.page_count();
        file.pending.push((at, change));
        state.pages_used = (used + after).saturating_sub(before);
        Ok(())
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| file.live.read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(DiskCall::Write, |_| Change::Write { offset, bytes: buf.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(DiskCall::SetLen, |_| Change::SetLen(len))
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.live.len())
    }

    fn blocks(&self) -> io::Result<u64> {
        self.with(|file| file.live.page_count() * (PAGE_BYTES / 512))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if self.boot != state.boot {
            return Err(errno(libc::EIO));
        }
        state.call(DiskCall::SyncData)?;
        let file = state.files.get_mut(&self.number).ok_or_else(|| errno(libc::EIO))?;
        for (_, change) in std::mem::take(&mut file.pending) {
            file.durable.apply(&change);
        }
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(DiskCall::Punch, |_| Change::Punch { offset, len })
    }

    fn allocate(&self, offset: u64, len: u64, grow: bool) -> io::Result<()> {
        self.change(DiskCall::Allocate, |file| Change::Allocate {
            offset,
            len,
            len_min: if grow { offset.saturating_add(len) } else { file.live.len() },
        })
    }

    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.with(|file| file.live.seek_data(offset))
    }

    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.with(|file| file.live.seek_hole(offset))
    }
}

#[cfg(test)]
mod tests;
