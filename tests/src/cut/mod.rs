//! Power cuts under real stores: loads whose whole state is known at every moment, and the oracles
//! that say what a cut may leave of it.
//!
//! The metadata load runs in a process of its own (`nacre-cutter`), as an engine whose disk has
//! failed cannot be taken down in an orderly way. The process is told nothing of cuts: it opens
//! what it finds, compares it with what it must be, and works on until the disk fails.

pub mod load;
pub mod objects;
pub mod plug;
pub mod worker;
