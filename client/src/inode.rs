//! What this client knows of the files that it has open, or had and still holds a lease on: size,
//! layout, written bytes that are on their way.

mod content;
mod settling;
mod table;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid, Layout, ObjectId, Timestamp};
use nacre_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ClientError;
use crate::dirty::Dirty;
use crate::flush::BOUNCES_MAX;
use crate::journal::{Entry, Journal, Record};
use content::Content;
pub(crate) use settling::Unsettled;
pub(crate) use table::Inodes;

/// Data of closed files waits so long for a server that does not answer.
const STUCK_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// One file.
///
/// Order of locks: `gate`, then `sender`, then `state`; `state` is never held across an await.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) fid: Fid,
    pub(crate) state: Mutex<State>,
    /// A request with data, or that tells of some, was answered.
    pub(crate) landed: Notify,
    /// One at a time decides where dirty bytes go.
    pub(crate) sender: tokio::sync::Mutex<()>,
    /// Shared by writes, exclusive for what must not meet a write: truncation, holes, appends.
    pub(crate) gate: tokio::sync::RwLock<()>,
}

/// The state of an inode.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(crate) struct State {
    /// As the MDS last told.
    pub(crate) attr: Attr,
    /// How long the file is, own writes included.
    pub(crate) size: u64,
    /// `size` rests on more than a lower bound, and on a lease (unless none are asked for).
    pub(crate) size_exact: bool,
    /// When `attr` was last told.
    pub(crate) refreshed: Instant,
    /// Another client may be writing.
    pub(crate) other_writers: bool,
    /// The file's bytes are in its inode, not in objects.
    pub(crate) inline: bool,
    pub(crate) layout: Arc<Layout>,
    /// Somebody said that `layout` or `inline` is not true any more.
    pub(crate) layout_stale: bool,
    pub(crate) dirty: Dirty,
    /// Since when something is dirty.
    pub(crate) dirty_since: Option<Instant>,
    /// Stands as long as bytes are with no server.
    note: Option<Entry>,
    flights: Vec<Flight>,
    next_flight: u64,
    pub(crate) objects: BTreeMap<ObjectId, Object>,
    /// Raised by whatever objects have got that is not on disk at once.
    pub(crate) landings: u64,
    /// Up to which of them all is on disk.
    pub(crate) committed: u64,
    pub(crate) unsettled: Unsettled,
    /// The same, on its way to the MDS.
    pub(crate) settling: Unsettled,
    /// Requests that carry it.
    settlers: u32,
    /// It has lost its last name: with the last handle it ceases to be.
    pub(crate) nameless: bool,
    /// All that was written has been closed over: nobody can be told any more that it is lost.
    closed_over: bool,
    /// Data of the closed file that could not be written.
    pub(crate) stuck: Option<Stuck>,
    /// Access time that the MDS does not know yet.
    pub(crate) atime: Option<Timestamp>,
    /// Raised by everything that makes bytes fetched earlier wrong.
    pub(crate) data_version: u64,
    /// Raised by what is written here: an answer to what was asked before does not know of it.
    pub(crate) changes: u64,
    content: Option<Content>,
    /// Layouts that data was sent under in vain since the last success.
    pub(crate) bounces: u32,
    errors: u64,
    last_errno: Errno,
    handles: u32,
    writers: u32,
    /// Evictions of the client when the inode was first opened.
    pub(crate) evictions: u64,
}

/// Why written data is still here.
#[derive(Debug, Clone)]
pub(crate) struct Stuck {
    since: Instant,
    pub(crate) error: ClientError,
}

/// Ranges that one request carries.
#[derive(Debug)]
struct Flight {
    id: u64,
    pieces: Vec<Range<u64>>,
}

/// What was written to an object and is not known to be on disk.
#[derive(Debug, Default)]
pub(crate) struct Object {
    /// Of 512 bytes, as last told.
    pub(crate) blocks: Option<u64>,
    /// Of the first answer since the last commit.
    pub(crate) verifier: Option<v1::Verifier>,
    /// An answer had another verifier: what was written before it may be gone.
    pub(crate) suspect: bool,
    /// What can be sent again: object offset and bytes, oldest first.
    pub(crate) retained: Vec<(u64, Vec<Bytes>)>,
    /// Something was written that could not be retained.
    pub(crate) unretained: bool,
}

impl Inode {
    /// Waits until no request that carries a byte of the range is on its way.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait_landed(&self, range: &Range<u64>) {
        self.wait_until(|state| !state.in_flight(range)).await;
    }

    /// Waits until requests that were on their way have been answered, and with that `done` holds.
    async fn wait_until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if done(&self.state.lock()) {
                return;
            }
            landed.await;
        }
    }

    /// An error of an earlier write that this handle has not been told of.
    pub(crate) fn check_errors(&self, seen: &mut u64) -> Result<(), ClientError> {
        let mut state = self.state.lock();
        if state.errors == *seen {
            return Ok(());
        }
        *seen = state.errors;
        state.note_clean();
        Err(ClientError::WriteBehind { fid: self.fid, errno: state.last_errno })
    }
}

