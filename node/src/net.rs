//! Connections: TCP in production, a simulated network in the simulator.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Endpoint, Server};

use crate::Scope;
use crate::lane;
pub use crate::lane::Channel;

/// A byte stream to a peer.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A network.
#[async_trait]
pub trait Net: Send + Sync + fmt::Debug + 'static {
    /// Connects to `host:port`.
    async fn connect(&self, address: &str) -> io::Result<Connection>;
    /// Listens on `host:port`; port 0 takes any free one.
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>>;
}

/// Accepts connections.
#[async_trait]
pub trait Listener: Send + 'static {
    /// The next connection.
    async fn accept(&mut self) -> io::Result<Connection>;
    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// One connection of whatever network.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: Option<SocketAddr>,
    /// Read already, and put back.
    unread: Bytes,
}

impl Connection {
    /// Wraps a stream.
    pub fn new(stream: impl Stream, peer: Option<SocketAddr>) -> Self {
        Self { stream: Box::new(stream), peer, unread: Bytes::new() }
    }

    /// Puts back what was read from the connection's start.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.unread = Bytes::copy_from_slice(bytes);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let len = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: self.peer }
    }
}

/// TCP, with `TCP_NODELAY` on both ends: tonic does not set it on accepted sockets, which costs
/// 44 ms a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

struct TcpListener(tokio::net::TcpListener);

#[async_trait]
impl Net for TcpNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr().ok();
        Ok(Connection::new(stream, peer))
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TcpListener(tokio::net::TcpListener::bind(address).await?)))
    }
}

#[async_trait]
impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<Connection> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Connection::new(stream, Some(peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const FRAME_BYTES: u32 = 1 << 20;
/// A peer that falls silent is given up after this: its connection breaks, its calls fail.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel to one of a server's addresses, connected on first use and again after a break.
pub fn channel(net: &Arc<dyn Net>, address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(2))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // What this side takes: data that is read comes in frames of this size.
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .buffer_size(1024);
    let (connector, to): (_, Arc<str>) = (Arc::clone(net), address.into());
    let grpc = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let (net, address) = (Arc::clone(&connector), Arc::clone(&to));
        async move { net.connect(&address).await.map(TokioIo::new) }
    }));
    Ok(Channel::new(Arc::clone(net), address, grpc))
}

/// A gRPC server with Nacre's tuning: large frames and windows.
fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(1024)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true)
}

/// Serves by the lane and by gRPC on `listener` until the scope stops, then lets calls in flight
/// finish.
pub async fn serve(
    mut listener: Box<dyn Listener>,
    routes: Routes,
    scope: Scope,
) -> Result<(), tonic::transport::Error> {
    let (tx, rx) = tokio::sync::mpsc::channel(16);
    let lanes = TaskTracker::new();
    let routes = routes.prepare();
    let (by_lane, stopping, connections) = (routes.clone(), scope.clone(), lanes.clone());
    scope.spawn("accept", async move {
        loop {
            match listener.accept().await {
                Ok(connection) => {
                    let (routes, scope, tx) = (by_lane.clone(), stopping.clone(), tx.clone());
                    connections.spawn(serve_connection(connection, routes, scope, tx));
                }
                Err(error) => tracing::warn!(%error, "accept"),
            }
        }
    });
    let incoming = tokio_stream::wrappers::ReceiverStream::new(rx);
    let stopped = async { scope.stopped().await };
    let served = server().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await;
    lanes.close();
    lanes.wait().await;
    served
}

/// Whoever does not speak the lane is served by gRPC.
async fn serve_connection(
    connection: Connection,
    routes: Routes,
    scope: Scope,
    grpc: tokio::sync::mpsc::Sender<io::Result<Connection>>,
) {
    let peer = connection.peer;
    match lane::serve(connection, routes, &scope).await {
        Ok(None) => {}
        Ok(Some(other)) => {
            // If the server ends, the connection does.
            let _ended = grpc.send(Ok(other)).await;
        }
        Err(error) => tracing::debug!(?peer, %error, "a connection has ended"),
    }
}
