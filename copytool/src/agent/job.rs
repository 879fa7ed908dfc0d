//! One action from its beginning to its end.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nacre_client::ClientError;
use nacre_client::types::{Caller, OpenFlags};
use nacre_model::{self as model, Attr, Errno, Fid, ServiceError};
use nacre_node::register::Chain;
use nacre_proto::convert::required;
use nacre_proto::v1;
use nacre_proto::v1::HsmAction;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Agent;
use super::buckets::BucketError;
use super::file::{Archived, Restored};
use crate::error::S3Error;
use crate::mover::{Busy, Download, MoveError, Mover, Upload, Wanted, Watch};
use crate::object::{ETag, ObjectMeta, Precondition, Stored};
use crate::posix::{self, FileKind, MetaError, PosixMeta};
use crate::report::ReportCode;

/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// An action that this copytool was given.
pub(super) struct Job {
    pub(super) agent: Arc<Agent>,
    pub(super) cookie: u64,
    pub(super) action: HsmAction,
    pub(super) fid: Fid,
}

/// Why an action is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The file system did not do its part.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The coordinator's answer makes no sense.
    #[error(transparent)]
    Message(#[from] nacre_proto::convert::BadMessage),
    /// The bytes could not be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// S3 was asked something else, and did not do its part.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The file's attributes do not fit an object.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The archive has a copy of another length.
    #[error("the copy has {copy} bytes, the file {file}")]
    Size {
        /// Bytes of the copy.
        copy: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// The object that was to be copied is gone, or is another one by now.
    #[error("the object that has the bytes")]
    Origin(#[source] S3Error),
    /// The file's bytes are neither here nor in the bucket.
    #[error("the file is released, and its bytes are not in the bucket")]
    NoBytes,
}

impl Job {
    pub(super) async fn run(self) {
        let done = match self.action {
            HsmAction::Archive => self.archive().await,
            HsmAction::Restore => self.restore().await,
            HsmAction::Remove => self.remove().await,
            HsmAction::Export => self.export().await,
            HsmAction::Unspecified => return,
        };
        let end = match done {
            Ok(end) => end,
            Err(error) if error.is_canceled() => {
                tracing::info!(fid = %self.fid, action = ?self.action, "canceled");
                return;
            }
            Err(error) => v1::HsmEndRequest { failure: Some(self.failed(&error)), ..self.end() },
        };
        if let Err(error) = self.agent.client.hsm_end(end).await {
            tracing::debug!(fid = %self.fid, %error, "what became of it is not wanted any more");
        }
    }

    /// An end of which nothing more is said.
    pub(super) fn end(&self) -> v1::HsmEndRequest {
        v1::HsmEndRequest { cookie: self.cookie, ..v1::HsmEndRequest::default() }
    }

    /// What the coordinator is told of an error.
    pub(super) fn failed(&self, error: &JobError) -> v1::HsmFailure {
        tracing::info!(fid = %self.fid, action = ?self.action, error = %Chain(error), "failed");
        error.failure()
    }

    async fn archive(&self) -> Result<v1::HsmEndRequest, JobError> {
        let client = &self.agent.client;
        // Whoever has written to it has brought it home when this returns.
        let flags = OpenFlags::READ | OpenFlags::NOATIME;
        let file = client.open(Caller::default(), self.fid, flags).await?;
        let archived = self.archive_open(Archived { client, file: Arc::clone(&file) }).await;
        client.release(file).await?;
        archived
    }

    async fn archive_open(&self, source: Archived<'_>) -> Result<v1::HsmEndRequest, JobError> {
        let (attr, begun) = self.begin_open().await?;
        let mover = self.agent.buckets.mover(&begun.bucket, Some(&begun.prefix)).await?;
        let copied = begun.copy.as_ref().is_some_and(|copy| copy.key == begun.key);
        let foreign = self.foreign(&mover, copied.then_some(&begun.key)).await?;
        let meta = posix_meta(&attr)?.encode(&foreign)?;
        let job = Upload {
            key: &begun.key,
            size: attr.size,
            meta: &meta,
            // The file is what counts, as where exports alone are on.
            when: &Precondition::Always,
        };
        let stored = self.upload(&mover, job, &source).await?;
        let copy = v1::HsmCopy {
            bucket: begun.bucket.clone(),
            key: begun.key.clone(),
            etag: stored.etag.as_str().to_owned(),
            version_id: stored.version_id.unwrap_or_default(),
            size: stored.size,
            data_version: begun.data_version,
        };
        Ok(v1::HsmEndRequest { copy: Some(copy), ..self.end() })
    }

    /// Begins what is done with an open file, whose size the MDS then knows.
    pub(super) async fn begin_open(&self) -> Result<(Attr, v1::HsmBeginResponse), JobError> {
        let client = &self.agent.client;
        // Also brings the lease, without which it cannot begin.
        let attr = client.getattr(self.fid).await?;
        let mut begun = client.hsm_begin(self.cookie).await?;
        if begun.attr.as_ref().is_some_and(|attr| attr.size_lazy) {
            client.settle_size(self.fid, attr.size).await?;
            begun = client.hsm_begin(self.cookie).await?;
        }
        Ok((attr, begun))
    }

    /// Writes an open file's bytes, all of one time, into an object.
    pub(super) async fn upload(
        &self,
        mover: &Mover,
        job: Upload<'_>,
        source: &Archived<'_>,
    ) -> Result<Stored, JobError> {
        let client = &self.agent.client;
        let fence =
            async { client.hsm_progress(self.cookie, job.size, true).await.map_err(|_| Busy) };
        self.watched(async |watch| Box::pin(mover.upload(job, source, fence, watch)).await).await
    }

    /// What others have stored with the object that is replaced, if there is one.
    pub(super) async fn foreign(
        &self,
        mover: &Mover,
        key: Option<&String>,
    ) -> Result<ObjectMeta, JobError> {
        let Some(key) = key else { return Ok(ObjectMeta::default()) };
        match mover.bucket().head(key).await {
            Ok(head) => Ok(posix::foreign(&head.meta)),
            Err(S3Error::NotFound { .. }) => Ok(ObjectMeta::default()),
            Err(error) => Err(error.into()),
        }
    }

    async fn restore(&self) -> Result<v1::HsmEndRequest, JobError> {
        let client = &self.agent.client;
        let begun = client.hsm_begin(self.cookie).await?;
        let attr: Attr = required("attr", begun.attr)?.try_into()?;
        let copy = required("copy", begun.copy)?;
        if copy.size != attr.size {
            return Err(JobError::Size { copy: copy.size, file: attr.size });
        }
        let layout = begun.layout.map(TryInto::try_into).transpose()?;
        let sink = Restored { client, fid: self.fid, layout, kept: Mutex::default() };
        let mover = self.agent.buckets.mover(&copy.bucket, None).await?;
        let etag = ETag::new(&copy.etag);
        let job = Download { key: &copy.key, etag: &etag, size: copy.size };
        let wanted = Wanted::default();
        self.watched(async |watch| Box::pin(mover.download(job, &sink, &wanted, watch)).await)
            .await?;
        let inline_data = sink.kept.into_inner().into();
        Ok(v1::HsmEndRequest { inline_data, ..self.end() })
    }

    async fn remove(&self) -> Result<v1::HsmEndRequest, JobError> {
        let begun = self.agent.client.hsm_begin(self.cookie).await?;
        let mover = self.agent.buckets.mover(&begun.bucket, None).await?;
        mover.bucket().delete(&begun.key).await?;
        Ok(self.end())
    }

    /// Moves bytes, and tells the coordinator how many; stops when it is told to.
    pub(super) async fn watched<T>(
        &self,
        work: impl AsyncFnOnce(Watch<'_>) -> Result<T, MoveError>,
    ) -> Result<T, JobError> {
        let moved = AtomicU64::new(0);
        let progress = |range: Range<u64>| {
            moved.fetch_add(range.end.saturating_sub(range.start), Ordering::Relaxed);
        };
        let cancel = CancellationToken::new();
        let mut refused = None;
        let telling = async {
            loop {
                tokio::time::sleep(SIGN_OF_LIFE).await;
                let bytes = moved.load(Ordering::Relaxed);
                let told = self.agent.client.hsm_progress(self.cookie, bytes, false).await;
                if let Err(error) = told {
                    refused = Some(error);
                    cancel.cancel();
                    std::future::pending::<()>().await;
                }
            }
        };
        let watch = Watch { progress: &progress, cancel: &cancel };
        let done = tokio::select! {
            done = work(watch) => done,
            () = telling => unreachable!("it never ends"),
        };
        match (done, refused) {
            (Err(MoveError::Cancelled), Some(error)) => Err(error.into()),
            (done, _) => Ok(done?),
        }
    }
}

/// What is stored beside an object's bytes.
pub(super) fn posix_meta(attr: &Attr) -> Result<PosixMeta, MetaError> {
    let kind = match attr.kind {
        model::FileKind::Regular => FileKind::File,
        model::FileKind::Directory => FileKind::Directory,
        model::FileKind::Symlink => FileKind::Symlink,
        kind @ (model::FileKind::Fifo
        | model::FileKind::Socket
        | model::FileKind::CharDevice
        | model::FileKind::BlockDevice) => {
            return Err(MetaError::NoObjectType { bits: kind.mode_bits() });
        }
    };
    Ok(PosixMeta {
        kind,
        permissions: attr.perm,
        uid: attr.uid,
        gid: attr.gid,
        atime: attr.atime,
        mtime: attr.mtime,
    })
}

impl JobError {
    /// Somebody has said that it is not to be done.
    pub(super) fn is_canceled(&self) -> bool {
        matches!(self, Self::Client(error) if error.errno() == Errno::ECANCELED)
    }

    fn failure(&self) -> v1::HsmFailure {
        let (code, retry, errno) = self.meaning();
        v1::HsmFailure {
            code: code.as_str().to_owned(),
            message: Chain(self).to_string(),
            retry,
            errno: errno.0,
        }
    }

    /// The report's word, whether to try again, and what a waiting reader is told.
    fn meaning(&self) -> (ReportCode, bool, Errno) {
        match self {
            Self::Client(error) if error.errno() == Errno::EBUSY => {
                (ReportCode::ResourceBusy, true, Errno::EBUSY)
            }
            Self::Client(error) => (ReportCode::InternalError, true, error.errno()),
            Self::Move(MoveError::S3(error)) | Self::S3(error) => {
                (error.code(), error.is_transient(), Errno::EIO)
            }
            Self::Move(error @ MoveError::Busy(_)) => (error.code(), true, Errno::EBUSY),
            Self::Move(error @ (MoveError::Sink(source) | MoveError::Source(source))) => {
                let errno = errno_of(source);
                (error.code(), errno != Errno::ENOSPC, errno)
            }
            Self::Move(
                error @ (MoveError::TooLarge { .. } | MoveError::Cancelled | MoveError::Intents(_)),
            ) => (error.code(), false, Errno::EIO),
            Self::Bucket(BucketError::Intents(_)) => (ReportCode::InternalError, true, Errno::EIO),
            Self::Message(_) | Self::Meta(_) | Self::Bucket(BucketError::Url(_)) => {
                (ReportCode::InternalError, false, Errno::EIO)
            }
            Self::Size { .. } => (ReportCode::S3Error, false, Errno::EIO),
            // What has the bytes may be known by then.
            Self::Origin(error) => (error.code(), true, Errno::EIO),
            Self::NoBytes => (ReportCode::S3ObjectNotFound, false, Errno::EIO),
        }
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno)
}
