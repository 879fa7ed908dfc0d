//! OSTs that remember what they were told, and can be told to fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use nacre_model::{Errno, ObjectId, OstIndex, Retry};
use nacre_proto::status::{RemoteError, to_status};
use nacre_proto::v1;
use nacre_proto::v1::oss_server::Oss;
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

#[derive(Default)]
pub(crate) struct FakeState {
    pub(crate) destroyed: Mutex<BTreeSet<(OstIndex, ObjectId)>>,
    pub(crate) truncated: Mutex<Vec<(OstIndex, ObjectId, u64)>>,
    pub(crate) fenced: Mutex<BTreeSet<(OstIndex, u64)>>,
    pub(crate) failing: Mutex<BTreeSet<OstIndex>>,
}

impl FakeState {
    fn check(&self, header: Option<&v1::ObjectHeader>) -> Result<OstIndex, Status> {
        let index = header.unwrap().ost_index;
        let ost = OstIndex(u16::try_from(index).unwrap());
        if self.failing.lock().contains(&ost) {
            return Err(to_status(&RemoteError {
                errno: Errno::EIO,
                retry: Retry::Never,
                effect: nacre_model::Effect::None,
                message: "told to fail".to_owned(),
            }));
        }
        Ok(ost)
    }
}

pub(crate) struct FakeOss(pub(crate) Arc<FakeState>);

type Answer<T> = Result<Response<T>, Status>;

fn never<T>() -> Answer<T> {
    Err(Status::unimplemented("the metadata server does not call it"))
}

#[tonic::async_trait]
impl Oss for FakeOss {
    async fn truncate(
        &self,
        request: Request<v1::TruncateRequest>,
    ) -> Answer<v1::TruncateResponse> {
        let request = request.into_inner();
        let ost = self.0.check(request.header.as_ref())?;
        let object = request.object.unwrap().try_into().unwrap();
        self.0.truncated.lock().push((ost, object, request.size));
        Ok(Response::new(v1::TruncateResponse::default()))
    }

    async fn destroy(&self, request: Request<v1::DestroyRequest>) -> Answer<v1::DestroyResponse> {
        let request = request.into_inner();
        let ost = self.0.check(request.header.as_ref())?;
        let objects = request.objects.into_iter().map(|id| (ost, id.try_into().unwrap()));
        self.0.destroyed.lock().extend(objects);
        Ok(Response::new(v1::DestroyResponse::default()))
    }

    async fn ost_statfs(
        &self,
        request: Request<v1::OstStatfsRequest>,
    ) -> Answer<v1::OstStatfsResponse> {
        self.0.check(request.get_ref().header.as_ref())?;
        Ok(Response::new(v1::OstStatfsResponse {
            bytes_total: 1 << 40,
            bytes_free: 1 << 39,
            bytes_available: 1 << 39,
            objects_used: 1,
            objects_free: 1 << 20,
        }))
    }

    async fn write(&self, _: Request<v1::WriteRequest>) -> Answer<v1::WriteResponse> {
        never()
    }
    async fn fence(&self, request: Request<v1::FenceRequest>) -> Answer<v1::FenceResponse> {
        let request = request.into_inner();
        let ost = self.0.check(request.header.as_ref())?;
        self.0.fenced.lock().insert((ost, request.session));
        Ok(Response::new(v1::FenceResponse {}))
    }
    async fn read(&self, _: Request<v1::ReadRequest>) -> Answer<v1::ReadResponse> {
        never()
    }
    async fn commit(&self, _: Request<v1::CommitRequest>) -> Answer<v1::CommitResponse> {
        never()
    }
    async fn stat(&self, _: Request<v1::StatRequest>) -> Answer<v1::StatResponse> {
        never()
    }
    async fn punch(&self, _: Request<v1::PunchRequest>) -> Answer<v1::PunchResponse> {
        never()
    }
    async fn allocate(&self, _: Request<v1::AllocateRequest>) -> Answer<v1::AllocateResponse> {
        never()
    }
    async fn seek(&self, _: Request<v1::SeekRequest>) -> Answer<v1::SeekResponse> {
        never()
    }
}
