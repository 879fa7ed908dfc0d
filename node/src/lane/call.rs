//! A client's connection, and the calls that wait for an answer on it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::frame::Frame;
use super::sink::Sink;
use super::{HELLO, MAGIC, PING, SILENCE};
use crate::Scope;
use crate::net::Connection;

type Answer = Result<Bytes, Status>;

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    sink: Sink,
    calls: Mutex<Calls>,
    unwanted: CancellationToken,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    /// In order, so that a simulation does the same each time.
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    broken: Option<String>,
}

/// Whether the server speaks the lane.
pub(super) enum Hello {
    Lane(Arc<Line>),
    Other,
}

impl Line {
    /// Begins a connection.
    pub(super) async fn begin(mut connection: Connection) -> io::Result<Hello> {
        connection.write_all(&MAGIC).await?;
        let mut heard = [0; MAGIC.len()];
        let hello = timeout_at(Instant::now() + HELLO, connection.read_exact(&mut heard)).await;
        match hello {
            Ok(Ok(_)) if heard == MAGIC => {}
            Ok(Ok(_)) => return Ok(Hello::Other),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Hello::Other);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        let (read, write) = tokio::io::split(connection);
        let (sink, unwanted) = (Sink::new(write), CancellationToken::new());
        let line = Arc::new(Self { sink, calls: Mutex::default(), unwanted });
        let reader = Arc::clone(&line);
        Scope::new().spawn_light(&Handle::current(), async move {
            let cause = tokio::select! {
                cause = reader.read(read) => cause,
                Err(error) = reader.sink.drain() => error.to_string(),
                () = reader.unwanted.cancelled() => "nobody wants it".to_owned(),
            };
            reader.break_off(&cause);
        });
        Ok(Hello::Lane(line))
    }

    /// Takes answers in until the connection ends; says why it did.
    async fn read(&self, mut stream: ReadHalf<Connection>) -> String {
        let mut received = BytesMut::new();
        let mut heard = Instant::now();
        loop {
            match Frame::take(&mut received) {
                Ok(Some(frame)) => {
                    self.take_in(frame);
                    continue;
                }
                Ok(None) => {}
                Err(error) => return error.to_string(),
            }
            received.reserve(64 << 10);
            match timeout_at(Instant::now() + PING, stream.read_buf(&mut received)).await {
                Ok(Ok(0)) => return "the server closed the connection".to_owned(),
                Ok(Ok(_)) => heard = Instant::now(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) if heard.elapsed() >= SILENCE => {
                    return format!("the server is silent for {SILENCE:?}");
                }
                Err(_) => self.sink.send(Frame::Ping),
            }
        }
    }

    fn take_in(&self, frame: Frame) {
        let (id, answer) = match frame {
            Frame::Answer { id, message } => (id, Ok(message)),
            Frame::Failure { id, status } => (id, Err(status)),
            Frame::Pong | Frame::Ping | Frame::Call { .. } | Frame::Cancel { .. } => return,
        };
        let waiting = self.calls.lock().waiting.remove(&id);
        // Who is not there any more does not care.
        let _gone = waiting.map(|waiting| waiting.send(answer));
    }

    fn break_off(&self, cause: &str) {
        let waiting = {
            let mut calls = self.calls.lock();
            calls.broken = Some(cause.to_owned());
            std::mem::take(&mut calls.waiting)
        };
        for waiting in waiting.into_values() {
            let _gone = waiting.send(Err(Status::unavailable(cause)));
        }
    }

    /// Nobody will call any more.
    pub(super) fn end(&self) {
        self.unwanted.cancel();
    }

    /// Whether calls may be made.
    pub(super) fn is_whole(&self) -> bool {
        self.calls.lock().broken.is_none()
    }

    /// Makes a call. The server stops working on it when this is dropped.
    pub(super) async fn call(self: Arc<Self>, path: Bytes, message: Bytes) -> Answer {
        let (tell, answer) = oneshot::channel();
        let id = {
            let mut calls = self.calls.lock();
            if let Some(cause) = &calls.broken {
                return Err(Status::unavailable(cause.clone()));
            }
            calls.last = calls.last.wrapping_add(1);
            let id = calls.last;
            calls.waiting.insert(id, tell);
            id
        };
        let waiting = Waiting { line: &self, id };
        self.sink.send(Frame::Call { id, path, message });
        let answer = answer.await;
        drop(waiting);
        answer.unwrap_or_else(|_| Err(Status::unavailable("the connection has ended")))
    }
}

/// A call that is waited for.
struct Waiting<'a> {
    line: &'a Line,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.line.calls.lock().waiting.remove(&self.id).is_some() {
            self.line.sink.send(Frame::Cancel { id: self.id });
        }
    }
}
