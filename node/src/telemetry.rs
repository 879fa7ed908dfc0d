//! Logs on standard error, and metrics, health and readiness over HTTP.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::config::TelemetrySettings;
use crate::tasks::Scope;

/// Why a process has no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log` is not a filter.
    #[error("setting telemetry.log: `{filter}`")]
    Filter {
        /// What it says.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is a subscriber or a recorder already.
    #[error("telemetry was started before")]
    Twice,
    /// `telemetry.http` cannot be listened on.
    #[error("setting telemetry.http: listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Starts logging. Once in a process.
pub fn start_log(settings: &TelemetrySettings) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|source| TelemetryError::Filter { filter: settings.log.clone(), source })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init()
        .map_err(|_| TelemetryError::Twice)
}

/// Bounds of the buckets of every histogram of seconds: 50 µs to 13 s, each double the last.
fn second_buckets() -> Vec<f64> {
    (0..19).map(|power| 50e-6 * f64::from(1 << power)).collect()
}

/// Collects metrics and serves them, if `telemetry.http` says where.
pub async fn start_metrics(
    settings: &TelemetrySettings,
    scope: &Scope,
) -> Result<(), TelemetryError> {
    if settings.http.is_empty() {
        return Ok(());
    }
    let buckets = second_buckets();
    let builder =
        PrometheusBuilder::new().set_buckets(&buckets).map_err(|_| TelemetryError::Twice)?;
    let handle = builder.install_recorder().map_err(|_| TelemetryError::Twice)?;
    let address = settings.http.clone();
    let listen_error = |source| TelemetryError::Listen { address: address.clone(), source };
    let listener = tokio::net::TcpListener::bind(&address).await.map_err(listen_error)?;
    if let Ok(local) = listener.local_addr() {
        tracing::info!(address = %local, "serving metrics");
    }
    let upkeep = handle.clone();
    scope.spawn("metrics-upkeep", async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    scope.spawn("metrics-http", async move {
        if let Err(error) = axum::serve(listener, router(handle)).await {
            tracing::error!(%error, "serving metrics");
        }
    });
    Ok(())
}

fn router(handle: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(async move || handle.render()))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
}

async fn readyz() -> (StatusCode, &'static str) {
    if *readiness().borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

fn ready_sender() -> &'static watch::Sender<bool> {
    static READY: OnceLock<watch::Sender<bool>> = OnceLock::new();
    READY.get_or_init(|| watch::channel(false).0)
}

/// Says whether this process serves: a server when it listens and is in the map, a mount when it
/// is mounted.
pub fn set_ready(ready: bool) {
    ready_sender().send_replace(ready);
}

/// Follows what [`set_ready`] says of this process.
pub fn readiness() -> watch::Receiver<bool> {
    ready_sender().subscribe()
}
