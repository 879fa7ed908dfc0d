//! The calls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nacre_model::ServiceError;
use nacre_model::checksum::Crc32c;
use nacre_proto::status::to_status;
use nacre_proto::v1;
use nacre_proto::v1::oss_server::Oss;
use tonic::{Request, Response, Status};

use super::convert::{data_len, object, objects, stat, verifier};
use super::ost::Osts;
use crate::error::OssError;
use crate::object::{Fate, ObjectStore};

/// The service of one process over all its OSTs.
#[derive(Clone)]
pub struct Service {
    osts: Osts,
}

impl Service {
    /// Over these OSTs.
    pub fn new(osts: Osts) -> Self {
        Self { osts }
    }

    /// See `oss.proto`.
    pub async fn write(&self, request: v1::WriteRequest) -> Result<v1::WriteResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let id = object(request.object)?;
        data_len("data", request.data.len())?;
        let (offset, data, crc) = (request.offset, request.data, Crc32c(request.crc32c));
        let sync = request.sync;
        let (info, of) = ost
            .run(move |store| {
                // Taken before the write: a restart in between must show.
                let of = store.verifier();
                let info = store.write(id, offset, &data, crc)?;
                if sync {
                    store.commit(&[id])?;
                }
                Ok::<_, OssError>((info, of))
            })
            .await?;
        Ok(v1::WriteResponse {
            verifier: Some(verifier(of)),
            object_size: info.size,
            blocks: info.blocks,
        })
    }

    /// See `oss.proto`.
    pub async fn read(&self, request: v1::ReadRequest) -> Result<v1::ReadResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let id = object(request.object)?;
        let len = data_len("len", usize::try_from(request.len).unwrap_or(usize::MAX))?;
        let read = ost.run(move |store| store.read(id, request.offset, len)).await?;
        Ok(v1::ReadResponse { data: read.data, crc32c: read.crc.0, object_size: read.size })
    }

    /// See `oss.proto`.
    pub async fn commit(&self, request: v1::CommitRequest) -> Result<v1::CommitResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let ids = objects(request.objects)?;
        ost.run(move |store| store.commit(&ids)).await?;
        Ok(v1::CommitResponse { verifier: Some(verifier(ost.store().verifier())) })
    }

    /// See `oss.proto`.
    pub async fn stat(&self, request: v1::StatRequest) -> Result<v1::StatResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let ids = objects(request.objects)?;
        let stats = ost
            .run(move |store| {
                ids.into_iter().map(|id| store.stat(id).map(stat)).collect::<Result<_, _>>()
            })
            .await?;
        Ok(v1::StatResponse { stats })
    }

    /// See `oss.proto`.
    pub async fn truncate(
        &self,
        request: v1::TruncateRequest,
    ) -> Result<v1::TruncateResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let id = object(request.object)?;
        let truncate = move |store: &ObjectStore| {
            let info = store.truncate(id, request.size)?;
            // The MDS forgets the cut when it is answered: bytes that a loss of power brought
            // back would stay, and be part of the file when it grows again.
            store.commit(&[id])?;
            Ok::<_, OssError>(info)
        };
        let info = ost.run(truncate).await?;
        Ok(v1::TruncateResponse {
            verifier: Some(verifier(ost.store().verifier())),
            blocks: info.map_or(0, |info| info.blocks),
        })
    }

    /// See `oss.proto`.
    pub async fn punch(&self, request: v1::PunchRequest) -> Result<v1::PunchResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let id = object(request.object)?;
        let info = ost.run(move |store| store.punch(id, request.offset, request.len)).await?;
        Ok(v1::PunchResponse {
            verifier: Some(verifier(ost.store().verifier())),
            blocks: info.map_or(0, |info| info.blocks),
        })
    }

    /// See `oss.proto`.
    pub async fn allocate(
        &self,
        request: v1::AllocateRequest,
    ) -> Result<v1::AllocateResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let id = object(request.object)?;
        let v1::AllocateRequest { offset, len, grow, .. } = request;
        let info = ost.run(move |store| store.allocate(id, offset, len, grow)).await?;
        Ok(v1::AllocateResponse {
            verifier: Some(verifier(ost.store().verifier())),
            object_size: info.size,
            blocks: info.blocks,
        })
    }

    /// See `oss.proto`.
    pub async fn seek(&self, request: v1::SeekRequest) -> Result<v1::SeekResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let id = object(request.object)?;
        let (found, object_size) =
            ost.run(move |store| store.seek(id, request.offset, request.hole)).await?;
        Ok(v1::SeekResponse {
            found: found.is_some(),
            offset: found.unwrap_or_default(),
            object_size,
        })
    }

    /// See `oss.proto`.
    pub async fn destroy(
        &self,
        request: v1::DestroyRequest,
    ) -> Result<v1::DestroyResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let ids = objects(request.objects)?;
        let fate = if request.tombstone { Fate::Replaced } else { Fate::Gone };
        ost.run(move |store| store.destroy(&ids, fate)).await?;
        Ok(v1::DestroyResponse {})
    }

    /// See `oss.proto`.
    pub async fn ost_statfs(
        &self,
        request: v1::OstStatfsRequest,
    ) -> Result<v1::OstStatfsResponse, OssError> {
        let ost = self.osts.admit(request.header.as_ref())?;
        let space = ost.run(ObjectStore::space).await?;
        // An object takes two inodes of the disk.
        Ok(v1::OstStatfsResponse {
            bytes_total: space.bytes_total,
            bytes_free: space.bytes_free,
            bytes_available: space.bytes_available,
            objects_used: space.inodes_total.saturating_sub(space.inodes_free) / 2,
            objects_free: space.inodes_free / 2,
        })
    }
}

