//! The `Mds` service: one small function for each call, and around each the same frame: errors to
//! statuses, durations to metrics.

mod admit;
mod batch;
mod change;
mod check;
pub(crate) mod evict;
mod export;
pub(crate) mod hsm;
mod lease;
mod lock;
mod open;
mod reads;
mod repository;
mod session;
mod settle;
mod touch;

use std::sync::Arc;

use nacre_model::ServiceError;
use nacre_proto::status::to_status;
use nacre_proto::v1;
use nacre_proto::v1::mds_server::Mds;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::error::MdsError;
use crate::finish::Finish;
use crate::metrics;
use crate::shared::{Down, Shared};
use change::grows;

/// Serves one MDT.
#[derive(Clone)]
pub(crate) struct Service {
    shared: Arc<Shared>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Carried out to its end, whatever becomes of the client.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, MdsError>> + Send + 'static,
    ) -> Result<T, MdsError> {
        Finish::new(&self.shared.scope, work).await
    }
}

/// The frame around a call.
fn answer<T>(op: &'static str, begun: Instant, result: Result<T, MdsError>) -> Answer<T> {
    let errno = result.as_ref().err().map(ServiceError::errno);
    metrics::operation(op, errno, begun.elapsed());
    result.map(Response::new).map_err(|error| {
        tracing::debug!(op, %error, "refused");
        to_status(&error)
    })
}

#[tonic::async_trait]
impl Mds for Service {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Answer<v1::OpenSessionResponse> {
        let begun = Instant::now();
        let work = session::open(Arc::clone(&self.shared), request.into_inner());
        answer("open_session", begun, self.finish(work).await)
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Answer<v1::CloseSessionResponse> {
        let begun = Instant::now();
        let work = session::close(Arc::clone(&self.shared), request.into_inner().session);
        let closed = self.finish(work).await.map(|()| v1::CloseSessionResponse {});
        answer("close_session", begun, closed)
    }

    type SessionStream = ReceiverStream<Down>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionUp>>,
    ) -> Answer<Self::SessionStream> {
        Ok(Response::new(session::stream(&self.shared, request.into_inner())))
    }

    async fn return_leases(
        &self,
        request: Request<v1::ReturnLeasesRequest>,
    ) -> Answer<v1::ReturnLeasesResponse> {
        let begun = Instant::now();
        let returned = lease::give_back(&self.shared, request.into_inner());
        answer("return_leases", begun, returned.map(|()| v1::ReturnLeasesResponse {}))
    }

    async fn grant_sequence(
        &self,
        request: Request<v1::GrantSequenceRequest>,
    ) -> Answer<v1::GrantSequenceResponse> {
        let begun = Instant::now();
        let work = session::grant_sequence(Arc::clone(&self.shared), request.into_inner().session);
        let granted = self.finish(work).await.map(|seq| v1::GrantSequenceResponse { seq });
        answer("grant_sequence", begun, granted)
    }

    async fn change(&self, request: Request<v1::ChangeRequest>) -> Answer<v1::ChangeResponse> {
        let begun = Instant::now();
        let request = request.into_inner();
        let op = change::op_name(request.op.as_ref());
        let work = change::change(Arc::clone(&self.shared), request);
        answer(op, begun, self.finish(work).await)
    }

    async fn lookup(&self, request: Request<v1::LookupRequest>) -> Answer<v1::LookupResponse> {
        let begun = Instant::now();
        let result = reads::lookup(Arc::clone(&self.shared), request.into_inner()).await;
        answer("lookup", begun, result)
    }

    async fn getattr(&self, request: Request<v1::GetattrRequest>) -> Answer<v1::GetattrResponse> {
        let begun = Instant::now();
        let result = reads::getattr(Arc::clone(&self.shared), request.into_inner()).await;
        answer("getattr", begun, result)
    }

