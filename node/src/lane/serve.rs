//! A server's side of a connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Version, header};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::channel::whole;
use super::frame::Frame;
use super::sink::Sink;
use super::{CLIENT_SILENCE, HELLO, MAGIC};
use crate::Scope;
use crate::net::Connection;

/// Calls of one connection at a time; more are not read.
const CALLS_MAX: usize = 1024;

/// Serves a connection by the lane until it ends or the scope stops; then calls in flight are
/// finished. One whose client speaks something else is given back.
pub(crate) async fn serve(
    mut connection: Connection,
    routes: Routes,
    scope: &Scope,
) -> io::Result<Option<Connection>> {
    let mut first = [0; MAGIC.len()];
    timeout(HELLO, connection.read_exact(&mut first)).await??;
    if first != MAGIC {
        connection.unread(&first);
        return Ok(Some(connection));
    }
    connection.write_all(&MAGIC).await?;
    let (read, write) = tokio::io::split(connection);
    let served = Arc::new(Served {
        sink: Sink::new(write),
        routes,
        running: Mutex::default(),
        tasks: TaskTracker::new(),
        permits: Arc::new(Semaphore::new(CALLS_MAX)),
    });
    let result = tokio::select! {
        result = served.read(read) => result,
        result = served.sink.drain() => result,
        () = scope.stopped() => {
            served.finish().await;
            return Ok(None);
        }
    };
    served.abandon();
    result.map(|()| None)
}

struct Served {
    sink: Sink,
    routes: Routes,
    running: Mutex<BTreeMap<u64, AbortHandle>>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Served {
    async fn read(self: &Arc<Self>, mut stream: ReadHalf<Connection>) -> io::Result<()> {
        let mut received = BytesMut::new();
        loop {
            while let Some(frame) = Frame::take(&mut received).map_err(invalid)? {
                self.take_in(frame).await;
            }
            received.reserve(64 << 10);
            if timeout(CLIENT_SILENCE, stream.read_buf(&mut received)).await?? == 0 {
                return Ok(());
            }
        }
    }

    async fn take_in(self: &Arc<Self>, frame: Frame) {
        match frame {
            Frame::Call { id, path, message } => {
                self.sink.room().await;
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                let served = Arc::clone(self);
                // Locked meanwhile, so that it cannot end before it is known to run.
                let mut running = self.running.lock();
                let task = self.tasks.spawn(async move {
                    let answering = Answering { served, id, told: false };
                    answering.carry_out(&path, message).await;
                    drop(permit);
                });
                running.insert(id, task.abort_handle());
            }
            Frame::Cancel { id } => {
                if let Some(task) = self.running.lock().remove(&id) {
                    task.abort();
                }
            }
            Frame::Ping => self.sink.send(Frame::Pong),
            Frame::Pong | Frame::Answer { .. } | Frame::Failure { .. } => {}
        }
    }

    async fn call(&self, path: &[u8], message: Bytes) -> Result<Bytes, Status> {
        let mut request = Request::new(Body::new(http_body_util::Full::new(message)));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() =
            path.try_into().map_err(|_| Status::invalid_argument("the path is none"))?;
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(header::CONTENT_TYPE, grpc);
        let Ok(response) = self.routes.clone().oneshot(request).await;
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let answer = whole(response.into_body()).await?;
        let status = answer.trailers.as_ref().and_then(Status::from_header_map);
        match status {
            Some(status) if status.code() != Code::Ok => Err(status),
            Some(_) => Ok(answer.message),
            None => Err(Status::unimplemented("there is no such method")),
        }
    }

    /// Nobody is there to be answered.
    fn abandon(&self) {
        for task in std::mem::take(&mut *self.running.lock()).into_values() {
            task.abort();
        }
    }

    async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        if self.sink.flush().await.is_ok() {
            self.sink.close().await;
        }
    }
}

/// A call that is being carried out. Answers also when that panics.
struct Answering {
    served: Arc<Served>,
    id: u64,
    told: bool,
}

impl Answering {
    async fn carry_out(mut self, path: &[u8], message: Bytes) {
        let answer = self.served.call(path, message).await;
        let id = self.id;
        self.told = true;
        self.served.sink.send(match answer {
            Ok(message) => Frame::Answer { id, message },
            Err(status) => Frame::Failure { id, status },
        });
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let cancelled = self.served.running.lock().remove(&self.id).is_none();
        if !self.told && !cancelled {
            tracing::error!("a request panicked");
            let status = Status::internal("the server failed while it worked on it");
            self.served.sink.send(Frame::Failure { id: self.id, status });
        }
    }
}

fn invalid(error: super::frame::FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
