use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use super::channel::whole;
use super::frame::Frame;
use super::*;
use crate::Scope;
use crate::net::{self, Connection, Listener, Net};

/// A network of pipes between one server and its clients.
#[derive(Debug)]
struct Pipes(mpsc::Sender<Connection>);

struct Accepting(mpsc::Receiver<Connection>);

fn pipes() -> (Arc<dyn Net>, Accepting) {
    let (tell, accept) = mpsc::channel(16);
    (Arc::new(Pipes(tell)), Accepting(accept))
}

#[async_trait]
impl Net for Pipes {
    async fn connect(&self, _address: &str) -> io::Result<Connection> {
        let (here, there) = tokio::io::duplex(1 << 16);
        self.0
            .try_send(Connection::new(there, None))
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Connection::new(here, None))
    }

    async fn listen(&self, _address: &str) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[async_trait]
impl Listener for Accepting {
    async fn accept(&mut self) -> io::Result<Connection> {
        match self.0.recv().await {
            Some(connection) => Ok(connection),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Answers with the request, or in some other way that the method's name says.
#[derive(Debug, Clone)]
struct Echo(mpsc::Sender<&'static str>);

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

/// Tells when it goes.
struct Going(mpsc::Sender<&'static str>);

impl Drop for Going {
    fn drop(&mut self) {
        let _nobody_listens = self.0.try_send("gone");
    }
}

impl Echo {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        match request.uri().path() {
            "/test.Echo/Echo" => {
                let message = whole(request.into_body()).await.unwrap().message;
                let mut well = HeaderMap::new();
                well.insert("grpc-status", HeaderValue::from_static("0"));
                let trailers = async { Some(Ok::<_, Infallible>(well)) };
                Response::new(Body::new(Full::new(message).with_trailers(trailers)))
            }
            "/test.Echo/Refuse" => {
                let details = Bytes::from_static(b"\0details\xff");
                Status::with_details(Code::NotFound, "no such thing: ä", details).into_http()
            }
            "/test.Echo/Wait" => {
                let _going = Going(self.0.clone());
                self.0.try_send("begun").unwrap();
                std::future::pending().await
            }
            path => panic!("{path}"),
        }
    }
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(echo.answer(request).await) })
    }
}

struct Site {
    channel: Channel,
    scope: Scope,
    events: Mutex<mpsc::Receiver<&'static str>>,
}

/// A server by both ways, and a channel to it.
fn site() -> Site {
    let ((net, listener), (tell, events)) = (pipes(), mpsc::channel(16));
    let scope = Scope::new();
    let serving = net::serve(Box::new(listener), Routes::new(Echo(tell)), scope.clone());
    scope.spawn_to_end("server", async move { serving.await.unwrap() });
    let channel = net::channel(&net, "server").unwrap();
    Site { channel, scope, events: Mutex::new(events) }
}

async fn call(channel: &Channel, method: &str, message: Bytes) -> Result<Bytes, Status> {
    let mut request = Request::new(Body::new(Full::new(message)));
    *request.uri_mut() = format!("http://server/test.Echo/{method}").parse().unwrap();
    let response = channel.clone().call(request).await?;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let answer = whole(response.into_body()).await?;
    let status = Status::from_header_map(&answer.trailers.unwrap()).unwrap();
    if status.code() == Code::Ok { Ok(answer.message) } else { Err(status) }
}

#[tokio::test(start_paused = true)]
async fn every_call_gets_its_own_answer_however_long() {
    let site = site();
    let calls = (0..200_usize).map(|number| {
        let channel = site.channel.clone();
        tokio::spawn(async move {
            let len = if number == 77 { 3 << 20 } else { number * 100 };
            let message = Bytes::from(vec![u8::try_from(number).unwrap(); len]);
            assert_eq!(call(&channel, "Echo", message.clone()).await.unwrap(), message);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    site.scope.join().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_come_with_all_they_say() {
    let site = site();
    let status = call(&site.channel, "Refuse", Bytes::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!((status.message(), status.details()), ("no such thing: ä", &b"\0details\xff"[..]));
    let status = call(&site.channel, "Panic", Bytes::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = "http://server/test.Nobody/Call".parse().unwrap();
    let response = site.channel.clone().call(request).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    site.scope.join().await;
}

#[tokio::test(start_paused = true)]
async fn work_that_nobody_waits_for_is_dropped() {
    let site = site();
    let mut events = site.events.lock().await;
    let waiting = tokio::spawn({
        let channel = site.channel.clone();
        async move { call(&channel, "Wait", Bytes::new()).await }
    });
    assert_eq!(events.recv().await, Some("begun"));
    waiting.abort();
    assert_eq!(events.recv().await, Some("gone"));
    site.scope.join().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_finishes_its_calls_and_a_client_connects_again() {
    let ((net, mut listener), (tell, mut events)) = (pipes(), mpsc::channel(16));
    let channel = net::channel(&net, "server").unwrap();
    let calling = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "Wait", Bytes::new()).await }
    });
    let routes = Routes::new(Echo(tell));
    let first = Scope::new();
    let connection = listener.accept().await.unwrap();
    let server = tokio::spawn({
        let (routes, scope) = (routes.clone(), first.clone());
        async move { serve(connection, routes, &scope).await.map(|other| other.is_none()) }
    });
    assert_eq!(events.recv().await, Some("begun"));
    // It would be waited for for ever: what nobody waits for any more need not be finished.
    calling.abort();
    assert_eq!(events.recv().await, Some("gone"));
    first.stop();
    assert!(server.await.unwrap().unwrap());
    let again = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "Echo", Bytes::from_static(b"again")).await }
    });
    let (connection, second) = (listener.accept().await.unwrap(), Scope::new());
    let server = tokio::spawn(async move { serve(connection, routes, &second).await.is_ok() });
    assert_eq!(again.await.unwrap().unwrap(), "again");
    drop(channel);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_nobody_has_leaves_no_connection() {
    let ((net, mut listener), (tell, _events)) = (pipes(), mpsc::channel(16));
    let channel = net::channel(&net, "server").unwrap();
    let calling = tokio::spawn(async move { call(&channel, "Echo", Bytes::new()).await.is_ok() });
    let (connection, scope) = (listener.accept().await.unwrap(), Scope::new());
    let served = serve(connection, Routes::new(Echo(tell)), &scope);
    let ended = tokio::time::timeout(Duration::from_secs(60), served).await;
    assert!(ended.expect("the client lets go").unwrap().is_none() && calling.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_the_lane_is_spoken_to_by_grpc() {
    let ((net, mut listener), (tell, _events)) = (pipes(), mpsc::channel(16));
    let channel = net::channel(&net, "server").unwrap();
    let (incoming, accepted) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok(connection) = listener.accept().await {
            if incoming.send(Ok::<_, io::Error>(connection)).await.is_err() {
                return;
            }
        }
    });
    let accepted = tokio_stream::wrappers::ReceiverStream::new(accepted);
    let server = tonic::transport::Server::builder().add_routes(Routes::new(Echo(tell)));
    let server = tokio::spawn(server.serve_with_incoming(accepted));
    for message in [Bytes::from_static(b"one"), Bytes::from_static(b"two")] {
        assert_eq!(call(&channel, "Echo", message.clone()).await.unwrap(), message);
    }
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let (net, mut listener) = pipes();
    let channel = net::channel(&net, "server").unwrap();
    let calling = tokio::spawn(async move { call(&channel, "Echo", Bytes::new()).await });
    let mut connection = listener.accept().await.unwrap();
    let mut hello = [0; MAGIC.len()];
    connection.read_exact(&mut hello).await.unwrap();
    connection.write_all(&MAGIC).await.unwrap();
    let begun = Instant::now();
    let status = calling.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!((SILENCE..=SILENCE + PING).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_nonsense_or_nothing_is_cut_off() {
    let (tell, _events) = mpsc::channel(16);
    let routes = Routes::new(Echo(tell));
    let too_long = [&u32::MAX.to_le_bytes()[..], &[0; 9]].concat();
    let no_kind = [&[0; 12][..], &[99]].concat();
    let cut_off = [&1_u32.to_le_bytes()[..], &[0; 8], &[1, 200]].concat();
    for nonsense in [too_long, no_kind, cut_off, Vec::new()] {
        let (mut here, there) = tokio::io::duplex(1 << 16);
        here.write_all(&MAGIC).await.unwrap();
        here.write_all(&nonsense).await.unwrap();
        let served = serve(Connection::new(there, None), routes.clone(), &Scope::new()).await;
        assert!(served.is_err(), "{nonsense:?}");
    }
    let (_here, there) = tokio::io::duplex(64);
    let served = serve(Connection::new(there, None), routes, &Scope::new()).await;
    assert!(served.is_err(), "it said nothing at all");
}

#[test]
fn frames_come_out_as_they_went_in_however_they_are_cut() {
    let frames = || {
        let status = Status::with_details(Code::Aborted, "why", Bytes::from_static(b"more"));
        let (path, message) = (Bytes::from_static(b"/a/b"), Bytes::from_static(b"message"));
        [
            Frame::Call { id: 7, path, message: message.clone() },
            Frame::Answer { id: u64::MAX, message },
            Frame::Failure { id: 9, status },
            Frame::Cancel { id: 1 },
            Frame::Ping,
            Frame::Pong,
        ]
    };
    let mut wire = BytesMut::new();
    for frame in frames() {
        let (head, message) = frame.encode();
        wire.put(head);
        wire.put(message);
    }
    let (mut received, mut seen) = (BytesMut::new(), Vec::new());
    for byte in wire {
        received.put_u8(byte);
        seen.extend(Frame::take(&mut received).unwrap());
    }
    assert_eq!(format!("{seen:?}"), format!("{:?}", frames()));
}

proptest! {
    #[test]
    fn whatever_is_received_is_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
        let mut received = BytesMut::from(&bytes[..]);
        let mut left = received.len();
        while let Ok(Some(_)) = Frame::take(&mut received) {
            prop_assert!(received.len() < left, "a frame is made of bytes");
            left = received.len();
        }
    }
}