    async fn readdir(&self, request: Request<v1::ReaddirRequest>) -> Answer<v1::ReaddirResponse> {
        let begun = Instant::now();
        let result = reads::readdir(Arc::clone(&self.shared), request.into_inner()).await;
        answer("readdir", begun, result)
    }

    async fn readlink(
        &self,
        request: Request<v1::ReadlinkRequest>,
    ) -> Answer<v1::ReadlinkResponse> {
        let begun = Instant::now();
        let result = reads::readlink(Arc::clone(&self.shared), request.into_inner()).await;
        answer("readlink", begun, result)
    }

    async fn getxattr(
        &self,
        request: Request<v1::GetxattrRequest>,
    ) -> Answer<v1::GetxattrResponse> {
        let begun = Instant::now();
        let result = reads::getxattr(Arc::clone(&self.shared), request.into_inner()).await;
        answer("getxattr", begun, result)
    }

    async fn listxattr(
        &self,
        request: Request<v1::ListxattrRequest>,
    ) -> Answer<v1::ListxattrResponse> {
        let begun = Instant::now();
        let result = reads::listxattr(Arc::clone(&self.shared), request.into_inner()).await;
        answer("listxattr", begun, result)
    }

    async fn get_layout(
        &self,
        request: Request<v1::GetLayoutRequest>,
    ) -> Answer<v1::GetLayoutResponse> {
        let begun = Instant::now();
        let result = reads::get_layout(Arc::clone(&self.shared), request.into_inner()).await;
        answer("get_layout", begun, result)
    }

    async fn open(&self, request: Request<v1::OpenRequest>) -> Answer<v1::OpenResponse> {
        let begun = Instant::now();
        let work = open::open(Arc::clone(&self.shared), request.into_inner());
        answer("open", begun, self.finish(work).await)
    }

    async fn close(&self, request: Request<v1::CloseRequest>) -> Answer<v1::CloseResponse> {
        let begun = Instant::now();
        let closed = open::close(&self.shared, request.get_ref());
        answer("close", begun, closed.map(|()| v1::CloseResponse {}))
    }

    async fn sync(&self, _request: Request<v1::SyncRequest>) -> Answer<v1::SyncResponse> {
        let begun = Instant::now();
        let synced = self.shared.engine.sync().await;
        answer("sync", begun, synced.map(|()| v1::SyncResponse {}).map_err(MdsError::from))
    }

    async fn statfs(&self, _request: Request<v1::StatfsRequest>) -> Answer<v1::StatfsResponse> {
        let begun = Instant::now();
        answer("statfs", begun, reads::statfs(&self.shared))
    }

    async fn fid2_path(
        &self,
        request: Request<v1::Fid2PathRequest>,
    ) -> Answer<v1::Fid2PathResponse> {
        let begun = Instant::now();
        let result = reads::fid2path(Arc::clone(&self.shared), request.into_inner()).await;
        answer("fid2path", begun, result)
    }

    async fn lock(&self, request: Request<v1::LockRequest>) -> Answer<v1::LockResponse> {
        let begun = Instant::now();
        answer("lock", begun, lock::lock(&self.shared, request.into_inner()))
    }

    async fn cancel_lock(
        &self,
        request: Request<v1::CancelLockRequest>,
    ) -> Answer<v1::CancelLockResponse> {
        let begun = Instant::now();
        answer("cancel_lock", begun, lock::cancel(&self.shared, request.into_inner()))
    }

    async fn test_lock(
        &self,
        request: Request<v1::TestLockRequest>,
    ) -> Answer<v1::TestLockResponse> {
        let begun = Instant::now();
        answer("test_lock", begun, lock::test(&self.shared, request.into_inner()))
    }

    async fn hsm_state(
        &self,
        request: Request<v1::HsmStateRequest>,
    ) -> Answer<v1::HsmStateResponse> {
        let begun = Instant::now();
        let result = hsm::state(Arc::clone(&self.shared), request.into_inner()).await;
        answer("hsm_state", begun, result)
    }

