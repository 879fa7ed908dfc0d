//! Opening and closing files.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid, Layout, Name};
use nacre_proto::convert::required;
use nacre_proto::v1;

use crate::cache::Mode;
use crate::flush::Exact;
use crate::handle::OpenFile;
use crate::inode::{Inode, State, Unsettled};
use crate::journal::{Record, Request};
use crate::mdc::Told;
use crate::namespace::create_op;
use crate::types::{Caller, NewNode, OpenFlags, SetAttr};
use crate::{Client, Result};

/// What an open brought.
struct Opened {
    attr: Attr,
    layout: Layout,
    /// Absent where the server did not say: the file may be either.
    inline: Option<bool>,
    /// With the changes that were made here before they were asked for.
    content: Option<(Bytes, u64)>,
    other_writers: bool,
    /// Nobody but this client can have written to it.
    new: bool,
}

impl Client {
    /// Opens a regular file.
    pub async fn open(&self, caller: Caller, fid: Fid, flags: OpenFlags) -> Result<Arc<OpenFile>> {
        if flags.intersects(OpenFlags::WRITE | OpenFlags::TRUNCATE) {
            self.must_change()?;
        }
        let file = match self.open_known(fid, flags) {
            Some(file) => file,
            None => self.open_asking(fid, flags).await?,
        };
        self.note_open(&file);
        if flags.contains(OpenFlags::TRUNCATE) {
            self.truncate_opened(caller, &file).await?;
        }
        Ok(file)
    }

    /// Opens a file that is known and held well enough. The server learns of it if the lease goes.
    fn open_known(&self, fid: Fid, flags: OpenFlags) -> Option<Arc<OpenFile>> {
        let write = flags.contains(OpenFlags::WRITE);
        let evictions = self.inner.mdc.evictions();
        let boot = self.inner.mdc.session().boot_id;
        let (handle, inode) = self.inner.cache.under_lease(fid, least(write), || {
            let inode = self.inner.inodes.reopened(fid, write, evictions)?;
            Some((self.new_untold(fid, write), inode))
        })?;
        Some(Arc::new(OpenFile::new(inode, handle, flags, boot)))
    }

    /// Registers a handle that the server need not know of. Called where no lease can go.
    fn new_untold(&self, fid: Fid, write: bool) -> u64 {
        let handle = self.inner.mdc.new_handle();
        self.inner.mdc.held.lock().opened(handle, fid, write, Told::No);
        handle
    }

    /// Another process goes on with the file should this one die.
    fn note_open(&self, file: &OpenFile) {
        if self.inner.config.journal.is_kept() {
            let (handle, fid, flags) = (file.number(), file.fid(), file.flags());
            let request = Request::current_number();
            let record = Record::Open { handle, fid, flags, request };
            file.keep_note(self.inner.config.journal.put(record));
        }
    }

    /// Opens again what another process had open, which the server knows.
    pub(crate) async fn open_inherited(
        &self,
        fid: Fid,
        handle: u64,
        flags: OpenFlags,
    ) -> Result<Arc<OpenFile>> {
        let placed = self.get_layout(fid).await?;
        let nameless = placed.attr.nlink == 0;
        let opened = Opened {
            layout: placed.layout()?,
            inline: Some(placed.inline.is_some()),
            attr: placed.attr,
            content: None,
            other_writers: false,
            new: false,
        };
        let file = self.opened(handle, flags, opened);
        {
            let mut state = file.inode.state.lock();
            state.nameless = nameless;
            // Till the server says otherwise: it does so only when it is asked to open.
            state.other_writers = self.inner.cache.mode(fid) < Mode::Exclusive;
        }
        Ok(file)
    }

    async fn open_asking(&self, fid: Fid, flags: OpenFlags) -> Result<Arc<OpenFile>> {
        let write = flags.contains(OpenFlags::WRITE);
        if !write && self.inner.config.leases {
            // One question for attributes, layout and content; a lease makes an open file of it.
            let changes = self.changes(fid);
            let placed = self.get_layout(fid).await?;
            let since = placed.since;
            let opened = Opened {
                layout: placed.layout()?,
                inline: Some(placed.inline.is_some()),
                attr: placed.attr,
                content: placed.inline.map(|bytes| (bytes, changes)),
                other_writers: false,
                new: false,
            };
            // All of it where no lease can go: else it might be taken for true under the next one.
            let file = self.inner.cache.under_lease_since(fid, since, || {
                let handle = self.new_untold(fid, write);
                self.opened_held(handle, flags, opened)
            });
            if let Some(file) = file {
                return Ok(file);
            }
        }
        self.open_told(fid, flags).await
    }

