//! A network inside the process. Addresses are names; servers can be cut off and fall silent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nacre_node::Net;
use nacre_node::net::{Connection, Listener};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes under way in each direction of a connection.
const PIPE_BYTES: usize = 1 << 20;
/// Connections not yet accepted.
const BACKLOG: usize = 128;

/// A network of one test.
#[derive(Debug, Clone, Default)]
pub struct LocalNet {
    nodes: Arc<Mutex<BTreeMap<String, Node>>>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    listener: Option<mpsc::Sender<Connection>>,
    /// Cancelled: every connection made until then is reset.
    alive: CancellationToken,
    silent: Arc<AtomicBool>,
}

impl LocalNet {
    /// Resets all connections of an address and refuses new ones, as `kill -9` does, until
    /// somebody listens there again.
    pub fn kill(&self, address: &str) {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.remove(address) {
            node.alive.cancel();
        }
    }

    /// Swallows whatever goes to and comes from an address, as a pulled cable does; with `false`
    /// it answers again, over connections made from then on.
    pub fn silence(&self, address: &str, silent: bool) {
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.get_mut(address) else { return };
        if silent {
            node.silent.store(true, Ordering::Release);
        } else {
            // What hangs in old connections stays swallowed: they are reset.
            node.alive.cancel();
            node.alive = CancellationToken::new();
            node.silent = Arc::default();
        }
    }
}

#[async_trait::async_trait]
impl Net for LocalNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let node = self.nodes.lock().get(address).cloned();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let node = node.ok_or_else(refused)?;
        if node.silent.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let wrap = |stream| Connection::new(Cut::new(stream, &node), None);
        let listener = node.listener.as_ref().ok_or_else(refused)?;
        listener.send(wrap(far)).await.map_err(|_| refused())?;
        Ok(wrap(near))
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let (tx, accepted) = mpsc::channel(BACKLOG);
        let node = Node { listener: Some(tx), ..Node::default() };
        self.nodes.lock().insert(address.to_owned(), node);
        Ok(Box::new(Accepting { accepted, address: address.to_owned() }))
    }
}

struct Accepting {
    accepted: mpsc::Receiver<Connection>,
    address: String,
}

#[async_trait::async_trait]
impl Listener for Accepting {
    async fn accept(&mut self) -> io::Result<Connection> {
        match self.accepted.recv().await {
            Some(connection) => Ok(connection),
            // Killed: nobody connects any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.parse().map_err(io::Error::other)
    }
}

/// One end of a connection.
struct Cut {
    stream: DuplexStream,
    dead: Pin<Box<WaitForCancellationFutureOwned>>,
    silent: Arc<AtomicBool>,
}

impl Cut {
    fn new(stream: DuplexStream, node: &Node) -> Self {
        Self {
            stream,
            dead: Box::pin(node.alive.clone().cancelled_owned()),
            silent: Arc::clone(&node.silent),
        }
    }

    /// Ready with an error when the connection is reset; pending for ever while it is silent.
    fn poll_fate(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.dead.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.silent.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_fate(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_fate(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_fate(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