impl Inode {
    /// A descriptor is closed before the data is written: what happens to that from now on nobody
    /// will be told. Tells what has happened.
    pub(crate) fn close_over(&self, seen: &mut u64) -> Result<(), ClientError> {
        let mut state = self.state.lock();
        if state.errors == *seen {
            state.closed_over = true;
            return Ok(());
        }
        *seen = state.errors;
        Err(ClientError::WriteBehind { fid: self.fid, errno: state.last_errno })
    }
}

impl State {
    pub(crate) fn new(attr: Attr, layout: Layout, inline: bool, evictions: u64) -> Self {
        Self {
            size: attr.size,
            size_exact: !attr.size_lazy,
            refreshed: Instant::now(),
            other_writers: false,
            inline,
            layout: Arc::new(layout),
            layout_stale: false,
            dirty: Dirty::default(),
            dirty_since: None,
            note: None,
            flights: Vec::new(),
            next_flight: 0,
            objects: BTreeMap::new(),
            // What was written before this was known.
            landings: 1,
            committed: 0,
            unsettled: Unsettled::default(),
            settling: Unsettled::default(),
            settlers: 0,
            nameless: false,
            closed_over: false,
            stuck: None,
            atime: None,
            data_version: 0,
            changes: 0,
            content: None,
            bounces: 0,
            errors: 0,
            last_errno: Errno::EIO,
            handles: 0,
            writers: 0,
            evictions,
            attr,
        }
    }

    /// A write is about to be answered: notes it if a server has not got all bytes yet. (One that
    /// is not answered comes again, with its bytes.)
    pub(crate) fn note_dirty(&mut self, journal: &Journal) {
        let with_servers = self.dirty.is_empty() && self.flights.is_empty();
        if !with_servers && self.note.is_none() {
            self.note = Some(journal.put(Record::Dirty { fid: self.attr.fid }));
        }
    }

    /// Bytes have reached a server, or nobody wants them any more.
    pub(crate) fn note_clean(&mut self) {
        if self.dirty.is_empty() && self.flights.is_empty() {
            self.note = None;
        }
    }

    /// The process that had some such bytes is gone, and they with it. Noted until it is told.
    pub(crate) fn lost_with_process(&mut self, note: Entry) {
        self.note = Some(note);
        self.record_error(Errno::EIO);
    }

