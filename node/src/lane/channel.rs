//! What a generated client calls through.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame as Part;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::call::{Hello, Line};
use crate::net::Net;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// Methods that stream.
const STREAMS: [&str; 2] = ["/nacre.v1.Mds/Session", "/nacre.v1.Mgs/Watch"];

/// A way to one address of a server, connected on first use and again after a break. Cloning
/// shares it.
#[derive(Debug, Clone)]
pub struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    net: Arc<dyn Net>,
    address: String,
    grpc: tonic::transport::Channel,
    line: Mutex<Option<Arc<Line>>>,
    /// One at a time connects.
    connecting: tokio::sync::Mutex<()>,
    /// The server does not know the lane.
    grpc_only: AtomicBool,
}

impl Channel {
    pub(crate) fn new(net: Arc<dyn Net>, address: &str, grpc: tonic::transport::Channel) -> Self {
        Self(Arc::new(Inner {
            net,
            address: address.to_owned(),
            grpc,
            line: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            grpc_only: AtomicBool::new(false),
        }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(line) = self.line.get_mut() {
            line.end();
        }
    }
}

impl Inner {
    fn current(&self) -> Option<Arc<Line>> {
        self.line.lock().clone().filter(|line| line.is_whole())
    }

    /// The connection; `None` if the server does not speak the lane.
    async fn line(&self) -> Result<Option<Arc<Line>>, Status> {
        if let Some(line) = self.current() {
            return Ok(Some(line));
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(line) = self.current() {
            return Ok(Some(line));
        }
        let begin = async { Line::begin(self.net.connect(&self.address).await?).await };
        let hello = timeout(CONNECT, begin).await;
        let failed = |cause: String| Status::unavailable(format!("{}: {cause}", self.address));
        match hello {
            Ok(Ok(Hello::Lane(line))) => {
                *self.line.lock() = Some(Arc::clone(&line));
                Ok(Some(line))
            }
            Ok(Ok(Hello::Other)) => {
                tracing::info!(address = %self.address, "server does not speak the lane");
                self.grpc_only.store(true, Ordering::Release);
                Ok(None)
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("no connection".to_owned())),
        }
    }

    async fn by_grpc(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let called = self.grpc.clone().oneshot(request).await;
        called.map_err(|error| Status::from_error(error.into()))
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let streams = STREAMS.contains(&request.uri().path());
        if streams || self.grpc_only.load(Ordering::Acquire) {
            return self.by_grpc(request).await;
        }
        let line = match self.line().await {
            Ok(Some(line)) => line,
            Ok(None) => return self.by_grpc(request).await,
            Err(status) => return Ok(status.into_http()),
        };
        let path = Bytes::copy_from_slice(request.uri().path().as_bytes());
        let message = whole(request.into_body()).await?.message;
        Ok(match line.call(path, message).await {
            Ok(message) => {
                Response::new(Body::new(Answered { message: Some(message), told: false }))
            }
            Err(status) => status.into_http(),
        })
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.call(request).await })
    }
}

/// A body that has come to its end.
pub(super) struct Whole {
    pub(super) message: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Takes a body in. Almost always it is one piece, which is not copied.
pub(super) async fn whole(mut body: Body) -> Result<Whole, Status> {
    let mut whole = Whole { message: Bytes::new(), trailers: None };
    while let Some(part) = body.frame().await.transpose()? {
        match part.into_data() {
            Ok(data) if whole.message.is_empty() => whole.message = data,
            Ok(data) => {
                let mut both = BytesMut::from(whole.message);
                both.extend_from_slice(&data);
                whole.message = both.freeze();
            }
            Err(part) => whole.trailers = part.into_trailers().ok(),
        }
    }
    Ok(whole)
}

/// An answer as gRPC has it: the message, and then that all is well.
struct Answered {
    message: Option<Bytes>,
    told: bool,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Part<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Part::data(message))));
        }
        if std::mem::replace(&mut self.told, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Part::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.told
    }
}
