//! All inodes of which something is known.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use nacre_model::{Attr, Fid, FileKind};
use nacre_proto::v1;

use super::node::{Mode, Node};
use super::{Asked, Effect};

/// Most inodes held. The server keeps as many rows for this client.
const NODES_MAX: usize = 1 << 16;
/// Most names of directories known.
const NAMES_MAX: usize = 1 << 18;
/// Inodes that may wait to be looked at; those that are gone among them.
const QUEUE_MAX: usize = 4 * NODES_MAX;
/// Inodes looked at for each one that must go.
const PATIENCE: usize = 64;

/// Inodes by fid.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) session: u64,
    /// Leases with this number or a lower one come too late: a recall has overtaken them.
    floor: u64,
    /// Raised whenever a lease comes or goes.
    pub(super) moment: u64,
    /// Raised by each own change that ends.
    pub(super) clock: u64,
    nodes: HashMap<Fid, Node>,
    /// For finding what has not been used for long.
    queue: VecDeque<Fid>,
    names: usize,
    /// Leases on inodes that are gone, to be returned.
    gone: Vec<Revoked>,
    /// Leases.
    pub(super) held: usize,
}

/// An inode that is not held any more, or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Revoked {
    pub(super) fid: Fid,
    pub(super) before: Mode,
    pub(super) keep: Mode,
    /// Of the lease that was held.
    pub(super) number: u64,
    /// It may be a directory, of which names were answered.
    pub(super) names: bool,
}

impl Table {
    pub(super) fn mode(&self, fid: Fid) -> Mode {
        self.nodes.get(&fid).map_or(Mode::None, |node| node.mode)
    }

    /// Whether a lease on the inode stood at that moment, and stands.
    pub(super) fn stood(&self, fid: Fid, stamp: u64) -> bool {
        let node = self.nodes.get(&fid).filter(|node| node.mode > Mode::None);
        node.is_some_and(|node| node.since <= stamp)
    }

    /// Since when the inode is held.
    pub(super) fn since(&self, fid: Fid) -> Option<u64> {
        let node = self.nodes.get(&fid).filter(|node| node.mode > Mode::None)?;
        Some(node.since)
    }

    /// Leases are about to go.
    pub(super) fn begin_revocation(&mut self) {
        self.moment = self.moment.wrapping_add(1);
    }

    /// An inode that is held.
    pub(super) fn used(&mut self, fid: Fid) -> Option<&mut Node> {
        let node = self.nodes.get_mut(&fid).filter(|node| node.mode > Mode::None)?;
        node.used = true;
        Some(node)
    }

    fn entry(&mut self, fid: Fid) -> &mut Node {
        if self.queue.len() > QUEUE_MAX {
            self.queue.retain(|fid| self.nodes.contains_key(fid));
        }
        self.nodes.entry(fid).or_insert_with(|| {
            self.queue.push_back(fid);
            Node::default()
        })
    }

    /// The question that is asked at this moment.
    pub(super) fn now(&self) -> Asked {
        Asked { session: self.session, clock: self.clock, moment: self.moment }
    }

    /// Whether the inode was held when the question was asked, and all the time since.
    pub(super) fn stands(&self, asked: Asked, fid: Fid) -> bool {
        let node = self.nodes.get(&fid).filter(|node| node.mode > Mode::None);
        asked.session == self.session && node.is_some_and(|node| node.since <= asked.moment)
    }

    /// Takes in a lease, if it still is one. The inode, if what came with the reply may be kept.
    pub(super) fn granted(
        &mut self,
        asked: Asked,
        fid: Fid,
        lease: Option<v1::Lease>,
    ) -> Option<&mut Node> {
        if !self.takes(asked, fid, lease) {
            return None;
        }
        let node = self.nodes.get_mut(&fid)?;
        let quiet = node.changing == 0 && node.changed <= asked.clock;
        (quiet && node.mode > Mode::None).then_some(node)
    }

    /// Takes in a lease, if it still is one. Whether the reply is not older than the lease that
    /// stands: a reply without one may be older than what others did before it was given.
    pub(super) fn takes(&mut self, asked: Asked, fid: Fid, lease: Option<v1::Lease>) -> bool {
        if asked.session != self.session {
            return false;
        }
        let floor = self.floor;
        let lease = lease
            .map(|lease| (Mode::from(lease.mode()), lease.number))
            .filter(|(mode, number)| *mode > Mode::None && *number > floor);
        let fresh = lease.is_some() || self.stands(asked, fid);
        if !fresh {
            return false;
        }
        let node = self.entry(fid);
        let before = node.mode;
        if let Some((mode, number)) = lease
            && number > node.number
        {
            (node.mode, node.number) = (mode, number);
        }
        if before == Mode::None && node.mode > Mode::None {
            self.held = self.held.saturating_add(1);
            self.moment = self.moment.wrapping_add(1);
        }
        let since = self.moment;
        let node = self.entry(fid);
        if before == Mode::None {
            node.since = since;
        }
        node.used = true;
        true
    }

    /// A lease that is held already, of which nothing is known.
    pub(super) fn inherit(&mut self, fid: Fid, mode: Mode, number: u64) {
        if mode == Mode::None {
            return;
        }
        let since = self.moment;
        let node = self.entry(fid);
        (node.mode, node.number, node.since) = (mode, number, since);
        self.held = self.held.saturating_add(1);
    }

