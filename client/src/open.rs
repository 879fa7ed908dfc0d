//! Opening and closing files.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Fid, Layout, Name};
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::flush::Exact;
use crate::handle::OpenFile;
use crate::inode::{Remaining, State};
use crate::namespace::create_op;
use crate::types::{Caller, NewNode, OpenFlags, SetAttr};
use crate::{Client, Result};

/// What an open brought.
struct Opened {
    attr: Attr,
    layout: Layout,
    /// Absent where the server did not say: the file may be either.
    inline: Option<bool>,
    content: Option<Bytes>,
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
        let handle = self.inner.mdc.new_handle();
        let write = flags.contains(OpenFlags::WRITE);
        self.inner.mdc.held.lock().opened(handle, fid, write);
        let call = self.inner.mdc.call("open", |mut mds, session| async move {
            let fid = Some(fid.into());
            mds.open(v1::OpenRequest { session: session.id, handle, fid, write }).await
        });
        let unclosed = Unclosed { client: self, handle: Some(handle) };
        let response = call.await?;
        let opened = Opened {
            attr: required("attr", response.attr)?.try_into()?,
            layout: required("layout", response.layout)?.try_into()?,
            inline: Some(response.is_inline),
            content: response.is_inline.then_some(response.inline_data),
            other_writers: response.other_writers,
            new: false,
        };
        let file = self.opened(handle, flags, opened);
        unclosed.keep();
        if flags.contains(OpenFlags::TRUNCATE) {
            self.truncate_opened(caller, &file).await?;
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
        let handle = self.inner.mdc.new_handle();
        let write = flags.contains(OpenFlags::WRITE);
        let exclusive = flags.contains(OpenFlags::EXCLUSIVE);
        let op = create_op(parent, name, node, exclusive, handle, write);
        let unclosed = Unclosed { client: self, handle: Some(handle) };
        let changed = self.inner.mdc.change("create", caller, false, Op::Create(op)).await?;
        let attr = required("attr", changed.attr)?;
        let layout = required("layout", changed.layout)?;
        self.inner.mdc.held.lock().opened(handle, attr.fid, write);
        // The server does not say whether the file was there before; one that never had a byte
        // is as good as new.
        let placed = layout.components.iter().any(nacre_model::Component::instantiated);
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
        let Opened { attr, layout, inline, content, other_writers, new } = opened;
        let evictions = self.inner.mdc.evictions();
        let write = flags.contains(OpenFlags::WRITE);
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
            }
        }
        Arc::new(OpenFile::new(inode, handle, flags, content))
    }

    /// What `close(2)` waits for: data written through any handle of the file is with the servers,
    /// and others see its size. Tells errors of earlier writes once per open file.
    pub async fn flush(&self, file: &OpenFile) -> Result<()> {
        let inode = &file.inode;
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
        self.write_out_with(inode, false).await;
        self.commit(inode).await?;
        self.settle(inode, Exact::No, false).await?;
        self.sync_mds().await?;
        file.check_errors()
    }

    /// The last descriptor is gone. Errors of written data that nobody has been told of are told
    /// here, for who asks.
    pub async fn release(&self, file: Arc<OpenFile>) -> Result<()> {
        let inode = &file.inode;
        let write = file.flags().contains(OpenFlags::WRITE);
        self.write_out(inode).await;
        let mut result = self.repair(inode).await;
        let last_writer = write && inode.state.lock().writers() == 1;
        let exact = if last_writer { Exact::Yes } else { Exact::No };
        if !self.inner.config.read_only {
            result = result.and(self.settle(inode, exact, false).await);
        }
        if self.inner.inodes.closed(inode, write) == Remaining::Nothing {
            let kept: u64 = {
                let mut state = inode.state.lock();
                let kept = state.retained_bytes();
                state.objects.clear();
                kept
            };
            self.give_back_retained(kept);
        }
        self.close_handle(file.number()).await;
        result.and(file.check_errors())
    }

    async fn close_handle(&self, handle: u64) {
        if self.inner.closing.send(handle).await.is_err() {
            // The client's scope has ended; the session's end closes the handle.
            tracing::debug!(handle, "handle left to the end of the session");
        }
    }
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
