//! An object to a file.

use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::plan::{PIECE_BYTES, Untaken, Wanted};
use super::{MoveError, Mover, Sink, Watch};
use crate::object::ETag;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct Download<'a> {
    /// The whole key, with the prefix.
    pub key: &'a str,
    /// Which object: another one of the same key is [`crate::S3Error::Changed`].
    pub etag: &'a ETag,
    /// How long it is.
    pub size: u64,
}

impl Mover {
    /// Writes all bytes of the object into `sink`, what is `wanted` first.
    ///
    /// All pieces are of the one object that is meant, or it fails; then some pieces are in the
    /// sink and others are not.
    ///
    /// # Cancel safety
    /// Safe: S3 is only read.
    pub async fn download<S: Sink>(
        &self,
        job: Download<'_>,
        sink: &S,
        wanted: &Wanted,
        watch: Watch<'_>,
    ) -> Result<(), MoveError> {
        let fetched = async {
            if job.size <= PIECE_BYTES {
                self.fetch_whole(job, sink, watch).await
            } else {
                self.fetch_pieces(job, sink, wanted, watch).await
            }
        };
        let fetched = watch.cancel.run_until_cancelled(fetched).await;
        fetched.ok_or(MoveError::Cancelled)?
    }

    async fn fetch_whole<S: Sink>(
        &self,
        job: Download<'_>,
        sink: &S,
        watch: Watch<'_>,
    ) -> Result<(), MoveError> {
        let _share = self.budget.take(job.size).await;
        let bytes = self.bucket.get_whole(job.key, job.size, Some(job.etag)).await?;
        if !bytes.is_empty() {
            sink.write_at(0, bytes).await.map_err(MoveError::Sink)?;
        }
        watch.progress.moved(0..job.size);
        Ok(())
    }

    async fn fetch_pieces<S: Sink>(
        &self,
        job: Download<'_>,
        sink: &S,
        wanted: &Wanted,
        watch: Watch<'_>,
    ) -> Result<(), MoveError> {
        let untaken = Mutex::new(Untaken::of(job.size)?);
        let next = || untaken.lock().take(wanted);
        let lanes = (0..self.pieces).map(async |_| {
            loop {
                // First the room, then the piece: what is wanted meanwhile comes before it.
                let _share = self.budget.take(PIECE_BYTES).await;
                let Some(range) = next() else { return Ok::<_, MoveError>(()) };
                let bytes = self.bucket.get_range(job.key, range.clone(), Some(job.etag)).await?;
                sink.write_at(range.start, bytes).await.map_err(MoveError::Sink)?;
                watch.progress.moved(range);
            }
        });
        try_join_all(lanes).await?;
        Ok(())
    }
}