    /// Errors so far: what a new handle has not missed.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors
    }

    pub(crate) fn record_error(&mut self, errno: Errno) {
        self.errors = self.errors.wrapping_add(1);
        self.last_errno = errno;
    }

    pub(crate) fn writers(&self) -> u32 {
        self.writers
    }

    pub(crate) fn handles(&self) -> u32 {
        self.handles
    }

    /// What was known of the file's size and layout may not be true any more.
    pub(crate) fn lease_lost(&mut self) {
        self.layout_stale = true;
        self.size_exact = false;
        self.other_writers = true;
        self.data_version = self.data_version.wrapping_add(1);
        self.content = None;
    }

    /// Whether what was written here has effects that only the MDS can tell.
    pub(crate) fn blind(&self) -> bool {
        self.unsettled.kill_suidgid || self.settling.kill_suidgid
    }

    /// Attributes that the MDS told, with what it does not know yet. `None`: it must be asked
    /// after it was told.
    pub(crate) fn overlay(&self, mut attr: Attr) -> Option<Attr> {
        let (told, coming) = (self.unsettled, self.settling);
        if self.blind() {
            return None;
        }
        let written = self.pending() || !coming.is_empty();
        if attr.size_lazy && !self.size_exact {
            return None;
        }
        if attr.size_lazy || written {
            attr.size = self.size;
        }
        if written {
            attr.blocks = self.blocks_to_be(attr.blocks);
        }
        if let Some(mtime) = told.mtime.or(coming.mtime) {
            attr.mtime = mtime;
            attr.ctime = attr.ctime.max(mtime);
        }
        attr.atime = self.atime.unwrap_or(attr.atime);
        attr.size_lazy = false;
        Some(attr)
    }

    /// Something new is written, and whoever writes it can be told.
    pub(crate) fn written(&mut self) {
        self.closed_over = false;
        self.changed_here();
    }

    /// This client changes the file's bytes.
    pub(crate) fn changed_here(&mut self) {
        self.changes = self.changes.wrapping_add(1);
        self.data_version = self.data_version.wrapping_add(1);
    }

    /// Whether data that could not be sent is kept: of a file that is closed, so that nobody can
    /// be told, while its server does not answer, and not for ever.
    pub(crate) fn keeps_trying(&mut self, error: &ClientError) -> bool {
        let told = self.handles > 0 && !self.closed_over;
        if told || !error.is_unreachable() {
            return false;
        }
        let since = self.stuck.as_ref().map_or_else(Instant::now, |stuck| stuck.since);
        self.stuck = Some(Stuck { since, error: error.clone() });
        since.elapsed() < STUCK_MAX
    }

    /// A server has said that the layout is not true any more. False if it was asked for anew too
    /// often; many requests may have been on their way under the same.
    pub(crate) fn bounced(&mut self) -> bool {
        if !self.layout_stale {
            self.layout_stale = true;
            self.bounces = self.bounces.saturating_add(1);
        }
        self.bounces <= BOUNCES_MAX
    }

    /// Whether anything written here is not with the servers and told to the MDS.
    pub(crate) fn pending(&self) -> bool {
        !self.dirty.is_empty() || !self.flights.is_empty() || !self.unsettled.is_empty()
    }

    /// Whether something is on its way, or can go.
    pub(crate) fn in_transit(&self) -> bool {
        self.settlers > 0
            || !self.flights.is_empty()
            || (self.stuck.is_none() && !self.dirty.is_empty())
    }

    /// Whether the MDS must still be told something of the file.
    pub(crate) fn untold(&self) -> bool {
        !self.unsettled.is_empty() || self.atime.is_some() || self.attr.size_lazy
    }

    pub(crate) fn in_flight(&self, range: &Range<u64>) -> bool {
        let meets = |piece: &Range<u64>| piece.start < range.end && range.start < piece.end;
        self.flights.iter().any(|flight| flight.pieces.iter().any(meets))
    }

    pub(crate) fn take_off(&mut self, pieces: Vec<Range<u64>>) -> u64 {
        let id = self.next_flight;
        self.next_flight = id.wrapping_add(1);
        self.flights.push(Flight { id, pieces });
        id
    }

    pub(crate) fn land(&mut self, id: u64) {
        self.flights.retain(|flight| flight.id != id);
    }

    /// End of what is dirty or on its way.
    fn written_end(&self) -> u64 {
        let pieces = self.flights.iter().flat_map(|flight| &flight.pieces);
        pieces.map(|piece| piece.end).max().unwrap_or(0).max(self.dirty.end())
    }

    /// Takes in attributes of the MDS, whose size was made true if it was lazy.
    pub(crate) fn saw_attr(&mut self, attr: Attr) {
        if attr.layout_gen != self.attr.layout_gen {
            self.layout_stale = true;
        }
        let own = self.unsettled.size.max(self.settling.size).unwrap_or(0);
        let size = attr.size.max(self.written_end()).max(own);
        if size != self.size || attr.mtime != self.attr.mtime {
            self.data_version = self.data_version.wrapping_add(1);
        }
        self.size = size;
        self.attr = attr;
        self.refreshed = Instant::now();
    }

    /// Takes in a layout with the attributes that came with it.
    pub(crate) fn install(&mut self, mut attr: Attr, layout: Layout, inline: bool) {
        if *self.layout != layout || self.inline != inline {
            self.data_version = self.data_version.wrapping_add(1);
            let live: std::collections::BTreeSet<_> =
                layout.objects(attr.fid).map(|(id, _, _)| id).collect();
            self.objects.retain(|id, _| live.contains(id));
            self.layout = Arc::new(layout);
            self.inline = inline;
            self.content = None;
        }
        if attr.size_lazy && self.size_exact {
            attr.size = attr.size.max(self.size);
        }
        self.saw_attr(attr);
        self.layout_stale = false;
    }

    /// Blocks of all objects, if every one is known.
    pub(crate) fn blocks(&self) -> Option<u64> {
        let objects = self.layout.objects(self.attr.fid);
        objects
            .map(|(id, _, _)| self.objects.get(&id).and_then(|object| object.blocks))
            .try_fold(0_u64, |sum, blocks| Some(sum.saturating_add(blocks?)))
    }

    /// Forgets what would be sent again; blocks are remembered.
    pub(crate) fn forget_commits(&mut self) {
        for object in self.objects.values_mut() {
            *object = Object { blocks: object.blocks, ..Object::default() };
        }
    }

    /// Blocks when all is written that was accepted, about: never none for what has data, which
    /// archivers take for one big hole.
    fn blocks_to_be(&self, told: u64) -> u64 {
        let written = self.objects.values().filter_map(|object| object.blocks);
        let written = written.fold(0, u64::saturating_add).max(told);
        let pieces = self.flights.iter().flat_map(|flight| &flight.pieces);
        let flying = pieces.map(|piece| piece.end.saturating_sub(piece.start));
        let coming = flying.fold(self.dirty.bytes(), u64::saturating_add).div_ceil(512);
        written.saturating_add(coming).min(self.size.div_ceil(512)).max(written)
    }

    /// Bytes retained for sending again.
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.objects.values().map(Object::retained_bytes).sum()
    }
}

impl Object {
    pub(crate) fn retained_bytes(&self) -> u64 {
        let all = self.retained.iter().flat_map(|(_, segments)| segments);
        all.map(|segment| segment.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use nacre_model::Layout;

    use super::State;
    use crate::cache::tests::{FILE, attr};
    use crate::flush::BOUNCES_MAX;

    #[test]
    fn requests_that_come_back_from_under_one_layout_count_once() {
        let layout = Layout { generation: 0, components: Vec::new() };
        let mut state = State::new(attr(FILE, 0o644), layout, false, 0);
        for _ in 0..BOUNCES_MAX {
            assert!((0..32).all(|_| state.bounced()));
            state.layout_stale = false;
        }
        assert!(!state.bounced());
    }
}