    /// Opens a file with the server.
    async fn open_told(&self, fid: Fid, flags: OpenFlags) -> Result<Arc<OpenFile>> {
        let handle = self.inner.mdc.new_handle();
        let write = flags.contains(OpenFlags::WRITE);
        self.inner.mdc.held.lock().opened(handle, fid, write, Told::Yes);
        let (asked, changes) = (self.asked(), self.changes(fid));
        let call = self.inner.mdc.call("open", |mut mds, session| async move {
            let fid = Some(fid.into());
            mds.open(v1::OpenRequest { session: session.id, handle, fid, write }).await
        });
        let unclosed = Unclosed { client: self, handle: Some(handle) };
        let response = call.await?;
        let attr: Attr = required("attr", response.attr)?.try_into()?;
        let cache = &self.inner.cache;
        let since = cache.learn_since(asked, fid, response.lease, &attr);
        let opened = Opened {
            attr,
            layout: required("layout", response.layout)?.try_into()?,
            inline: Some(response.is_inline),
            content: None,
            other_writers: response.other_writers,
            new: false,
        };
        let file = self.opened(handle, flags, opened);
        unclosed.keep();
        let (content, room) = (&response.inline_data, &self.inner.content_budget);
        let keep = || file.inode.state.lock().keep_content(content, changes, room);
        // Without a lease the first read asks again: others may have written since.
        if self.inner.config.leases {
            cache.under_lease_since(fid, since, keep);
        } else {
            keep();
        }
        Ok(file)
    }

