//! What must outlive this process so that another can go on with its mount: the identity of the
//! mount, what is open, what is half done. Everything else the servers and the kernel know.
//!
//! It is a file in memory that the holder of the mount keeps open (`docs/adr/0016`): a header and
//! entries of one size, each written by a single `pwrite` within a page, which a dying process
//! does completely or not at all. An entry is put down before what it tells of happens and erased
//! after it is over, so that the next process knows at least all of it.
//!
//! A mount without a holder has a journal that keeps nothing.

mod record;
mod request;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use record::Record;
pub(crate) use request::Request;

/// Of the format. Another program's journal is not touched.
const VERSION: u64 = 0x4e61_6372_6501;
/// The bit that the kernel sets in the number of a request that it sends again.
pub(crate) const RESENT: u64 = 1 << 63;
/// Numbers that one process gives without meeting those of the next.
const LIFE: u32 = 40;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("journal of the mount")]
    Io(#[from] io::Error),
    /// Another program wrote it.
    #[error("journal of the mount is of another version ({0:#x})")]
    Version(u64),
}

/// What is there from the first process on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// How many processes there were, this one included.
    pub(crate) life: u64,
    pub(crate) uuid: u128,
    /// Of the session.
    pub(crate) incarnation: u64,
    /// The life of the MDS in which the session was opened last.
    pub(crate) boot: u64,
    /// What the kernel has agreed on; 0 until it has.
    pub(crate) agreed: u64,
}

/// The journal of one mount. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Journal(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    file: File,
    header: Mutex<Header>,
    places: Mutex<Places>,
    /// Entries of the processes before, until somebody asks for them.
    before: Mutex<Before>,
}

#[derive(Debug, Default)]
struct Places {
    free: Vec<u64>,
    /// Places that were ever used.
    end: u64,
}

#[derive(Debug, Default)]
struct Before {
    /// By the request that they are of.
    of_requests: HashMap<u64, Vec<(Record, Entry)>>,
    rest: Vec<(Record, Entry)>,
}

/// An entry. Dropping it erases it.
#[derive(Debug, Default)]
#[must_use = "dropping erases the entry"]
pub(crate) struct Entry(Option<(Arc<Inner>, u64)>);

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some((inner, place)) = self.0.take() {
            inner.write(place, &[0; record::LEN]);
            inner.places.lock().free.push(place);
        }
    }
}

impl Journal {
    /// Takes the journal up where the process before left it. The first one finds an empty file.
    pub fn take_up(file: File) -> Result<Self, JournalError> {
        let mut places = Places { free: Vec::new(), end: 1 };
        let mut found = Vec::new();
        let len = file.metadata()?.len();
        let mut header = read_header(&file)?.unwrap_or_default();
        for place in 1..len.div_ceil(record::LEN as u64) {
            let mut bytes = [0; record::LEN];
            let read = file.read_at(&mut bytes, place.saturating_mul(record::LEN as u64))?;
            places.end = place.saturating_add(1);
            match Record::from_bytes(&bytes).filter(|_| read == record::LEN) {
                Some(record) => found.push((record, place)),
                None => places.free.push(place),
            }
        }
        header.life = header.life.saturating_add(1);
        if header.uuid == 0 {
            header.uuid = uuid::Uuid::new_v4().as_u128();
        }
        let inner = Arc::new(Inner {
            file,
            header: Mutex::new(header),
            places: Mutex::new(places),
            before: Mutex::default(),
        });
        inner.write_header(&header);
        let mut before = inner.before.lock();
        for (record, place) in found {
            let entry = Entry(Some((Arc::clone(&inner), place)));
            match record.request() {
                Some(request) => {
                    before.of_requests.entry(request).or_default().push((record, entry));
                }
                None => before.rest.push((record, entry)),
            }
        }
        drop(before);
        Ok(Self(Some(inner)))
    }

    /// Whether some process ever served the mount whose journal this is.
    pub fn was_served(file: &File) -> bool {
        matches!(read_header(file), Ok(Some(header)) if header.agreed != 0)
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn header(&self) -> Option<Header> {
        self.0.as_ref().map(|inner| *inner.header.lock())
    }

    /// The header, if this process goes on with what another has begun.
    pub(crate) fn inherited(&self) -> Option<Header> {
        self.header().filter(|header| header.agreed != 0 && header.life > 1)
    }

    pub(crate) fn change_header(&self, change: impl FnOnce(&mut Header)) {
        if let Some(inner) = &self.0 {
            let mut header = inner.header.lock();
            change(&mut header);
            inner.write_header(&header);
        }
    }

    /// Where this process begins to count what is numbered within the session.
    pub(crate) fn first_number(&self) -> u64 {
        self.header().map_or(0, |header| header.life.saturating_sub(1) << LIFE)
    }

    pub(crate) fn put(&self, record: Record) -> Entry {
        let Some(inner) = &self.0 else { return Entry::default() };
        let place = {
            let mut places = inner.places.lock();
            places.free.pop().unwrap_or_else(|| {
                let place = places.end;
                places.end = place.saturating_add(1);
                place
            })
        };
        inner.write(place, &record.to_bytes());
        Entry(Some((Arc::clone(inner), place)))
    }

    /// What was noted for a request that is sent again.
    fn take_of(&self, request: u64) -> Vec<(Record, Entry)> {
        let Some(inner) = self.0.as_ref().filter(|_| request & RESENT != 0) else {
            return Vec::new();
        };
        inner.before.lock().of_requests.remove(&(request & !RESENT)).unwrap_or_default()
    }

    /// What was noted for requests that have not been sent again yet.
    pub(crate) fn of_requests(&self) -> Vec<Record> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let before = inner.before.lock();
        before.of_requests.values().flatten().map(|(record, _)| *record).collect()
    }

    /// What was noted for requests that never were sent again: whoever asked is gone.
    pub(crate) fn take_of_requests(&self) -> Vec<(Record, Entry)> {
        let Some(inner) = &self.0 else { return Vec::new() };
        std::mem::take(&mut inner.before.lock().of_requests).into_values().flatten().collect()
    }

    /// What else the process before has left.
    pub(crate) fn take_rest(&self) -> Vec<(Record, Entry)> {
        let Some(inner) = &self.0 else { return Vec::new() };
        std::mem::take(&mut inner.before.lock().rest)
    }
}

impl Inner {
    fn write(&self, place: u64, bytes: &[u8; record::LEN]) {
        let offset = place.saturating_mul(record::LEN as u64);
        if let Err(error) = self.file.write_all_at(bytes, offset) {
            tracing::error!(%error, "journal of the mount: another process could not go on with it");
        }
    }

    fn write_header(&self, header: &Header) {
        let Header { life, uuid, incarnation, boot, agreed } = *header;
        let (high, low) = halves(uuid);
        self.write(0, &record::bytes([VERSION, life, high, low, incarnation, boot, agreed, 0]));
    }
}

/// `None`: it was never written.
fn read_header(file: &File) -> Result<Option<Header>, JournalError> {
    let mut bytes = [0; record::LEN];
    if file.read_at(&mut bytes, 0)? < record::LEN {
        return Ok(None);
    }
    let [version, life, high, low, incarnation, boot, agreed, _] = record::words(&bytes);
    if version != VERSION {
        return Err(JournalError::Version(version));
    }
    let uuid = (u128::from(high) << 64) | u128::from(low);
    Ok(Some(Header { life, uuid, incarnation, boot, agreed }))
}

#[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
const fn halves(wide: u128) -> (u64, u64) {
    ((wide >> 64) as u64, wide as u64)
}

#[cfg(test)]
mod tests;
