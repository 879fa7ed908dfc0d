//! Node ids, as the kernel calls inodes.

use nacre_model::Fid;

use super::abi::ROOT_ID;

/// Maps node ids and fids onto each other without a table: a node id is the inode number, but for
/// the root of the mount, which the kernel always calls 1.
///
/// So nothing has to be remembered for the kernel, nothing to be forgotten, and a file handle made
/// by `name_to_handle_at` opens after a restart of the mount too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nodes {
    root: Fid,
}

impl Nodes {
    pub(super) const fn new(root: Fid) -> Self {
        Self { root }
    }

    pub(super) const fn fid(self, node: u64) -> Fid {
        if node == ROOT_ID { self.root } else { Fid::from_ino(node) }
    }

    pub(super) fn id(self, fid: Fid) -> u64 {
        if fid == self.root { ROOT_ID } else { fid.ino() }
    }
}
