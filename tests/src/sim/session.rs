//! A client of the simulation, and how its errors are judged.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_client::{
    Caller, Client, ClientError, CreateKind, DirEntry, NewNode, OpenFile, OpenFlags, WriteFlags,
};
use nacre_model::{Errno, Fid, LayoutTemplate, Name, ServiceError};

use super::faults::Faults;
use super::net::now;
use super::trace::Trace;

/// More than any file of a worker.
const READ_BYTES: u64 = 16 << 20;
/// An operation that nothing disturbs is done within this.
const UNDISTURBED: Duration = Duration::from_secs(5);
/// The same, when it may wait for a lease of somebody who is cut off: the lease time, and what it
/// takes to see that it is over and to fence.
const LEASE_WAIT: Duration = Duration::from_secs(16);

/// A promise that was broken, in words.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

/// What a worker's step gives.
pub(super) type Step<T = ()> = Result<T, Broken>;

/// A client with what is needed to judge what it sees.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The library under test.
    pub(super) client: Client,
    /// Its number.
    pub(super) index: u16,
    /// What was done to the cluster.
    pub(super) faults: Faults,
    trace: Trace,
    who: String,
}

impl Session {
    /// Of a worker with this name.
    pub(super) fn new(
        client: Client,
        index: u16,
        who: String,
        faults: Faults,
        trace: Trace,
    ) -> Self {
        Self { client, index, faults, trace, who }
    }

    /// Tells the trace.
    pub(super) fn event(&self, what: impl Display) {
        self.trace.event(now(), &self.who, what);
    }

    /// Tells the trace of an operation and what became of it, and whether it took too long.
    pub(super) fn done<T>(
        &self,
        what: &str,
        begun: Duration,
        result: &Result<T, ClientError>,
    ) -> Step {
        let end = now();
        match result {
            Ok(_) => self.event(format_args!("{what}: ok")),
            Err(error) => self.event(format_args!("{what}: {}", chain(error))),
        }
        let took = end.saturating_sub(begun);
        // Who is cut off may hold a lease that others wait for.
        let limit = if self.faults.calm(begun, end) { UNDISTURBED } else { LEASE_WAIT };
        if took > limit && !self.faults.disturbed(self.index, begun, end) {
            return Err(Broken(format!("{what} took {took:?} though nothing was wrong")));
        }
        Ok(())
    }

    /// Whether faults explain an error of an operation that was begun then.
    pub(super) fn excuse(&self, what: &str, begun: Duration, error: &ClientError) -> Step {
        let end = now();
        let faults = &self.faults;
        let map = faults.excuse_map(self.index, begun, end);
        let ost = |ost| map || faults.excuse_ost(self.index, ost, begun, end);
        let evicted = || self.faults.excuse_eviction(self.index, begun, end);
        let errno = error.errno();
        let excused = match error {
            ClientError::Ost { ost: index, .. } => ost(Some(*index)),
            ClientError::WriteBehind { .. } => ost(None) || evicted(),
            // Truncates need the objects, new objects an OST that is up.
            ClientError::Mds { .. } if errno == Errno::EIO || errno == Errno::ENOSPC => ost(None),
            ClientError::Mds { .. } => errno == Errno::ESTALE && evicted(),
            ClientError::Refused { .. } => errno == Errno::EIO && (map || evicted()),
            ClientError::MdsSilent { .. }
            | ClientError::Damaged { .. }
            | ClientError::NoPeer { .. }
            | ClientError::BadAnswer(_)
            | ClientError::Unreachable { .. } => false,
        };
        if excused {
            return Ok(());
        }
        Err(Broken(format!("{what} failed though no fault explains it: {}", chain(error))))
    }

    /// A new file, open for writing.
    pub(super) async fn create(
        &self,
        folder: Fid,
        name: &Name,
        layout: Option<LayoutTemplate>,
    ) -> Result<Arc<OpenFile>, ClientError> {
        let node = NewNode { kind: CreateKind::Regular, perm: 0o644, umask: 0, layout };
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::EXCLUSIVE;
        let made = self.client.create_open(Caller::default(), folder, name, node, flags).await;
        made.map(|(_, file)| file)
    }

    /// A new folder.
    pub(super) async fn mkdir(&self, folder: Fid, name: &Name) -> Result<Fid, ClientError> {
        let node = NewNode { kind: CreateKind::Directory, perm: 0o755, umask: 0, layout: None };
        let attr = self.client.create(Caller::default(), folder, name, node).await?;
        Ok(attr.fid)
    }

    /// All of a file.
    pub(super) async fn read(&self, fid: Fid) -> Result<Vec<u8>, ClientError> {
        let file = self.client.open(Caller::default(), fid, OpenFlags::READ).await?;
        let read = self.client.read(&file, 0, READ_BYTES).await;
        let released = self.client.release(file).await;
        let bytes = read?.concat();
        released?;
        Ok(bytes)
    }

    /// Names in a folder.
    pub(super) async fn list(&self, folder: Fid) -> Result<Vec<DirEntry>, ClientError> {
        let mut all = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.client.readdir(folder, cookie, 400, false).await?;
            let Some(last) = page.entries.last() else { return Ok(all) };
            cookie = last.cookie;
            all.extend(page.entries);
            if page.eof {
                return Ok(all);
            }
        }
    }

    /// Writes all of `bytes` at the start and closes; with `sync`, on the disks.
    pub(super) async fn fill(
        &self,
        file: Arc<OpenFile>,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), ClientError> {
        let mut result = Ok(());
        if !bytes.is_empty() {
            let data = Bytes::copy_from_slice(bytes);
            result = self.client.write(&file, 0, data, WriteFlags::empty()).await.map(|_| ());
        }
        if sync && result.is_ok() {
            result = self.client.fsync(&file, false).await;
        }
        let released = self.client.release(file).await;
        result.and(released)
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    nacre_node::register::Chain(error).to_string()
}

/// A name that is known to be one.
pub(super) fn name(text: &str) -> Step<Name> {
    Name::new(text.as_bytes()).map_err(|error| Broken(format!("{text}: {error}")))
}
