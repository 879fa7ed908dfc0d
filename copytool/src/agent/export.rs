//! Making a bucket what an inode is: its objects, their attributes and names.
//!
//! ```text
//! a file that is here:  open ─► begin ─► upload, or copy within the bucket ─► end
//! anything else:                begin ─► put, or copy within the bucket ────► end
//! names that are gone:          begin ─► delete what is still ours ─────────► end
//! ```
//!
//! What failed is told together with what was done before it: the coordinator records the one and
//! has the other done again.

use std::sync::Arc;

use bytes::Bytes;
use nacre_client::ClientError;
use nacre_client::handle::OpenFile;
use nacre_client::types::{Caller, OpenFlags};
use nacre_model::{Attr, Errno, FileKind, ServiceError};
use nacre_proto::convert::required;
use nacre_proto::v1;

use super::file::Archived;
use super::job::{Job, JobError, posix_meta};
use crate::bucket::Bucket;
use crate::error::S3Error;
use crate::mover::{Busy, MoveError, Mover, Upload};
use crate::object::{ETag, Precondition, Stored};
use crate::posix::{self, PosixMeta};

/// What is put.
struct Exported<'a> {
    posix: PosixMeta,
    content: Content<'a>,
    data_version: u64,
    /// Of everything that is exported.
    state: u64,
}

/// Where the bytes are.
enum Content<'a> {
    Here(Body<'a>),
    /// Only in the bucket.
    Released,
    /// Here, though the file was released when it was to be opened.
    Unopened,
}

/// Bytes that can be read.
enum Body<'a> {
    /// A symbolic link's target; nothing, of a directory.
    Whole(Bytes),
    /// A file's, and how many.
    Open(&'a Archived<'a>, u64),
}

impl Job {
    pub(super) async fn export(&self) -> Result<v1::HsmEndRequest, JobError> {
        let client = &self.agent.client;
        let Some(file) = self.open_resident().await? else {
            let begun = client.hsm_begin(self.cookie).await?;
            return self.carry_out(begun, None).await;
        };
        let opened = Archived { client, file: Arc::clone(&file) };
        let exported = self.export_open(&opened).await;
        client.release(file).await?;
        exported
    }

