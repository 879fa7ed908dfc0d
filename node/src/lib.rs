//! Being a process among peers: network, disk, clock, tasks, configuration, telemetry.
//!
//! Everything that is not deterministic comes in through one of the traits here
//! ([`Net`], [`Disk`], [`Clock`]), so that a whole cluster can run in a simulator.

pub mod clock;
pub mod config;
pub mod disk;
pub mod durable;
pub mod identity;
mod lane;
pub mod memory;
pub mod mgc;
pub mod net;
pub mod peers;
pub mod register;
pub mod tasks;
pub mod telemetry;

pub use clock::{Clock, SystemClock};
pub use disk::{Disk, DiskFile, OsDisk};
pub use identity::{FolderKind, Identity, TargetFolder};
pub use mgc::MapWatch;
pub use net::{Net, TcpNet};
pub use peers::Peers;
pub use register::{Membership, TargetId};
pub use tasks::Scope;
