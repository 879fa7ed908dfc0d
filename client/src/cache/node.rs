//! What is known of one inode.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use nacre_model::{Attr, Fid};
use nacre_proto::v1;

/// Extended attributes kept of one inode.
const XATTRS_MAX: usize = 16;
/// Values longer than this are asked for each time, in bytes.
const XATTR_BYTES_MAX: usize = 4096;

/// How an inode is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Mode {
    #[default]
    None,
    Shared,
    Exclusive,
}

impl From<v1::LeaseMode> for Mode {
    fn from(wire: v1::LeaseMode) -> Self {
        match wire {
            v1::LeaseMode::Unspecified => Self::None,
            v1::LeaseMode::Shared => Self::Shared,
            v1::LeaseMode::Exclusive => Self::Exclusive,
        }
    }
}

impl From<Mode> for v1::LeaseMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::None => Self::Unspecified,
            Mode::Shared => Self::Shared,
            Mode::Exclusive => Self::Exclusive,
        }
    }
}

/// One inode.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) mode: Mode,
    /// Of the newest lease taken in.
    pub(super) number: u64,
    /// The moment from which it is held.
    pub(super) since: u64,
    pub(super) attr: Option<Attr>,
    /// Of a directory: where names lead, if they are there.
    pub(super) names: HashMap<Bytes, Option<Fid>>,
    /// Names that are not in `names` do not exist.
    pub(super) complete: bool,
    /// Of a symbolic link.
    pub(super) target: Option<Bytes>,
    pub(super) xattrs: BTreeMap<Bytes, Option<Bytes>>,
    /// Own changes under way.
    pub(super) changing: u32,
    /// The clock when the last one ended.
    pub(super) changed: u64,
    /// Since it was last considered for removal.
    pub(super) used: bool,
}

impl Node {
    /// Forgets everything but that changes are under way. Returns how many names that were.
    pub(super) fn forget(&mut self) -> usize {
        self.attr = None;
        self.target = None;
        self.complete = false;
        self.xattrs.clear();
        let names = self.names.len();
        self.names = HashMap::new();
        names
    }

    pub(super) fn learn_xattr(&mut self, name: Bytes, value: Option<Bytes>) {
        let long = value.as_ref().is_some_and(|value| value.len() > XATTR_BYTES_MAX);
        if !long && (self.xattrs.len() < XATTRS_MAX || self.xattrs.contains_key(&name)) {
            self.xattrs.insert(name, value);
        }
    }
}