    /// Opens a regular file, and so has others bring home what they wrote. `None`: there are no
    /// bytes to be read.
    async fn open_resident(&self) -> Result<Option<Arc<OpenFile>>, JobError> {
        let client = &self.agent.client;
        let attr = match client.getattr(self.fid).await {
            Err(error) if is_gone(&error) => return Ok(None),
            attr => attr?,
        };
        if attr.kind != FileKind::Regular || attr.released {
            return Ok(None);
        }
        let flags = OpenFlags::READ | OpenFlags::NOATIME;
        match client.open(Caller::default(), self.fid, flags).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn export_open(&self, file: &Archived<'_>) -> Result<v1::HsmEndRequest, JobError> {
        let (_, begun) = self.begin_open().await?;
        // Once more: what is put must be no older than the state that it is recorded with. What
        // changes from here on changes that state, and is exported after this.
        let attr = self.agent.client.getattr(self.fid).await?;
        self.carry_out(begun, Some((attr, file))).await
    }

    async fn carry_out(
        &self,
        begun: v1::HsmBeginResponse,
        opened: Option<(Attr, &Archived<'_>)>,
    ) -> Result<v1::HsmEndRequest, JobError> {
        let export = required("export", begun.export)?;
        if export.puts.is_empty() {
            return self.delete_all(export.deletes).await;
        }
        let (attr, file) = match opened {
            Some((attr, file)) => (attr, Some(file)),
            None => (required("attr", begun.attr)?.try_into()?, None),
        };
        let exported = Exported {
            posix: posix_meta(&attr)?,
            content: content(&attr, export.target, file),
            data_version: begun.data_version,
            state: export.state,
        };
        let mut end = self.end();
        for put in &export.puts {
            match self.put(&exported, put, &end.put).await {
                Ok(object) => end.put.push(object),
                Err(error) if error.is_canceled() => return Err(error),
                Err(error) => {
                    end.failure = Some(self.failed(&error));
                    break;
                }
            }
        }
        Ok(end)
    }

    /// Makes one object. `done` are those that were made before it, which have the same bytes.
    async fn put(
        &self,
        exported: &Exported<'_>,
        put: &v1::ExportPut,
        done: &[v1::ExportedObject],
    ) -> Result<v1::ExportedObject, JobError> {
        let mover = self.agent.buckets.mover(&put.bucket, Some(&put.prefix)).await?;
        let copies = mover.bucket().features().copies;
        let origin = put.source.iter().chain(done).find(|object| object.bucket == put.bucket);
        let stored = match (&exported.content, origin) {
            (Content::Here(Body::Open(..)), Some(origin)) if copies => {
                self.copy(&mover, exported, put, origin).await?
            }
            (Content::Released | Content::Unopened, Some(origin)) => {
                self.copy(&mover, exported, put, origin).await?
            }
            (Content::Here(body), _) => self.write(&mover, &exported.posix, body, put).await?,
            (Content::Released, None) => return Err(JobError::NoBytes),
            (Content::Unopened, None) => return Err(MoveError::Busy(Busy).into()),
        };
        Ok(v1::ExportedObject {
            repository: put.repository,
            bucket: put.bucket.clone(),
            key: put.key.clone(),
            etag: stored.etag.as_str().to_owned(),
            version_id: stored.version_id.unwrap_or_default(),
            size: stored.size,
            data_version: exported.data_version,
            state: exported.state,
        })
    }

    /// Makes an object of the bytes of another one of its bucket, or of its own.
    async fn copy(
        &self,
        mover: &Mover,
        exported: &Exported<'_>,
        put: &v1::ExportPut,
        origin: &v1::ExportedObject,
    ) -> Result<Stored, JobError> {
        let (bucket, etag) = (mover.bucket(), ETag::new(&origin.etag));
        let found = bucket.head_of(&origin.key, &etag).await.map_err(|error| lost(error.into()))?;
        // What others have stored with the bytes goes where these go.
        let meta = exported.posix.encode(&posix::foreign(&found.meta))?;
        let copied = self.watched(async |_| {
            let copy = bucket.copy_found(&origin.key, &put.key, &meta, &found);
            Ok(Box::pin(copy).await?)
        });
        copied.await.map_err(lost)
    }

    /// Makes an object of bytes that are here. If it is not the one that we know of any more,
    /// somebody else has changed it: the file wins.
    async fn write(
        &self,
        mover: &Mover,
        posix: &PosixMeta,
        body: &Body<'_>,
        put: &v1::ExportPut,
    ) -> Result<Stored, JobError> {
        let replaces = (!put.etag.is_empty()).then_some(&put.key);
        let foreign = self.foreign(mover, replaces).await?;
        let meta = posix.encode(&foreign)?;
        let size = body.size();
        let mut when = precondition(put, mover.bucket());
        loop {
            let job = Upload { key: &put.key, size, meta: &meta, when: &when };
            let written = match body {
                Body::Whole(bytes) => self.put_whole(mover.bucket(), job, bytes).await,
                Body::Open(file, _) => self.upload(mover, job, file).await,
            };
            match written {
                Err(error) if when != Precondition::Always && was_replaced(&error) => {
                    tell_conflict(mover.bucket(), job).await;
                    when = Precondition::Always;
                }
                written => return written,
            }
        }
    }

    async fn put_whole(
        &self,
        bucket: &Bucket,
        job: Upload<'_>,
        bytes: &Bytes,
    ) -> Result<Stored, JobError> {
        self.watched(async |_| {
            let put = bucket.put(job.key, bytes.clone(), job.meta, job.when);
            Ok(Box::pin(put).await?)
        })
        .await
    }

    async fn delete_all(
        &self,
        deletes: Vec<v1::ExportedObject>,
    ) -> Result<v1::HsmEndRequest, JobError> {
        let mut end = self.end();
        for object in deletes {
            match self.delete_one(&object).await {
                Ok(()) => end.deleted.push(object),
                Err(error) if error.is_canceled() => return Err(error),
                Err(error) => {
                    end.failure = Some(self.failed(&error));
                    break;
                }
            }
        }
        Ok(end)
    }

    /// Deletes an object that is ours. One that somebody else has written since is theirs.
    async fn delete_one(&self, object: &v1::ExportedObject) -> Result<(), JobError> {
        let mover = self.agent.buckets.mover(&object.bucket, None).await?;
        let (bucket, etag) = (mover.bucket(), ETag::new(&object.etag));
        let deleted =
            self.watched(async |_| match Box::pin(bucket.delete_if(&object.key, &etag)).await {
                Err(S3Error::Changed { .. }) => {
                    let v1::ExportedObject { bucket, key, .. } = object;
                    tracing::info!(bucket, key, "conflict: changed in the bucket, not deleted");
                    Ok(())
                }
                deleted => Ok(deleted?),
            });
        deleted.await
    }
}

impl Body<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Whole(bytes) => crate::bucket::length(bytes),
            Self::Open(_, size) => *size,
        }
    }
}