    async fn hsm_request(
        &self,
        request: Request<v1::HsmRequestRequest>,
    ) -> Answer<v1::HsmRequestResponse> {
        let begun = Instant::now();
        let result = hsm::request(Arc::clone(&self.shared), request.into_inner()).await;
        answer("hsm_request", begun, result)
    }

    async fn hsm_list(&self, request: Request<v1::HsmListRequest>) -> Answer<v1::HsmListResponse> {
        let begun = Instant::now();
        answer("hsm_list", begun, hsm::list(&self.shared, request.into_inner()))
    }

    async fn hsm_take(&self, request: Request<v1::HsmTakeRequest>) -> Answer<v1::HsmTakeResponse> {
        let begun = Instant::now();
        let result = hsm::take(Arc::clone(&self.shared), request.into_inner()).await;
        answer("hsm_take", begun, result)
    }

    async fn hsm_begin(
        &self,
        request: Request<v1::HsmBeginRequest>,
    ) -> Answer<v1::HsmBeginResponse> {
        let begun = Instant::now();
        let work = hsm::begin(Arc::clone(&self.shared), request.into_inner());
        answer("hsm_begin", begun, self.finish(work).await)
    }

    async fn hsm_progress(
        &self,
        request: Request<v1::HsmProgressRequest>,
    ) -> Answer<v1::HsmProgressResponse> {
        let begun = Instant::now();
        answer("hsm_progress", begun, hsm::progress(&self.shared, request.get_ref()))
    }

    async fn hsm_end(&self, request: Request<v1::HsmEndRequest>) -> Answer<v1::HsmEndResponse> {
        let begun = Instant::now();
        let work = hsm::end(Arc::clone(&self.shared), request.into_inner());
        answer("hsm_end", begun, self.finish(work).await)
    }

    async fn sweep_page(
        &self,
        request: Request<v1::SweepPageRequest>,
    ) -> Answer<v1::SweepPageResponse> {
        let begun = Instant::now();
        answer("sweep_page", begun, repository::page(&self.shared, request.get_ref()))
    }

    async fn import(&self, request: Request<v1::ImportRequest>) -> Answer<v1::ImportResponse> {
        let begun = Instant::now();
        let work = repository::import(Arc::clone(&self.shared), request.into_inner());
        answer("import", begun, self.finish(work).await)
    }

    async fn sweep_end(
        &self,
        request: Request<v1::SweepEndRequest>,
    ) -> Answer<v1::SweepEndResponse> {
        let begun = Instant::now();
        let work = repository::sweep_end(Arc::clone(&self.shared), request.into_inner());
        answer("sweep_end", begun, self.finish(work).await)
    }

    async fn update_repository(
        &self,
        request: Request<v1::UpdateRepositoryRequest>,
    ) -> Answer<v1::UpdateRepositoryResponse> {
        let begun = Instant::now();
        let work = repository::update(Arc::clone(&self.shared), request.into_inner());
        answer("update_repository", begun, self.finish(work).await)
    }

    async fn link_repository(
        &self,
        request: Request<v1::LinkRepositoryRequest>,
    ) -> Answer<v1::LinkRepositoryResponse> {
        let begun = Instant::now();
        let work = repository::link(Arc::clone(&self.shared), request.into_inner());
        answer("link_repository", begun, self.finish(work).await)
    }

    async fn unlink_repository(
        &self,
        request: Request<v1::UnlinkRepositoryRequest>,
    ) -> Answer<v1::UnlinkRepositoryResponse> {
        let begun = Instant::now();
        let work = repository::unlink(Arc::clone(&self.shared), request.into_inner());
        answer("unlink_repository", begun, self.finish(work).await)
    }

    async fn list_repositories(
        &self,
        _request: Request<v1::ListRepositoriesRequest>,
    ) -> Answer<v1::ListRepositoriesResponse> {
        let begun = Instant::now();
        answer("list_repositories", begun, repository::list(&self.shared))
    }
}
