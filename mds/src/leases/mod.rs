//! Leases: what a client may use, or change, without asking (docs/adr/0013).
//!
//! One lease for an inode and session, shared or exclusive. The table here is told what requests
//! need, says who must give what back first, and grants; it has no clock and sends nothing.
//!
//! ```text
//!            grant                        grant, alone
//! (none) ───────────► shared ◄──────────────────────────► exclusive
//!    ▲                  │      give back, keep shared         │
//!    └──────────────────┴─────────────────────────────────────┘
//!          give back, keep nothing; the session ends
//! ```
//!
//! A request goes through these steps, in this order:
//!
//! 1. `begin`: from here on nobody else is granted anything on what it will change;
//! 2. `need`, until nobody stands in the way: holders are recalled, and give back;
//! 3. `grant`: noted *before* the state is read, so that no answer with a lease is older than a
//!    change that did not wait for it;
//! 4. the state is read or changed;
//! 5. `end`.

mod contention;
mod table;
#[cfg(test)]
mod tests;

use nacre_model::Fid;

pub use table::{LEASES_PER_SESSION_MAX, LeaseTable};

/// What a holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Use what it was told.
    Shared,
    /// And change it by itself: nobody else holds anything.
    Exclusive,
}

/// What came with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// How far it goes.
    pub mode: Mode,
    /// Ascends within the session, over all inodes.
    pub number: u64,
}

/// What a request needs of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nobody else has it exclusively.
    Read,
    /// The same, and nobody else is granted anything until the request ends: it registers a
    /// handle.
    Open,
    /// Nobody else has it at all, and nobody is granted anything until the request ends.
    Change,
}

/// An inode that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub fid: Fid,
    /// For what.
    pub need: Need,
}

impl Touch {
    /// It is read.
    pub const fn read(fid: Fid) -> Self {
        Self { fid, need: Need::Read }
    }

    /// It is changed.
    pub const fn change(fid: Fid) -> Self {
        Self { fid, need: Need::Change }
    }
}

/// What a holder is asked to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// The holder.
    pub session: u64,
    /// The inode.
    pub fid: Fid,
    /// What it may keep.
    pub keep: Option<Mode>,
    /// The highest number that the session was ever given: an answer that was overtaken by the
    /// recall brings this one or a lower one.
    pub number: u64,
}

/// Somebody stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wait {
    /// To be sent; what was asked for before is not asked for again.
    pub recalls: Vec<Recall>,
}

/// What other sessions have open of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Others {
    /// One of them may be writing.
    pub write: bool,
    /// One of them has it open at all.
    pub hold: bool,
}
