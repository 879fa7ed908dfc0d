//! The writing half of a connection: whoever has a frame writes it, as far as the socket takes it
//! at once; the rest is written by a task.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, WriteHalf};
use tokio::sync::Notify;

use super::frame::Frame;
use crate::net::Connection;

/// Parts of frames handed to the socket at a time.
const PARTS: usize = 32;
/// When so much waits, no more is begun that would add to it.
const FULL: usize = 32 << 20;

/// Writes frames in the order in which they were given.
#[derive(Debug)]
pub(super) struct Sink {
    state: Mutex<State>,
    /// There is something for the task.
    more: Notify,
    /// Something was written.
    less: Notify,
}

#[derive(Debug)]
struct State {
    stream: WriteHalf<Connection>,
    queue: VecDeque<Bytes>,
    bytes: usize,
    broken: bool,
}

impl State {
    /// Writes what is queued. Ready when nothing is.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        while !self.queue.is_empty() {
            let mut parts = [IoSlice::new(&[]); PARTS];
            let count = self.queue.len().min(PARTS);
            for (part, bytes) in parts.iter_mut().zip(&self.queue) {
                *part = IoSlice::new(bytes);
            }
            let parts = parts.get(..count).unwrap_or_default();
            let written = match Pin::new(&mut self.stream).poll_write_vectored(cx, parts) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(result) => result,
            };
            match written {
                Ok(written) => self.advance(written),
                Err(error) => {
                    self.broken = true;
                    self.queue.clear();
                    self.bytes = 0;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(part) = self.queue.front_mut() {
            let step = written.min(part.len());
            part.advance(step);
            written = written.saturating_sub(step);
            if !part.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
    }
}

impl Sink {
    pub(super) fn new(stream: WriteHalf<Connection>) -> Self {
        let state = State { stream, queue: VecDeque::new(), bytes: 0, broken: false };
        Self { state: Mutex::new(state), more: Notify::new(), less: Notify::new() }
    }

    /// Writes a frame, or leaves it to [`Sink::drain`], which also tells that the connection broke.
    pub(super) fn send(&self, frame: Frame) {
        let (head, message) = frame.encode();
        let mut state = self.state.lock();
        if state.broken {
            return;
        }
        let idle = state.queue.is_empty();
        state.bytes = state.bytes.saturating_add(head.len()).saturating_add(message.len());
        state.queue.push_back(head);
        if !message.is_empty() {
            state.queue.push_back(message);
        }
        let done = !idle
            || matches!(state.write(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
        drop(state);
        if !done {
            self.more.notify_one();
        }
    }

    /// Writes what could not be written at once, for ever, or until the connection breaks.
    pub(super) async fn drain(&self) -> io::Result<()> {
        loop {
            self.flush().await?;
            self.more.notified().await;
        }
    }

    /// Writes all there is.
    pub(super) async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let written = self.state.lock().write(cx);
            self.less.notify_waiters();
            written
        })
        .await
    }

    /// Waits until what is queued is not too much.
    pub(super) async fn room(&self) {
        loop {
            let less = self.less.notified();
            tokio::pin!(less);
            less.as_mut().enable();
            if self.state.lock().bytes < FULL {
                return;
            }
            less.await;
        }
    }

    /// Tells the other end that no more will come.
    pub(super) async fn close(&self) {
        let shut =
            std::future::poll_fn(|cx| Pin::new(&mut self.state.lock().stream).poll_shutdown(cx));
        if let Err(error) = shut.await {
            tracing::debug!(%error, "close a connection");
        }
    }
}
