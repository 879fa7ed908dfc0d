//! Sessions of which nothing is carried out any more.
//!
//! The metadata server fences a session that it evicts before it gives others what the session
//! held. Remembered on the disk, in `fences`: a late write must be refused after a restart, too.
//! A record has 16 bytes, little endian, in any order; a new one takes the place of the lowest
//! session when all are taken:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | session, not 0 |
//! | 8 | 4 | zeros |
//! | 12 | 4 | crc32c of bytes 0 to 12 |

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use nacre_model::checksum::Crc32c;
use nacre_node::{Disk, DiskFile};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::OssError;

/// Most sessions remembered. They ascend, so what is forgotten was evicted long ago.
pub(crate) const FENCES_MAX: usize = 4096;
const FILE: &str = "fences";
const RECORD_BYTES: usize = 16;
const COVERED: usize = RECORD_BYTES - 4;

/// The fences of one OST, and who is inside.
pub(crate) struct Fences {
    file: Arc<dyn DiskFile>,
    /// By place in the file. Held while the file is written, and then before `state`.
    places: Mutex<Vec<u64>>,
    state: Mutex<State>,
    /// The last request of some session has ended.
    left: Notify,
}

#[derive(Default)]
struct State {
    fenced: BTreeSet<u64>,
    /// Requests being carried out, by session.
    inside: BTreeMap<u64, usize>,
}

/// A request of a session that is not fenced.
#[must_use = "dropping it says that the request has ended"]
pub(crate) struct Inside {
    fences: Arc<Fences>,
    session: u64,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.session == 0 {
            return;
        }
        let mut state = self.fences.state.lock();
        if let Some(count) = state.inside.get_mut(&self.session) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.inside.remove(&self.session);
                self.fences.left.notify_waiters();
            }
        }
    }
}

impl Fences {
    /// Those of a folder.
    pub(crate) fn open(disk: &dyn Disk) -> Result<Self, OssError> {
        let read = || {
            let file = disk.create(Path::new(FILE))?;
            disk.sync_dir(Path::new(""))?;
            let mut bytes = vec![0; FENCES_MAX * RECORD_BYTES];
            let len = file.read_at(&mut bytes, 0)?;
            bytes.truncate(len);
            let places: Vec<u64> = bytes.chunks(RECORD_BYTES).map(parse).collect();
            Ok((file, places))
        };
        let (file, places) = read().map_err(OssError::disk("open fences"))?;
        let fenced = places.iter().copied().filter(|session| *session != 0).collect();
        let state = Mutex::new(State { fenced, inside: BTreeMap::new() });
        Ok(Self { file, places: Mutex::new(places), state, left: Notify::new() })
    }

    /// Lets a request in. The metadata server itself is session 0, and not held up.
    pub(crate) fn enter(self: &Arc<Self>, session: u64) -> Result<Inside, OssError> {
        if session != 0 {
            let mut state = self.state.lock();
            if state.fenced.contains(&session) {
                return Err(OssError::Fenced(session));
            }
            let count = state.inside.entry(session).or_default();
            *count = count.saturating_add(1);
        }
        Ok(Inside { fences: Arc::clone(self), session })
    }

    /// From here on nothing of the session is let in; what is inside goes on. Durable on return.
    /// Any number of times.
    pub(crate) fn close(&self, session: u64) -> io::Result<()> {
        if session == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut places = self.places.lock();
        self.state.lock().fenced.insert(session);
        if places.contains(&session) {
            return Ok(());
        }
        let lowest = places.iter().enumerate().min_by_key(|(_, session)| **session);
        let at = match lowest {
            Some((at, lowest)) if places.len() >= FENCES_MAX || *lowest == 0 => at,
            Some(_) | None => places.len(),
        };
        let offset = at.saturating_mul(RECORD_BYTES) as u64;
        self.file.write_at(&record(session), offset)?;
        self.file.sync_data()?;
        match places.get_mut(at) {
            None => places.push(session),
            Some(place) => {
                self.state.lock().fenced.remove(place);
                *place = session;
            }
        }
        Ok(())
    }

    /// Waits until nothing of the session is being carried out.
    pub(crate) async fn ended(&self, session: u64) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // From here on nothing is missed.
            left.as_mut().enable();
            if !self.state.lock().inside.contains_key(&session) {
                return;
            }
            left.await;
        }
    }
}

fn record(session: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = session.to_le_bytes().to_vec();
    bytes.resize(COVERED, 0);
    let crc = Crc32c::of(&bytes);
    bytes.extend_from_slice(&crc.0.to_le_bytes());
    bytes.try_into().expect("padded to 12 bytes and 4 more")
}

/// The session of a record; 0 when it was never written to its end.
fn parse(bytes: &[u8]) -> u64 {
    let read = || {
        let (covered, crc) = bytes.split_at_checked(COVERED)?;
        let good = Crc32c::of(covered).0 == u32::from_le_bytes(crc.try_into().ok()?);
        let session = covered.first_chunk::<8>()?;
        good.then(|| u64::from_le_bytes(*session))
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use nacre_node::disk::mem::MemDisk;

    use super::*;

    #[tokio::test]
    async fn a_fence_is_closed_when_all_that_was_inside_has_left() {
        let fences = Arc::new(Fences::open(&MemDisk::new(1 << 20)).unwrap());
        let (one, other) = (fences.enter(7).unwrap(), fences.enter(8).unwrap());
        fences.close(7).unwrap();
        fences.close(7).unwrap();
        assert!(matches!(fences.enter(7), Err(OssError::Fenced(7))));
        let ended = fences.ended(7);
        tokio::pin!(ended);
        let early = tokio::time::timeout(std::time::Duration::ZERO, &mut ended).await;
        assert!(early.is_err(), "a request is inside");
        drop(one);
        ended.await;
        assert!(fences.enter(8).is_ok() && fences.enter(0).is_ok());
        drop(other);
    }

    #[test]
    fn fences_stand_after_a_restart_and_the_oldest_is_forgotten() {
        let disk = MemDisk::new(1 << 20);
        let fences = Arc::new(Fences::open(&disk).unwrap());
        let count = FENCES_MAX as u64;
        (1..=count + 1).for_each(|session| fences.close(session).unwrap());
        for fences in [fences, Arc::new(Fences::open(&disk).unwrap())] {
            assert!(fences.enter(1).is_ok(), "forgotten");
            assert!(fences.enter(2).is_err() && fences.enter(count + 1).is_err());
            assert!(fences.enter(count + 2).is_ok());
        }
    }
}
