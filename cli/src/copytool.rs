//! `nacre copytool`, and the S3 server of `nacre up --s3 embedded`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use nacre_client::{Client, ClientConfig};
use nacre_copytool::agent::{self, AgentConfig};
use nacre_copytool::embedded::{self, Served};
use nacre_copytool::{Endpoint, Patience};
use nacre_node::{Scope, SystemClock, TcpNet, telemetry};

use crate::args::{ChildArgs, ConfigArgs};
use crate::mount::source::Source;
use crate::process;

/// Restores at a time, and other actions.
const RESTORES: u32 = 16;
const OTHERS: u32 = 16;
/// Pieces of one file at a time.
const PIECES: usize = 4;

/// Where S3 is, in the words of the AWS tools.
#[derive(Debug, Clone, Args)]
pub(crate) struct EndpointArgs {
    /// URL of the S3 endpoint [default: Amazon's of the region].
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    pub(crate) endpoint: Option<String>,
    /// Region that requests are signed for.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub(crate) region: String,
    /// Access key.
    #[arg(long, value_name = "KEY", env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
    pub(crate) access_key: Option<String>,
    /// Secret key; better left to the environment, where others do not see it.
    #[arg(long, value_name = "KEY", env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub(crate) secret_key: Option<String>,
}

impl EndpointArgs {
    pub(crate) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let missing =
            |name: &str, flag: &str| format!("no credentials: set {name}, or give {flag}");
        let amazon = || format!("https://s3.{}.amazonaws.com", self.region);
        Ok(Endpoint {
            url: self.endpoint.clone().unwrap_or_else(amazon),
            region: self.region.clone(),
            access_key: (self.access_key.clone())
                .with_context(|| missing("AWS_ACCESS_KEY_ID", "--access-key"))?,
            secret_key: (self.secret_key.clone())
                .with_context(|| missing("AWS_SECRET_ACCESS_KEY", "--secret-key"))?,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct CopytoolArgs {
    /// Addresses of the MGS, and the file system.
    #[arg(value_name = "HOST:PORT[,…]:/FSNAME")]
    source: String,
    /// A folder for what must be remembered over a crash.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Most bytes of files held in memory.
    #[arg(long, value_name = "BYTES", default_value = "256M")]
    memory: nacre_node::config::Size,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    child: ChildArgs,
}

/// Moves files between the file system and its repositories until a signal comes.
pub(crate) fn main(args: CopytoolArgs) -> anyhow::Result<ExitCode> {
    let source: Source = args.source.parse()?;
    let settings = process::settings(&args.config)?;
    let memory_bytes = u32::try_from(args.memory.0).context("--memory is below 4 GiB")?;
    let agent = AgentConfig {
        endpoint: args.endpoint.endpoint()?,
        patience: Patience::default(),
        state: args.state,
        memory_bytes,
        restores: RESTORES,
        others: OTHERS,
        pieces: PIECES,
    };
    process::run(&settings, args.child, move |stop| async move {
        // Outlives the work: the last files are closed after it.
        let scope = Scope::new();
        let (net, clock) = (Arc::new(TcpNet), Arc::new(SystemClock));
        let config = ClientConfig::new(net, clock, scope.clone(), source.mgs, &source.fsname);
        let client = tokio::select! {
            client = Client::connect(config) => client?,
            () = stop.stopped() => return Ok(()),
        };
        tracing::info!(endpoint = agent.endpoint.url, "copytool ready");
        telemetry::set_ready(true);
        agent::run(client.clone(), agent, &stop).await;
        let left = client.disconnect().await;
        scope.join().await;
        Ok(left?)
    })
}

/// Arguments of the S3 server that `nacre up --s3 embedded` starts.
#[derive(Debug, Args)]
pub(crate) struct EmbeddedArgs {
    /// Where objects are kept.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// The one bucket.
    #[arg(long)]
    bucket: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
    access_key: String,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    child: ChildArgs,
}

/// Serves one bucket until a signal comes.
pub(crate) fn embedded(args: EmbeddedArgs) -> anyhow::Result<ExitCode> {
    let settings = process::settings(&args.config)?;
    let EmbeddedArgs { dir, listen, bucket, access_key, secret_key, child, .. } = args;
    process::run(&settings, child, move |scope| async move {
        let listener = tokio::net::TcpListener::bind(&listen).await;
        let listener = listener.with_context(|| format!("listen on {listen}"))?;
        tracing::info!(address = listen, bucket, "s3 ready");
        telemetry::set_ready(true);
        let served = Served { dir, bucket, access_key, secret_key };
        Ok(embedded::serve(listener, served, &scope).await?)
    })
}
