//! A proxy between the client and the server that spoils what it is told to spoil.

use std::io;
use std::sync::Arc;

use nacre_copytool::Endpoint;
use nacre_node::Scope;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of one request.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// It is answered as the server does.
    Pass,
    /// It does not reach the server; the answer has this status and this code.
    Refuse(u16, &'static str),
    /// The server's answer is changed: head and body, as they are on the wire.
    Edit(fn(&str, &[u8]) -> Vec<u8>),
    /// The server does it, and the answer is lost.
    Lose,
    /// Nothing ever comes back.
    Hang,
}

/// One request: `METHOD /path?query`.
pub(crate) type Plan = dyn Fn(&str, usize) -> Act + Send + Sync;

/// A server that misbehaves.
pub(crate) struct Proxy {
    pub(crate) endpoint: Endpoint,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `plan` is told each request, and how many like it, by its method, came before.
    pub(crate) async fn start(
        server: &Endpoint,
        scope: &Scope,
        plan: impl Fn(&str, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let upstream = server.url.trim_start_matches("http://").to_owned();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self { endpoint: Endpoint { url, ..server.clone() }, seen: Arc::clone(&seen) };
        let plan: Arc<Plan> = Arc::new(plan);
        let inner = scope.clone();
        scope.spawn("proxy", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let one = one(stream, upstream.clone(), Arc::clone(&plan), Arc::clone(&seen));
                // An end of a connection that nobody expected shows in the client.
                inner.spawn("proxied", async move { one.await.unwrap_or_default() });
            }
        });
        proxy
    }

    /// How many requests of that method, and with that in their target, have come.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen.lock();
        seen.iter().filter(|request| request.starts_with(method) && request.contains(part)).count()
    }
}

/// Takes one request and closes.
async fn one(
    mut client: TcpStream,
    upstream: String,
    plan: Arc<Plan>,
    seen: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let (head, body) = read_request(&mut client).await?;
    let request = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let method = request.split(' ').next().unwrap_or_default().to_owned();
    let before = {
        let mut seen = seen.lock();
        let before = seen.iter().filter(|other| other.starts_with(&method)).count();
        seen.push(request.clone());
        before
    };
    match plan(&request, before) {
        Act::Pass => {
            let answer = ask(&upstream, &head, &body).await?;
            client.write_all(&answer).await?;
        }
        Act::Refuse(status, code) => client.write_all(refusal(status, code).as_bytes()).await?,
        Act::Edit(edit) => {
            let answer = ask(&upstream, &head, &body).await?;
            let end = head_bytes(&answer).unwrap_or_default();
            let (head, body) = answer.split_at(end);
            let edited = edit(&String::from_utf8_lossy(head), body);
            client.write_all(&edited).await?;
        }
        Act::Lose => drop(ask(&upstream, &head, &body).await?),
        Act::Hang => std::future::pending().await,
    }
    client.shutdown().await
}

fn refusal(status: u16, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// Asks the server on a connection of its own, and reads all of the answer.
async fn ask(upstream: &str, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream).await?;
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await?;
    server.write_all(body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

async fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = head_bytes(&read) {
            break end;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = read.split_off(end);
    let head = String::from_utf8_lossy(&read).into_owned();
    let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}

/// Where a message's head ends.
fn head_bytes(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}
