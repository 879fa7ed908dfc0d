//! What the log holds: operations with everything in them that is not deterministic.

use nacre_model::{Fid, OstIndex, Timestamp};
use nacre_proto::v1;

/// One change of the state. Applying the same commands in the same order gives the same state.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// When, by the clock of the server that admitted it.
    pub time: Timestamp,
    /// Whose it is, for exactly-once; `None` for the server's own.
    pub origin: Option<Origin>,
    /// What.
    pub op: Op,
}

/// A client's claim to exactly-once: resending the same one returns the first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session.
    pub session: u64,
    /// The session's slot: one request in flight each.
    pub slot: u32,
    /// Ascending within the slot.
    pub xid: u64,
}

/// The operation and what the server decided for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A client's change, as it came, already validated.
    Change {
        /// Caller's user.
        uid: u32,
        /// Caller's group.
        gid: u32,
        /// The operation.
        op: v1::change_request::Op,
        /// Fid for what it creates, and for whatever else needs a fresh one.
        new_fid: Option<Fid>,
        /// OSTs chosen for components that it instantiates: for component index, in stripe order.
        placement: Vec<(u16, Vec<OstIndex>)>,
        /// Inodes of which the server knows that somebody has them open: losing their last link
        /// makes them orphans instead of freeing them.
        held_open: Vec<Fid>,
        /// Inodes that other clients may be writing, where a `settle` asks: it leaves them lazy.
        /// Where a `setattr` does, those that others may have open at all: whoever has may use the
        /// file's objects without asking, so it keeps them also when it is cut to nothing.
        used_by_others: Vec<Fid>,
    },
    /// A client opens a file with objects for writing: its size becomes lazy.
    MarkLazy {
        /// The file.
        fid: Fid,
    },
    /// A client's session begins, or begins anew after an eviction.
    OpenSession {
        /// Of the mount.
        client_uuid: String,
        /// Raised at every eviction.
        incarnation: u64,
        /// For people.
        hostname: String,
        /// It will hold leases.
        leases: bool,
    },
    /// A session ends: its replies are forgotten.
    CloseSession {
        /// Which.
        session: u64,
    },
    /// Nobody has the orphan open any more: free it.
    ReapOrphan {
        /// Which.
        fid: Fid,
    },
    /// OSTs have done what records asked of them: destroy or truncate records go.
    ForgetWork {
        /// Sequence numbers of the records.
        records: Vec<u64>,
    },
    /// A session gets a fid sequence of its own.
    GrantSequence {
        /// Which.
        session: u64,
    },
    /// The MGS gave us fid sequences.
    AddSequences {
        /// First.
        first: u64,
        /// How many.
        count: u32,
    },
    /// Fids that the last life of the server may have given out, and a loss of power taken back,
    /// are never given out again.
    SkipFids {
        /// How many.
        count: u32,
    },
    /// What people, applications and copytools do about the archive.
    Hsm {
        /// What.
        op: v1::hsm_record_op::Op,
    },
}

/// What applying gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The reply to a client's change.
    pub response: v1::ChangeResponse,
    /// Session made by `OpenSession`.
    pub session: u64,
    /// Sequence given by `GrantSequence`.
    pub sequence: u64,
    /// Records of OST work that this command left: `(sequence number, work)`.
    pub work: Vec<(u64, Work)>,
    /// Inodes whose last name went: they became orphans, or were freed.
    pub unlinked: Vec<Fid>,
    /// Action that was queued, or is already; 0: there is nothing to do.
    pub cookie: u64,
    /// Attributes of the directories whose names a client's change has changed.
    pub directories: Vec<v1::Attr>,
    /// Exports that wait because of it: `(cookie, inode)`.
    pub exports: Vec<(u64, Fid)>,
    /// What became of imported objects, one for each.
    pub imports: Vec<v1::ImportResult>,
}

/// Something the OSTs still have to do because of a committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Destroy objects.
    Destroy {
        /// Which, and where.
        objects: Vec<(nacre_model::ObjectId, OstIndex)>,
        /// The inode lives on: leave tombstones.
        tombstone: bool,
    },
    /// Cut objects at these sizes.
    Truncate {
        /// Which, where, and how long they shall be.
        objects: Vec<(nacre_model::ObjectId, OstIndex, u64)>,
    },
}
