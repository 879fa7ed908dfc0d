//! A file to an object.
//!
//! ```text
//! small:  read all ------------------------------> fence -> PUT
//! large:  begin -> intent -> (read part -> send)* -> fence -> complete
//!                     any failure, or cancelled:  '-> abort -> intent ended
//! ```
//!
//! Until its last request, which replaces it at once, the object stays what it was: keys are the
//! files' paths, so it is the only copy in S3. What may make that request is the fence, polled
//! when all bytes are up: it says whether they are still those of the file.

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::plan::{PIECE_BYTES, Parts};
use super::{Busy, MoveError, Mover, Source, Watch};
use crate::bucket::length;
use crate::object::{ObjectMeta, PendingUpload, Precondition, Stored, StoredPart};

/// What to write where.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// The whole key, with the prefix.
    pub key: &'a str,
    /// How long the file is; [`Busy`] if it turns out to be shorter.
    pub size: u64,
    /// What is stored beside the bytes.
    pub meta: &'a ObjectMeta,
    /// What must hold of the object that is replaced.
    pub when: &'a Precondition,
}

impl Mover {
    /// Writes the object, if `fence` says that the file did not change; it is polled after
    /// everything was read and before anything is replaced.
    ///
    /// Once the fence is passed, cancelling has no effect. After [`MoveError::S3`] of the last
    /// request the object may be the new one all the same, as an answer can be lost: ask with HEAD.
    ///
    /// # Cancel safety
    /// Dropped, it may leave an upload behind, which its intent names; use [`Watch::cancel`].
    pub async fn upload<S: Source>(
        &self,
        job: Upload<'_>,
        source: &S,
        fence: impl Future<Output = Result<(), Busy>> + Send,
        watch: Watch<'_>,
    ) -> Result<Stored, MoveError> {
        let parts = Parts::of(job.size)?;
        if job.size <= PIECE_BYTES {
            return self.upload_whole(job, source, fence, watch).await;
        }
        let upload = self.begin(job, watch).await?;
        let result = self.send_and_complete(job, &upload, parts, source, fence, watch).await;
        match result {
            Ok(stored) => {
                self.forget(&upload).await;
                Ok(stored)
            }
            Err(error) => {
                self.abort(&upload).await;
                Err(error)
            }
        }
    }

    async fn upload_whole<S: Source>(
        &self,
        job: Upload<'_>,
        source: &S,
        fence: impl Future<Output = Result<(), Busy>> + Send,
        watch: Watch<'_>,
    ) -> Result<Stored, MoveError> {
        let prepared = async {
            let share = self.budget.take(job.size).await;
            let bytes = read_all(source, 0, job.size).await?;
            fence.await?;
            Ok::<_, MoveError>((share, bytes))
        };
        let prepared = watch.cancel.run_until_cancelled(prepared).await;
        let (_share, bytes) = prepared.ok_or(MoveError::Cancelled)??;
        let stored = self.bucket.put(job.key, bytes, job.meta, job.when).await?;
        watch.progress.moved(0..job.size);
        Ok(stored)
    }

    /// Begins an upload that is remembered. Not cancelled midway: what S3 had begun by then would
    /// have no name.
    async fn begin(&self, job: Upload<'_>, watch: Watch<'_>) -> Result<PendingUpload, MoveError> {
        if watch.cancel.is_cancelled() {
            return Err(MoveError::Cancelled);
        }
        let upload = self.bucket.begin_upload(job.key, job.meta).await?;
        match self.intents.begun(&upload).await {
            Ok(()) => Ok(upload),
            Err(error) => {
                self.abort(&upload).await;
                Err(MoveError::Intents(error))
            }
        }
    }

    async fn send_and_complete<S: Source>(
        &self,
        job: Upload<'_>,
        upload: &PendingUpload,
        parts: Parts,
        source: &S,
        fence: impl Future<Output = Result<(), Busy>> + Send,
        watch: Watch<'_>,
    ) -> Result<Stored, MoveError> {
        let sent = async {
            let stored = self.send(upload, parts, source, watch).await?;
            fence.await?;
            Ok::<_, MoveError>(stored)
        };
        let sent = watch.cancel.run_until_cancelled(sent).await;
        let stored = sent.ok_or(MoveError::Cancelled)??;
        Ok(self.bucket.complete_upload(upload, &stored, job.size, job.meta, job.when).await?)
    }

    /// Sends all parts; in the order of their numbers.
    async fn send<S: Source>(
        &self,
        upload: &PendingUpload,
        parts: Parts,
        source: &S,
        watch: Watch<'_>,
    ) -> Result<Vec<StoredPart>, MoveError> {
        let share_bytes = parts.part_bytes();
        let parts = Mutex::new(parts);
        let next = || parts.lock().next();
        let lanes = (0..self.pieces).map(async |_| {
            let mut sent = Vec::new();
            loop {
                // First the room, then the part: it is read when it can go at once.
                let _share = self.budget.take(share_bytes).await;
                let Some((number, range)) = next() else { return Ok::<_, MoveError>(sent) };
                let bytes = range.end.saturating_sub(range.start);
                let body = read_all(source, range.start, bytes).await?;
                sent.push(self.bucket.put_part(upload, number, body).await?);
                watch.progress.moved(range);
            }
        });
        let mut stored: Vec<_> = try_join_all(lanes).await?.into_iter().flatten().collect();
        stored.sort_unstable_by_key(|part| part.number);
        Ok(stored)
    }

    /// Gives up an upload. Should that fail too, its intent stays.
    async fn abort(&self, upload: &PendingUpload) {
        match self.bucket.abort_upload(upload).await {
            Ok(()) => self.forget(upload).await,
            Err(error) => tracing::info!(%error, "upload stays until the next start"),
        }
    }

    /// An intent that outlives its upload costs one needless abort.
    async fn forget(&self, upload: &PendingUpload) {
        if let Err(error) = self.intents.ended(upload).await {
            tracing::info!(%error, key = upload.key, "end of an upload is not written down");
        }
    }
}

/// Exactly so many bytes, else [`Busy`].
async fn read_all<S: Source>(source: &S, offset: u64, bytes: u64) -> Result<Bytes, MoveError> {
    let mut read = source.read_at(offset, bytes).await.map_err(MoveError::Source)?;
    while length(&read) < bytes {
        let got = length(&read);
        let rest = source.read_at(offset.saturating_add(got), bytes.saturating_sub(got)).await;
        let rest = rest.map_err(MoveError::Source)?;
        if rest.is_empty() {
            return Err(Busy.into());
        }
        let mut joined = BytesMut::from(&read[..]);
        joined.extend_from_slice(&rest);
        read = joined.freeze();
    }
    if length(&read) > bytes { Err(Busy.into()) } else { Ok(read) }
}
