//! The service over real sockets: what a client sees, also when it is silent, when it sends again,
//! when the server was restarted, and when OSTs are down.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod batches;
mod changes;
mod fake_oss;
mod harness;
mod holder;
mod leases;
mod objects;
mod sessions;
