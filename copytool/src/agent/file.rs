//! Files as the mover reads and writes them.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nacre_client::handle::OpenFile;
use nacre_client::{Client, ClientError};
use nacre_model::{Fid, Layout, ServiceError};
use parking_lot::Mutex;

use crate::mover::{Sink, Source};

/// An open file that is archived.
pub(super) struct Archived<'a> {
    pub(super) client: &'a Client,
    pub(super) file: Arc<OpenFile>,
}

impl Source for Archived<'_> {
    async fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Bytes> {
        let segments = self.client.read(&self.file, offset, bytes).await;
        let segments = segments.map_err(|error| as_io(&error))?;
        if let [only] = segments.as_slice() {
            return Ok(only.clone());
        }
        let mut joined = BytesMut::with_capacity(segments.iter().map(Bytes::len).sum());
        for segment in &segments {
            joined.extend_from_slice(segment);
        }
        Ok(joined.freeze())
    }
}

/// Where a restored file's bytes go.
pub(super) struct Restored<'a> {
    pub(super) client: &'a Client,
    pub(super) fid: Fid,
    /// Absent: they are kept here, for they will live in the inode.
    pub(super) layout: Option<Layout>,
    pub(super) kept: Mutex<Vec<u8>>,
}

impl Sink for Restored<'_> {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        if let Some(layout) = &self.layout {
            let written = self.client.write_restored(self.fid, layout, offset, bytes).await;
            return written.map_err(|error| as_io(&error));
        }
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.saturating_add(bytes.len());
        let mut kept = self.kept.lock();
        if kept.len() < end {
            kept.resize(end, 0);
        }
        if let Some(place) = kept.get_mut(start..end) {
            place.copy_from_slice(&bytes);
        }
        Ok(())
    }
}

fn as_io(error: &ClientError) -> io::Error {
    io::Error::from_raw_os_error(error.errno().0)
}
