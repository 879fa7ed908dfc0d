//! The metadata server: namespace, sessions, locks, and the log and store under them.
//!
//! ```text
//! request ─► service ─► Command ─► engine: apply to an overlay ─► log ─► store ─► reply
//! ```

pub mod command;
mod coordinator;
mod cuts;
pub mod engine;
pub mod error;
mod fault;
mod fences;
mod finish;
pub mod format;
pub mod leases;
pub mod locks;
pub mod log;
mod machine;
mod metrics;
pub mod namespace;
pub mod offline;
pub mod opens;
mod osts;
pub mod placement;
mod promotions;
mod recalls;
pub mod record;
mod sequences;
pub mod server;
mod service;
pub mod session;
mod shared;
pub mod snapshot;
pub mod store;
mod sweeps;
mod worker;

pub use error::MdsError;
pub use machine::Machine;
pub use server::{MdsConfig, run};
