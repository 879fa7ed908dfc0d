//! What this client knows of the files that it has open: attributes, layout, written bytes that
//! are on their way. The place where leases will say how long that knowledge holds.

use std::collections::{BTreeMap, HashMap};
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

/// All inodes that have an open handle.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    by_fid: Mutex<HashMap<Fid, Arc<Inode>>>,
}

/// One inode with open handles.
///
/// Order of locks: `gate`, then `sender`, then `state`; `state` is never held across an await.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) fid: Fid,
    pub(crate) state: Mutex<State>,
    /// A request with data was answered.
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
    /// `size` rests on more than a lower bound.
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
    flights: Vec<Flight>,
    next_flight: u64,
    pub(crate) objects: BTreeMap<ObjectId, Object>,
    pub(crate) unsettled: Unsettled,
    /// Access time that the MDS does not know yet.
    pub(crate) atime: Option<Timestamp>,
    /// Raised by everything that makes bytes fetched earlier wrong.
    pub(crate) data_version: u64,
    /// Times data was sent back because the layout had changed, since the last success.
    pub(crate) bounces: u32,
    errors: u64,
    last_errno: Errno,
    handles: u32,
    writers: u32,
    /// Evictions of the client when the inode was first opened.
    pub(crate) evictions: u64,
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

/// Changes through written data that the MDS does not know yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// The file is at least this long.
    pub(crate) size: Option<u64>,
    /// When it was last written.
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) kill_suidgid: bool,
}

impl Unsettled {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was taken out and not told after all.
    pub(crate) fn put_back(&mut self, earlier: Self) {
        self.size = self.size.max(earlier.size);
        self.mtime = self.mtime.or(earlier.mtime);
        self.kill_suidgid |= earlier.kill_suidgid;
    }
}

/// The last handle of an inode is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remaining {
    Handles,
    Nothing,
}

impl Inodes {
    pub(crate) fn get(&self, fid: Fid) -> Option<Arc<Inode>> {
        self.by_fid.lock().get(&fid).cloned()
    }

    /// Counts a handle in; makes the inode if this is the first.
    pub(crate) fn opened(
        &self,
        fid: Fid,
        write: bool,
        make: impl FnOnce() -> State,
    ) -> (Arc<Inode>, bool) {
        let mut by_fid = self.by_fid.lock();
        let mut new = false;
        let inode = by_fid.entry(fid).or_insert_with(|| {
            new = true;
            Arc::new(Inode {
                fid,
                state: Mutex::new(make()),
                landed: Notify::new(),
                sender: tokio::sync::Mutex::default(),
                gate: tokio::sync::RwLock::default(),
            })
        });
        let mut state = inode.state.lock();
        state.handles = state.handles.saturating_add(1);
        state.writers = state.writers.saturating_add(write.into());
        drop(state);
        (Arc::clone(inode), new)
    }

    /// Counts a handle out; forgets the inode with the last.
    pub(crate) fn closed(&self, inode: &Inode, write: bool) -> Remaining {
        let mut by_fid = self.by_fid.lock();
        let mut state = inode.state.lock();
        state.handles = state.handles.saturating_sub(1);
        state.writers = state.writers.saturating_sub(write.into());
        if state.handles > 0 {
            return Remaining::Handles;
        }
        by_fid.remove(&inode.fid);
        Remaining::Nothing
    }

    /// Every inode for which `which` holds.
    pub(crate) fn select(&self, which: impl Fn(&State) -> bool) -> Vec<Arc<Inode>> {
        let by_fid = self.by_fid.lock();
        let mut found: Vec<_> =
            by_fid.values().filter(|inode| which(&inode.state.lock())).cloned().collect();
        // By fid, so that a simulation does the same each time.
        found.sort_by_key(|inode| inode.fid);
        found
    }
}

impl Inode {
    /// Waits until no request that carries a byte of the range is on its way.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait_landed(&self, range: &Range<u64>) {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if !self.state.lock().in_flight(range) {
                return;
            }
            landed.await;
        }
    }

    /// An error of an earlier write that this handle has not been told of.
    pub(crate) fn check_errors(&self, seen: &mut u64) -> Result<(), ClientError> {
        let state = self.state.lock();
        if state.errors == *seen {
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
            flights: Vec::new(),
            next_flight: 0,
            objects: BTreeMap::new(),
            unsettled: Unsettled::default(),
            atime: None,
            data_version: 0,
            bounces: 0,
            errors: 0,
            last_errno: Errno::EIO,
            handles: 0,
            writers: 0,
            evictions,
            attr,
        }
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

    /// Whether anything written here is not with the servers and told to the MDS.
    pub(crate) fn pending(&self) -> bool {
        !self.dirty.is_empty() || !self.flights.is_empty() || !self.unsettled.is_empty()
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
        let size = attr.size.max(self.written_end()).max(self.unsettled.size.unwrap_or(0));
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
        }
        if attr.size_lazy {
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
