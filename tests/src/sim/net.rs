//! Turmoil's network and clock behind the product's own traits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use nacre_model::Timestamp;
use nacre_node::Clock;
use nacre_node::net::{Connection, Listener, Net};

/// Where every server listens.
pub(super) const PORT: u16 = 7400;
/// What the simulated wall clock shows at the start, in seconds since 1970.
const EPOCH_SECS: i64 = 1_800_000_000;

/// Time since the start of the simulation, as the running host sees it.
pub(super) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The simulated network; hosts are found by their names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SimNet;

struct SimListener(turmoil::net::TcpListener);

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let stream = turmoil::net::TcpStream::connect(address).await?;
        let peer = stream.peer_addr().ok();
        Ok(Connection::new(stream, peer))
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(SimListener(turmoil::net::TcpListener::bind(address).await?)))
    }
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<Connection> {
        let (stream, peer) = self.0.accept().await?;
        Ok(Connection::new(stream, Some(peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The simulated wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = now();
        let secs = i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX);
        Timestamp { secs: EPOCH_SECS.saturating_add(secs), nanos: elapsed.subsec_nanos() }
    }
}
