//! The object storage server: objects on OSTs. Knows nothing of names.

/// A fail point at a disk call: returns the error it was told to give, EIO without.
macro_rules! point {
    ($name:literal) => {
        fail::fail_point!($name, |what| Err($crate::object::files::injected(what)));
    };
}

pub mod check;
pub mod error;
mod fences;
mod metrics;
pub mod object;
pub mod server;
pub mod service;
mod upkeep;

pub use error::OssError;
pub use object::{ObjectInfo, ObjectStore, StoreOptions};
pub use server::{OssConfig, OstFolder, Server, run};
