//! An S3 server in this process: one bucket in a folder, for a cluster on one machine.
//!
//! The protocol, its signatures included, is the `s3s` crate's; what lies behind it is ours, as
//! the store that comes with that crate has no `ETag`s in listings, shows no directory markers and
//! empties an object that is copied onto itself: with it, neither import nor export can be tried.
//!
//! It does objects, conditions on writes and reads, copies, listings and multipart uploads. It
//! does not do versions, tags, access rules, encryption or events; `checksum` means CRC-32C in a
//! header, and others are not looked at. It survives the death of the process, not the loss of
//! power. Unfinished uploads end with the process.

mod api;
mod blobs;
mod catalogue;
mod listing;
mod store;

use std::io;
use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use nacre_node::Scope;
use s3s::auth::SimpleAuth;
use s3s::service::{S3ServiceBuilder, SharedS3Service};
use tokio::net::TcpListener;

/// What to serve, and to whom.
#[derive(Clone)]
pub struct Served {
    /// Where objects are kept; created if it is not there. Nobody else may use it.
    pub dir: PathBuf,
    /// The one bucket's name.
    pub bucket: String,
    /// The public half of the only credentials.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
}

/// Serves until `scope` stops; then connections are dropped where they are.
///
/// Errors are those of opening the folder: a broken connection ends only itself.
pub async fn serve(listener: TcpListener, served: Served, scope: &Scope) -> io::Result<()> {
    let store = store::Store::open(&served.dir, scope.clone())?;
    let api = api::Api::new(served.bucket, store);
    let mut builder = S3ServiceBuilder::new(api);
    builder.set_auth(SimpleAuth::from_single(served.access_key, served.secret_key));
    let service = builder.build().into_shared();
    loop {
        let accepted = tokio::select! {
            () = scope.stopped() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(TokioIo::new(stream), service.clone());
                scope.spawn("embedded S3 connection", connection);
            }
            // Of the connection that was to come, or of having too many: others may work.
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(stream: TokioIo<tokio::net::TcpStream>, service: SharedS3Service) {
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection(stream, service).await {
        tracing::debug!(%error, "connection of the embedded S3 ended");
    }
}
