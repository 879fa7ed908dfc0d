//! The metadata server: namespace, sessions, locks, and the log and store under them.
//!
//! ```text
//! request ─► service ─► Command ─► engine: apply to an overlay ─► log ─► store ─► reply
//! ```

pub mod command;
pub mod engine;
mod fault;
pub mod locks;
pub mod log;
pub mod namespace;
pub mod opens;
pub mod placement;
pub mod record;
pub mod session;
pub mod snapshot;
pub mod store;
