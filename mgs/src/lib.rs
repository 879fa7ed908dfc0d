//! The management server: which servers there are, what they serve, and the one versioned map of
//! it that everybody follows. It holds configuration only; with it down, mounted clients go on.
//!
//! ```text
//! request ─► service ─► registry (pure: state + request = next state) ─► store ─► watch ─► everybody
//! ```

pub mod error;
pub mod registry;
pub mod server;
pub mod service;
pub mod state;
pub mod store;

pub use error::MgsError;
pub use server::{Config, run};
