//! What a worker does to the bytes of its files.

use std::time::Duration;

use bytes::Bytes;
use nacre_client::{Caller, ClientError, OpenFlags, SetAttr, WriteFlags};
use nacre_model::Fid;
use rand::Rng;

use super::net::now;
use super::session::{Session, Step};
use super::worker::Worker;

/// Files are inline, in one block, or in several stripes.
const SIZES: [usize; 7] = [0, 10, 1000, 5000, 20_000, 70_000, 200_000];

/// A change of a file's bytes.
#[derive(Debug, Clone)]
enum Edit {
    /// At an offset.
    Write(usize, Vec<u8>),
    /// At the end.
    Append(Vec<u8>),
    /// Cut or extended to this length.
    Truncate(usize),
    /// Emptied by the open, then written from the start.
    Replace(Vec<u8>),
}

impl Edit {
    /// The bytes after each of its steps.
    fn steps(&self, before: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = before.to_vec();
        match self {
            Self::Write(at, data) => {
                lay_over(&mut bytes, *at, data);
                vec![bytes]
            }
            Self::Append(data) => {
                bytes.extend_from_slice(data);
                vec![bytes]
            }
            Self::Truncate(len) => {
                bytes.resize(*len, 0);
                vec![bytes]
            }
            Self::Replace(data) => vec![Vec::new(), data.clone()],
        }
    }

    async fn make(&self, session: &Session, fid: Fid, sync: bool) -> Result<(), ClientError> {
        let caller = Caller::default();
        if let Self::Truncate(len) = self {
            let set = SetAttr { size: Some(*len as u64), ..SetAttr::default() };
            return session.client.setattr(caller, fid, set, None).await.map(|_| ());
        }
        let (open, write, at, data) = match self {
            Self::Write(at, data) => (OpenFlags::empty(), WriteFlags::empty(), *at, data),
            Self::Append(data) => (OpenFlags::APPEND, WriteFlags::APPEND, 0, data),
            Self::Replace(data) => (OpenFlags::TRUNCATE, WriteFlags::empty(), 0, data),
            Self::Truncate(_) => return Ok(()),
        };
        let flags = OpenFlags::READ | OpenFlags::WRITE | open;
        let file = session.client.open(caller, fid, flags).await?;
        let data = Bytes::copy_from_slice(data);
        let mut result = session.client.write(&file, at as u64, data, write).await.map(|_| ());
        if sync && result.is_ok() {
            result = session.client.fsync(&file, false).await;
        }
        let released = session.client.release(file).await;
        result.and(released)
    }
}

fn lay_over(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    // POSIX: writing nothing extends nothing.
    if bytes.len() < end && !data.is_empty() {
        bytes.resize(end, 0);
    }
    if let Some(part) = bytes.get_mut(at..end) {
        part.copy_from_slice(data);
    }
}

impl Worker {
    pub(super) fn some_bytes(&mut self) -> Vec<u8> {
        let size = SIZES.get(self.rng.random_range(0..SIZES.len())).copied().unwrap_or_default();
        let mut bytes = vec![0; size + self.rng.random_range(0..5)];
        self.rng.fill(bytes.as_mut_slice());
        bytes
    }

    fn some_edit(&mut self, len: usize) -> Edit {
        let data = self.some_bytes();
        match self.rng.random_range(0..10) {
            0..4 => Edit::Write(self.rng.random_range(0..=len + 3000), data),
            4..7 => Edit::Append(data),
            7 => Edit::Replace(data),
            _ => Edit::Truncate(self.rng.random_range(0..=len + 1000)),
        }
    }

    /// Changes some file in place.
    pub(super) async fn change(&mut self) -> Step {
        let Some((path, fid)) = self.some_file() else { return Ok(()) };
        if !self.certain(&path, fid).await? {
            return Ok(());
        }
        let before = self.files.entry(fid).or_default().newest().to_vec();
        let edit = self.some_edit(before.len());
        let sync = !matches!(edit, Edit::Truncate(_)) && self.rng.random_bool(0.3);
        let begun = now();
        let made = edit.make(&self.session, fid, sync).await;
        let what = match &edit {
            Edit::Write(at, data) => format!("write {path} at {at}, {} bytes", data.len()),
            Edit::Append(data) => format!("append {} bytes to {path}", data.len()),
            Edit::Truncate(len) => format!("truncate {path} to {len}"),
            Edit::Replace(data) => format!("replace {path} with {} bytes", data.len()),
        };
        let what = format!("{what} {fid} of {} bytes, sync {sync}", before.len());
        self.written(&what, fid, begun, edit.steps(&before), sync, made)
    }

    /// Takes in what became of a change of bytes.
    pub(super) fn written(
        &mut self,
        what: &str,
        fid: Fid,
        begun: Duration,
        steps: Vec<Vec<u8>>,
        sync: bool,
        result: Result<(), ClientError>,
    ) -> Step {
        self.session.done(what, begun, &result)?;
        let lost = self.session.faults.mds_power_loss_after(begun).is_some();
        let content = self.files.entry(fid).or_default();
        match result {
            Ok(()) => {
                for step in steps {
                    content.wrote(begun, now(), step);
                }
                if sync {
                    content.synced();
                }
                Ok(())
            }
            Err(error) => {
                content.tried(begun, now(), steps);
                // The file itself may be lost.
                if lost { Ok(()) } else { self.session.excuse(what, begun, &error) }
            }
        }
    }
}
