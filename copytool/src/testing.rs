//! A server of S3 in this process, for tests within modules.

use std::path::Path;

use nacre_node::Scope;
use tokio::net::TcpListener;

use crate::embedded::{Served, serve};
use crate::{Bucket, Endpoint, Patience};

/// A bucket of a server over that folder, until the scope stops.
pub(crate) async fn bucket(scope: &Scope, dir: &Path) -> Bucket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint {
        url: format!("http://{}", listener.local_addr().unwrap()),
        region: "us-east-1".into(),
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    let served = Served {
        dir: dir.to_owned(),
        bucket: "data".into(),
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    let inner = scope.clone();
    scope.spawn("server", async move { serve(listener, served, &inner).await.unwrap() });
    Bucket::new(&endpoint, "s3://data".parse().unwrap(), Patience::default())
}