    pub(super) fn learn_name(
        &mut self,
        asked: Asked,
        dir: Fid,
        lease: Option<v1::Lease>,
        name: Bytes,
        to: Option<Fid>,
    ) {
        if let Some(node) = self.granted(asked, dir, lease)
            && node.names.insert(name, to).is_none()
        {
            self.names = self.names.saturating_add(1);
        }
    }

    pub(super) fn begin_change(&mut self, fid: Fid) {
        let node = self.entry(fid);
        node.changing = node.changing.saturating_add(1);
    }

    /// `effects`: what is known of it now; `None`: nothing.
    pub(super) fn end_change(&mut self, begun: Asked, fid: Fid, effects: Option<Vec<&Effect<'_>>>) {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let Some(node) = self.nodes.get_mut(&fid) else { return };
        node.changing = node.changing.saturating_sub(1);
        // Which of two changes at a time the server made first is not known.
        let alone = node.changing == 0 && node.changed <= begun.clock;
        node.changed = clock;
        node.attr = None;
        // A mode may change an ACL, and the other way round.
        node.xattrs.clear();
        let mut names = 0_usize;
        let Some(effects) = effects else {
            let forgotten = node.forget();
            self.names = self.names.saturating_sub(forgotten);
            return;
        };
        if node.mode > Mode::None {
            for effect in effects {
                match effect {
                    Effect::Attr(attr) => node.attr = alone.then(|| (*attr).clone()),
                    Effect::Touched => node.attr = None,
                    Effect::Name(name, to) => {
                        names += usize::from(node.names.insert(name.clone(), *to).is_none());
                    }
                }
            }
        }
        self.names = self.names.saturating_add(names);
    }

    /// A recall: the lease goes, or becomes a shared one. Later leases have higher numbers. What is
    /// held may be less than the server gave, for replies can be slower than the recall: then it
    /// learns that.
    pub(super) fn recalled(&mut self, fid: Fid, keep: Mode, number: u64) -> Revoked {
        self.floor = self.floor.max(number);
        let held = self.mode(fid);
        let kept = Revoked { fid, before: held, keep: held, number, names: false };
        let revoked = self.lower(fid, keep).unwrap_or(kept);
        Revoked { number, ..revoked }
    }

    /// Lowers a lease by this client's own wish.
    pub(super) fn lower(&mut self, fid: Fid, keep: Mode) -> Option<Revoked> {
        let node = self.nodes.get_mut(&fid)?;
        let before = node.mode;
        if before <= keep {
            return None;
        }
        node.mode = keep;
        let directory = |attr: &Attr| attr.kind == FileKind::Directory;
        let names = keep == Mode::None && node.attr.as_ref().is_none_or(directory);
        let revoked = Revoked { fid, before, keep, number: node.number, names };
        if keep == Mode::None {
            self.held = self.held.saturating_sub(1);
            self.names = self.names.saturating_sub(node.forget());
            if node.changing == 0 {
                self.nodes.remove(&fid);
            }
        }
        Some(revoked)
    }

    /// An inode has ceased to be: its lease is returned when there is nothing better to do.
    pub(super) fn gone(&mut self, fid: Fid) {
        let revoked = self.lower(fid, Mode::None);
        self.gone.extend(revoked);
    }

    /// Leases on what is gone, once there are so many, or any.
    pub(super) fn take_gone(&mut self, least: usize) -> Vec<Revoked> {
        if self.gone.len() < least { Vec::new() } else { std::mem::take(&mut self.gone) }
    }

    /// A new session begins: nothing is held. Returns what was.
    pub(super) fn begin(&mut self, session: u64) -> Vec<Fid> {
        if self.session == session {
            return Vec::new();
        }
        self.session = session;
        self.floor = 0;
        self.gone.clear();
        let held: Vec<Fid> = self.held_fids().map(|(fid, _)| fid).collect();
        for node in self.nodes.values_mut() {
            node.mode = Mode::None;
            node.number = 0;
            node.forget();
        }
        self.nodes.retain(|_, node| node.changing > 0);
        self.queue.retain(|fid| self.nodes.contains_key(fid));
        (self.names, self.held) = (0, 0);
        held
    }

    /// Everything that is held, to be claimed or invalidated.
    pub(super) fn held_fids(&self) -> impl Iterator<Item = (Fid, Mode)> {
        let held = self.nodes.iter().filter(|(_, node)| node.mode > Mode::None);
        held.map(|(fid, node)| (*fid, node.mode))
    }

    /// Inodes that must go so that the limits hold, least recently used first (about).
    pub(super) fn excess(&mut self) -> Vec<Fid> {
        let mut out = Vec::new();
        let over_names = self.names > NAMES_MAX;
        let over = self.nodes.len().saturating_sub(NODES_MAX);
        if over == 0 && !over_names {
            return out;
        }
        let wanted = over.max(NODES_MAX / 64);
        for _ in 0..wanted.saturating_mul(PATIENCE).min(self.queue.len()) {
            let Some(fid) = self.queue.pop_front() else { break };
            let Some(node) = self.nodes.get_mut(&fid) else { continue };
            self.queue.push_back(fid);
            if node.changing > 0 || std::mem::take(&mut node.used) {
                continue;
            }
            out.push(fid);
            if out.len() >= wanted {
                break;
            }
        }
        out
    }
}
