//! The cluster map: one versioned value that the MGS owns and pushes to everybody.

use std::collections::BTreeMap;
use std::fmt;

use crate::LayoutTemplate;

/// Index of an MDT in its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MdtIndex(pub u16);

/// Index of an OST in its file system. Prints as `OST0003`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OstIndex(pub u16);

impl fmt::Display for MdtIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MDT{:04x}", self.0)
    }
}

impl fmt::Display for OstIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OST{:04x}", self.0)
    }
}

/// What a target stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// Metadata.
    Mdt,
    /// Objects.
    Ost,
}

/// Whether a target serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetState {
    /// Its server is heard of.
    Up,
    /// Its server has been silent for longer than the MGS waits, or said that it stops.
    Down,
}

/// What a cluster does when a server dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deployment {
    /// Unreplicated: a dead server's data gives EIO at once.
    Scratch,
    /// Replicated: applications see a pause, never an error.
    Persistent,
}

/// One target as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// MDT or OST.
    pub kind: TargetKind,
    /// Index within the file system and kind.
    pub index: u16,
    /// Identity of the folder, made by `nacre format`; another folder may not take its place.
    pub uuid: String,
    /// Serves or not.
    pub state: TargetState,
    /// Where its server listens, `host:port`, most preferred first.
    pub addresses: Vec<String>,
    /// Raised by every change of who serves it; a target refuses requests with a lower one.
    pub epoch: u64,
    /// Administratively closed for new objects.
    pub no_create: bool,
}

/// The versioned map of one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMap {
    /// Raised by every change.
    pub version: u64,
    /// Name of the file system, 1 to 8 of `[A-Za-z0-9_-]`.
    pub fsname: String,
    /// What happens when a server dies.
    pub deployment: Deployment,
    /// By kind and index.
    pub targets: BTreeMap<(TargetKind, u16), Target>,
    /// Pool name to members, ascending.
    pub pools: BTreeMap<String, Vec<OstIndex>>,
    /// Layout of files in directories without a default of their own; `None` means the built-in.
    pub default_layout: Option<LayoutTemplate>,
}

impl ClusterMap {
    /// Longest name of a file system, in bytes.
    pub const FSNAME_BYTES_MAX: usize = 8;
    /// Longest pool name, in bytes. Lustre: `LOV_MAXPOOLNAME`.
    pub const POOL_BYTES_MAX: usize = 15;

    /// The OST, if it exists.
    pub fn ost(&self, index: OstIndex) -> Option<&Target> {
        self.targets.get(&(TargetKind::Ost, index.0))
    }

    /// The MDT, if it exists.
    pub fn mdt(&self, index: MdtIndex) -> Option<&Target> {
        self.targets.get(&(TargetKind::Mdt, index.0))
    }

    /// All OSTs, ascending.
    pub fn osts(&self) -> impl Iterator<Item = (OstIndex, &Target)> {
        self.targets
            .iter()
            .filter(|((kind, _), _)| *kind == TargetKind::Ost)
            .map(|((_, index), target)| (OstIndex(*index), target))
    }

    /// Whether `name` may name a file system.
    pub fn valid_fsname(name: &str) -> bool {
        (1..=Self::FSNAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(word_byte)
    }

    /// Whether `name` may name a pool.
    pub fn valid_pool(name: &str) -> bool {
        (1..=Self::POOL_BYTES_MAX).contains(&name.len()) && name.bytes().all(word_byte)
    }
}

fn word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
