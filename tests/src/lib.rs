//! The harness: real daemons on this machine, faults, and checks that everything is well after.

pub mod binary;
pub mod cluster;
pub mod cut;
pub mod cutfs;
pub mod daemon;
pub mod inside;
pub mod local_net;
pub mod logs;
pub mod oracle;
pub mod sim;
pub mod up;
pub mod wait;

pub use cluster::{Cluster, Shape};
pub use daemon::Role;