    /// Makes a regular file and opens it; an existing one is opened unless `EXCLUSIVE`.
    pub async fn create_open(
        &self,
        caller: Caller,
        parent: Fid,
        name: &Name,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>)> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.create_handle(caller, parent, name, node, flags).await
    }

    /// Makes and opens a regular file without a name (`O_TMPFILE`); [`Client::link`] names it.
    pub async fn tmpfile(
        &self,
        caller: Caller,
        parent: Fid,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>)> {
        self.create_handle(caller, parent, Bytes::new(), node, flags).await
    }

    async fn create_handle(
        &self,
        caller: Caller,
        parent: Fid,
        name: Bytes,
        node: NewNode,
        flags: OpenFlags,
    ) -> Result<(Attr, Arc<OpenFile>)> {
        self.must_change()?;
        let handle = handle_before().unwrap_or_else(|| self.inner.mdc.new_handle());
        let write = flags.contains(OpenFlags::WRITE);
        let exclusive = flags.contains(OpenFlags::EXCLUSIVE);
        // A new file comes with a lease, and need not be opened besides; one without a name is
        // only kept because it is open.
        let nameless = name.is_empty();
        let untold = self.inner.config.leases && !nameless;
        let told = if untold { 0 } else { handle };
        let op = create_op(parent, name, node, exclusive, told, write);
        let unclosed = Unclosed { client: self, handle: (!untold).then_some(handle) };
        let changed = self.send_create(caller, parent, op).await?;
        let made = changed.made;
        let attr = required("attr", changed.attr)?;
        let layout = required("layout", changed.layout)?;
        if untold && !made {
            let file = self.open(caller, attr.fid, flags - OpenFlags::EXCLUSIVE).await?;
            return Ok((self.getattr(attr.fid).await?, file));
        }
        let known = if untold { Told::No } else { Told::Yes };
        self.inner.mdc.held.lock().opened(handle, attr.fid, write, known);
        if self.inner.cache.mode(attr.fid) < Mode::Exclusive {
            self.tell_handles(Some(&[attr.fid])).await?;
        }
        // One that was there before and never had a byte is as good as new.
        let placed = layout.has_objects();
        let new = attr.size == 0 && !attr.size_lazy && !placed;
        let opened = Opened {
            attr: attr.clone(),
            layout,
            inline: if placed { Some(false) } else { new.then_some(true) },
            content: None,
            other_writers: !new,
            new,
        };
        let file = self.opened(handle, flags, opened);
        unclosed.keep();
        file.inode.state.lock().nameless = nameless;
        self.note_open(&file);
        if flags.contains(OpenFlags::TRUNCATE) && !new {
            let attr = self.truncate_opened(caller, &file).await?;
            return Ok((attr, file));
        }
        Ok((attr, file))
    }

    async fn truncate_opened(&self, caller: Caller, file: &Arc<OpenFile>) -> Result<Attr> {
        let set = SetAttr { size: Some(0), ..SetAttr::default() };
        match self.setattr(caller, file.fid(), set, Some(file)).await {
            Ok(attr) => Ok(attr),
            Err(error) => {
                self.release(Arc::clone(file)).await?;
                Err(error)
            }
        }
    }

    fn opened(&self, handle: u64, flags: OpenFlags, opened: Opened) -> Arc<OpenFile> {
        let file = self.opened_held(handle, flags, opened);
        self.unsure_without_lease(&file.inode);
        file
    }

    /// The same, where no lease can go: asks nothing of the cache.
    fn opened_held(&self, handle: u64, flags: OpenFlags, opened: Opened) -> Arc<OpenFile> {
        let Opened { attr, layout, inline, content, other_writers, new } = opened;
        let evictions = self.inner.mdc.evictions();
        let boot = self.inner.mdc.session().boot_id;
        let write = flags.contains(OpenFlags::WRITE);
        if let Some(inode) = self.inner.inodes.get(attr.fid) {
            self.drop_evicted(&inode);
        }
        let (inode, first) = self.inner.inodes.opened(attr.fid, write, || {
            let unsure = inline.is_none();
            let mut state =
                State::new(attr.clone(), layout.clone(), inline.unwrap_or(true), evictions);
            state.layout_stale = unsure;
            state
        });
        {
            let mut state = inode.state.lock();
            if !first && let Some(inline) = inline {
                state.install(attr, layout, inline);
            }
            state.other_writers = other_writers;
            if new {
                state.size_exact = true;
                state.committed = state.landings;
            }
            if let Some((bytes, changes)) = content {
                state.keep_content(&bytes, changes, &self.inner.content_budget);
            }
        }
        Arc::new(OpenFile::new(inode, handle, flags, boot))
    }

    /// How often the file was changed here.
    pub(crate) fn changes(&self, fid: Fid) -> u64 {
        self.inner.inodes.get(fid).map_or(0, |inode| inode.state.lock().changes)
    }

    /// Without a lease nobody says when the size changes.
    fn unsure_without_lease(&self, inode: &Inode) {
        let held = || Some(inode.state.lock().size_exact);
        let known = self.inner.cache.under_lease(inode.fid, Mode::Shared, held);
        if self.inner.config.leases && known.is_none() {
            inode.state.lock().size_exact = false;
        }
    }

    /// What `close(2)` waits for. Under an exclusive lease nothing, unless `sync_on_close`: the data
    /// leaves when it is old, or when somebody wants it. Else data written through any handle of the
    /// file is with the servers, and others see its size. Tells errors of earlier writes once per
    /// open file.
    pub async fn flush(&self, file: &OpenFile) -> Result<()> {
        let inode = &file.inode;
        if self.may_close_early(inode.fid) {
            return file.close_over();
        }
        if inode.state.lock().pending() {
            self.write_out(inode).await;
            self.repair(inode).await?;
            self.settle(inode, Exact::No, false).await?;
        }
        file.check_errors()
    }

    /// Data and attributes are on disk when this returns; with `datasync` only what is needed to
    /// read the data back.
    pub async fn fsync(&self, file: &OpenFile, datasync: bool) -> Result<()> {
        // The size is needed to read the data back, and it travels with the rest.
        let _ = datasync;
        let inode = &file.inode;
        // A little goes with the sync; much had better be synced at once.
        let little = inode.state.lock().dirty.bytes() <= self.inner.config.rpc_bytes;
        let synced = self.write_out_with(inode, little).await;
        self.commit(inode).await?;
        // With the sync, not before it: a restart of the MDS between the two could take it back.
        // What was answered before lies before it in the log.
        if !(self.settle(inode, Exact::No, true).await? || synced) {
            self.sync_mds().await?;
        }
        self.check_placement(file).await?;
        file.check_errors()
    }

    /// Whether closing a file may leave its data here.
    fn may_close_early(&self, fid: Fid) -> bool {
        !self.inner.config.sync_on_close && self.inner.cache.may_hold_data(fid)
    }

    /// When the MDS lost power, it may have forgotten that the file has objects: what was written
    /// to them is then nobody's, though the object servers have it.
    async fn check_placement(&self, file: &OpenFile) -> Result<()> {
        let inode = &file.inode;
        if !file.is_new_boot(self.inner.mdc.session().boot_id) {
            return Ok(());
        }
        let before = {
            let state = inode.state.lock();
            (!state.inline).then(|| Arc::clone(&state.layout))
        };
        let Some(before) = before else { return Ok(()) };
        self.refresh_layout(inode).await?;
        let mut state = inode.state.lock();
        let after = Arc::clone(&state.layout);
        let own = |object| after.objects(inode.fid).any(|(id, ost, _)| (id, ost) == object);
        if !before.objects(inode.fid).all(|(id, ost, _)| own((id, ost))) {
            tracing::error!(fid = %inode.fid, "written data is lost: the mds has lost its objects");
            crate::metrics::lost_write();
            state.record_error(Errno::EIO);
        }
        Ok(())
    }

    /// The last descriptor is gone. Errors of written data that nobody has been told of are told
    /// here, for who asks.
    pub async fn release(&self, file: Arc<OpenFile>) -> Result<()> {
        let inode = &file.inode;
        let write = file.flags().contains(OpenFlags::WRITE);
        let mut result = Ok(());
        if !self.may_close_early(inode.fid) {
            self.write_out(inode).await;
            result = self.repair(inode).await;
            let last_writer = write && inode.state.lock().writers() == 1;
            let exact = if last_writer { Exact::Yes } else { Exact::No };
            if !self.inner.config.read_only {
                result = result.and(self.settle(inode, exact, false).await.map(drop));
            }
        }
        let keep = self.inner.cache.mode(inode.fid) > Mode::None;
        self.inner.inodes.closed(inode, write, keep);
        if inode.state.lock().nameless {
            self.inode_is_gone(inode.fid);
        }
        self.drop_retained(inode);
        let handle = file.number();
        let told = self.inner.mdc.held.lock().closed(handle);
        if told {
            self.close_handle(handle).await;
        }
        result.and(file.check_errors())
    }

    /// What was kept for an `fsync` that nobody can ask for any more is given up.
    pub(crate) fn drop_retained(&self, inode: &Inode) {
        let mut state = inode.state.lock();
        if state.handles() > 0 || state.pending() {
            return;
        }
        let kept = state.retained_bytes();
        state.forget_commits();
        drop(state);
        self.give_back_retained(kept);
    }

    /// Drops what is dirty of a file that is gone.
    pub(crate) fn discard(&self, inode: &Inode) {
        let mut state = inode.state.lock();
        let dropped: u64 = state.dirty.take_all().iter().map(|taken| taken.len).sum();
        state.dirty_since = None;
        state.note_clean();
        state.unsettled = Unsettled::default();
        state.atime = None;
        drop(state);
        self.give_back_dirty(dropped);
        self.drop_retained(inode);
    }

    pub(crate) async fn close_handle(&self, handle: u64) {
        if self.inner.closing.send(handle).await.is_err() {
            // The client's scope has ended; the session's end closes the handle.
            tracing::debug!(handle, "handle left to the end of the session");
        }
    }
}

/// The handle under which the process before has sent this creation.
fn handle_before() -> Option<u64> {
    Request::current()?.had_before(|record| match record {
        Record::Change { handle, .. } => Some(*handle).filter(|handle| *handle != 0),
        Record::Open { .. } | Record::Append { .. } | Record::Dirty { .. } => None,
    })
}

/// What opening needs.
const fn least(write: bool) -> Mode {
    if write { Mode::Exclusive } else { Mode::Shared }
}

/// Closes a handle that the server may know when the open did not come to its end here.
struct Unclosed<'a> {
    client: &'a Client,
    handle: Option<u64>,
}

impl Unclosed<'_> {
    fn keep(mut self) {
        self.handle = None;
    }
}

impl Drop for Unclosed<'_> {
    fn drop(&mut self) {
        let Some(handle) = self.handle else { return };
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(handle)) =
            self.client.inner.closing.try_send(handle)
        {
            let client = self.client.clone();
            self.client.inner.config.scope.spawn("close-handle", async move {
                client.close_handle(handle).await;
            });
        }
    }
}