fn content<'a>(attr: &Attr, target: Bytes, file: Option<&'a Archived<'a>>) -> Content<'a> {
    match (attr.kind, file) {
        (FileKind::Regular, _) if attr.released => Content::Released,
        (FileKind::Regular, Some(file)) => Content::Here(Body::Open(file, attr.size)),
        (FileKind::Regular, None) => Content::Unopened,
        (FileKind::Symlink, _) => Content::Here(Body::Whole(target)),
        (
            FileKind::Directory
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice,
            _,
        ) => Content::Here(Body::Whole(Bytes::new())),
    }
}

/// What must hold of the object that is replaced, where the endpoint can see to it.
fn precondition(put: &v1::ExportPut, bucket: &Bucket) -> Precondition {
    if put.etag.is_empty() || !bucket.features().put_conditions {
        return Precondition::Always;
    }
    Precondition::Match(ETag::new(&put.etag))
}

/// The condition on the object that is replaced does not hold: it is another one, or gone.
fn was_replaced(error: &JobError) -> bool {
    matches!(
        error,
        JobError::Move(MoveError::S3(S3Error::Changed { .. } | S3Error::NotFound { .. }))
    )
}

/// Says that somebody else has written the object, unless we have, and did not come to tell.
async fn tell_conflict(bucket: &Bucket, job: Upload<'_>) {
    let name = bucket.url().bucket();
    let ours = match bucket.head(job.key).await {
        Ok(head) => head.stored.size == job.size && head.meta.user == job.meta.user,
        Err(_) => false,
    };
    if ours {
        tracing::info!(bucket = name, key = job.key, "exported before, and not recorded");
    } else {
        tracing::warn!(
            bucket = name,
            key = job.key,
            "conflict: changed on both sides, the file wins"
        );
    }
}

/// An error of a copy: that there is no such source says nothing of the file.
fn lost(error: JobError) -> JobError {
    match error {
        JobError::S3(error) | JobError::Move(MoveError::S3(error))
            if matches!(error, S3Error::NotFound { .. } | S3Error::Changed { .. }) =>
        {
            JobError::Origin(error)
        }
        JobError::Client(_)
        | JobError::Message(_)
        | JobError::Move(_)
        | JobError::S3(_)
        | JobError::Bucket(_)
        | JobError::Meta(_)
        | JobError::Size { .. }
        | JobError::Origin(_)
        | JobError::NoBytes => error,
    }
}

fn is_gone(error: &ClientError) -> bool {
    matches!(error.errno(), Errno::ENOENT | Errno::ESTALE)
}
