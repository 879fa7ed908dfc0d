//! The simulation: a whole cluster and its clients in one process, over a simulated network, on
//! disks that forget what was not synced, and somebody who does harm by a seed.
//!
//! ```text
//! nemesis ──crash, power, links──► mgs  mds  oss0  oss1        each a simulated host
//!    │                                   ▲
//!    └──tells──► faults ◄──excuses?── workers and their models   client0, client1, ...
//! ```
//!
//! An error is excused only by a fault that explains it and was in force at the time. When all
//! faults are healed, everything acknowledged must be there and every operation must end. The
//! same seed gives the same trace; a process runs one seed, for what the standard library and
//! tokio draw at random is drawn from one place, in the binary `nacre-sim`.

mod content;
mod data;
mod end;
mod faults;
mod names;
mod nemesis;
mod net;
mod run;
mod session;
mod shared;
mod trace;
mod tree;
mod worker;
mod world;

pub use run::{Outcome, run};
