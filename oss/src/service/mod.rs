//! The service `Oss`: requests checked, carried out on the disk threads, measured.

mod convert;
mod ost;
mod rpc;

pub use ost::{Ost, Osts};
pub use rpc::Service;