impl Service {
    /// See `oss.proto`.
    pub async fn fence(&self, request: v1::FenceRequest) -> Result<v1::FenceResponse, OssError> {
        let admitted = self.osts.admit(request.header.as_ref())?;
        let fences = Arc::clone(&admitted.ost.fences);
        let (session, own) = (request.session, Arc::clone(&fences));
        admitted
            .run(move |_| own.close(session))
            .await
            .map_err(OssError::disk("remember a fence"))?;
        fences.ended(session).await;
        tracing::info!(session, "session is fenced");
        Ok(v1::FenceResponse {})
    }
}

/// Measures a call and puts its answer on the wire.
async fn answer<T>(
    op: &'static str,
    call: impl Future<Output = Result<T, OssError>>,
) -> Result<Response<T>, Status> {
    let begun = tokio::time::Instant::now();
    let result = call.await;
    observe(op, begun.elapsed(), result.as_ref().err());
    result.map(Response::new).map_err(|error| {
        tracing::debug!(op, %error, "refused");
        to_status(&error)
    })
}

/// `nacre_oss_op_duration_seconds{op,errno}`: from request to answer; errno is `0` for success.
fn observe(op: &'static str, took: Duration, error: Option<&OssError>) {
    let errno = error.map_or("0", |error| error.errno().symbol().unwrap_or("other"));
    metrics::histogram!("nacre_oss_op_duration_seconds", "op" => op, "errno" => errno)
        .record(took.as_secs_f64());
}

#[tonic::async_trait]
impl Oss for Service {
    async fn write(
        &self,
        request: Request<v1::WriteRequest>,
    ) -> Result<Response<v1::WriteResponse>, Status> {
        answer("write", self.write(request.into_inner())).await
    }

    async fn read(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ReadResponse>, Status> {
        answer("read", self.read(request.into_inner())).await
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        answer("commit", self.commit(request.into_inner())).await
    }

    async fn stat(
        &self,
        request: Request<v1::StatRequest>,
    ) -> Result<Response<v1::StatResponse>, Status> {
        answer("stat", self.stat(request.into_inner())).await
    }

    async fn truncate(
        &self,
        request: Request<v1::TruncateRequest>,
    ) -> Result<Response<v1::TruncateResponse>, Status> {
        answer("truncate", self.truncate(request.into_inner())).await
    }

    async fn punch(
        &self,
        request: Request<v1::PunchRequest>,
    ) -> Result<Response<v1::PunchResponse>, Status> {
        answer("punch", self.punch(request.into_inner())).await
    }

    async fn allocate(
        &self,
        request: Request<v1::AllocateRequest>,
    ) -> Result<Response<v1::AllocateResponse>, Status> {
        answer("allocate", self.allocate(request.into_inner())).await
    }

    async fn seek(
        &self,
        request: Request<v1::SeekRequest>,
    ) -> Result<Response<v1::SeekResponse>, Status> {
        answer("seek", self.seek(request.into_inner())).await
    }

    async fn destroy(
        &self,
        request: Request<v1::DestroyRequest>,
    ) -> Result<Response<v1::DestroyResponse>, Status> {
        answer("destroy", self.destroy(request.into_inner())).await
    }

    async fn ost_statfs(
        &self,
        request: Request<v1::OstStatfsRequest>,
    ) -> Result<Response<v1::OstStatfsResponse>, Status> {
        answer("ost_statfs", self.ost_statfs(request.into_inner())).await
    }

    async fn fence(
        &self,
        request: Request<v1::FenceRequest>,
    ) -> Result<Response<v1::FenceResponse>, Status> {
        answer("fence", self.fence(request.into_inner())).await
    }
}
