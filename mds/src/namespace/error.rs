//! What can be wrong with a change or a read.

use nacre_model::{Effect, Errno, Fid, Retry, ServiceError};
use nacre_proto::convert::BadMessage;

use crate::record::BadRecord;
use crate::store::StoreError;

/// Why the namespace refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NsError {
    /// The inode was freed, or never was.
    #[error("inode {0} does not exist")]
    Gone(Fid),
    /// The directory was removed, or never was.
    #[error("directory {0} does not exist")]
    NoDirectory(Fid),
    /// No such name.
    #[error("directory {parent} has no entry `{name}`")]
    NoEntry {
        /// Where.
        parent: Fid,
        /// What, escaped.
        name: String,
    },
    /// The inode has no name, and only `O_TMPFILE` makes one that `link` may name.
    #[error("inode {0} lost its last name")]
    Unlinked(Fid),
    /// The name is taken.
    #[error("directory {parent} has an entry `{name}` already")]
    Exists {
        /// Where.
        parent: Fid,
        /// What, escaped.
        name: String,
    },
    /// Needs a directory.
    #[error("inode {0} is not a directory")]
    NotDirectory(Fid),
    /// Must not be a directory.
    #[error("inode {0} is a directory")]
    IsDirectory(Fid),
    /// Hard links to directories do not exist.
    #[error("inode {0} is a directory, which has one name only")]
    LinkDirectory(Fid),
    /// The directory has entries.
    #[error("directory {0} is not empty")]
    NotEmpty(Fid),
    /// No more names for this inode.
    #[error("inode {fid} has {nlink} links, the most there may be")]
    TooManyLinks {
        /// Which.
        fid: Fid,
        /// How many.
        nlink: u32,
    },
    /// A directory would become its own descendant.
    #[error("directory {0} cannot move into itself")]
    IntoItself(Fid),
    /// A field of the request.
    #[error("bad request")]
    Message(#[from] BadMessage),
    /// The request contradicts itself or the inode.
    #[error("{0}")]
    Invalid(&'static str),
    /// A symbolic link's target.
    #[error("symbolic link target has {0} bytes, more than 4095")]
    TargetTooLong(usize),
    /// No such extended attribute.
    #[error("inode {fid} has no attribute `{name}`")]
    NoXattr {
        /// Which.
        fid: Fid,
        /// Which attribute, escaped.
        name: String,
    },
    /// `XATTR_CREATE` of one that exists.
    #[error("inode {fid} has an attribute `{name}` already")]
    XattrExists {
        /// Which.
        fid: Fid,
        /// Which attribute, escaped.
        name: String,
    },
    /// The name is empty or longer than 255 bytes.
    #[error("attribute name has {0} bytes, not 1 to 255")]
    XattrName(usize),
    /// Neither user, trusted, security nor a POSIX ACL, or an ACL of a symbolic link.
    #[error("attribute `{0}` is not supported here")]
    XattrUnsupported(String),
    /// `user.` attributes belong to files and directories.
    #[error("inode {0} is neither file nor directory: no user attributes")]
    XattrUser(Fid),
    /// The value is too long.
    #[error("attribute value has {0} bytes, more than 65536")]
    XattrTooBig(usize),
    /// All attributes of one inode are bounded.
    #[error("inode {0} has no room for another attribute")]
    XattrSpace(Fid),
    /// Only directories have default ACLs.
    #[error("inode {0} is not a directory: no default ACL")]
    DefaultAcl(Fid),
    /// The bytes are only in the archive: they must be restored first.
    #[error("inode {0} is released")]
    Released(Fid),
    /// The archive has lost the bytes.
    #[error("the archive has lost the bytes of inode {0}")]
    Lost(Fid),
    /// The file's state does not permit what the archive is asked to do with it.
    #[error("inode {fid}: {why}")]
    Hsm {
        /// Which.
        fid: Fid,
        /// In what way.
        why: &'static str,
    },
    /// Another action is under way.
    #[error("another HSM action on inode {0} is under way")]
    HsmBusy(Fid),
    /// The action was canceled, or has ended.
    #[error("HSM action {0} is not in the queue any more")]
    NoAction(u64),
    /// A data repository is linked to it, or to a folder in it.
    #[error("directory {0} is, or holds, the folder of a data repository")]
    LinkedFolder(Fid),
    /// A data repository cannot be linked there, or unlinked.
    #[error("{0}")]
    Repository(&'static str),
    /// Beyond what the layout or `off_t` can address.
    #[error("inode {fid} cannot reach offset {offset}")]
    TooFar {
        /// Which.
        fid: Fid,
        /// Where to.
        offset: u64,
    },
    /// More bytes than live in an inode.
    #[error("{end} bytes do not fit inode {fid}: write objects")]
    InlineFull {
        /// Which.
        fid: Fid,
        /// Where the write would have ended.
        end: u64,
    },
    /// The file has objects now.
    #[error("inode {0} is not inline any more")]
    NotInline(Fid),
    /// The file has bytes, which `promote` must move first.
    #[error("inode {0} has inline bytes")]
    HasInlineBytes(Fid),
    /// A layout can be set while there is nothing in the file.
    #[error("inode {0} has data: its layout is fixed")]
    HasData(Fid),
    /// Somebody changed the file since promotion began.
    #[error("promotion of inode {0} was overtaken")]
    PromoteLost(Fid),
    /// The server decided on OSTs for a layout that has changed since: decide again.
    #[error("inode {fid} lacks a placement of component {component}")]
    NoPlacement {
        /// Which.
        fid: Fid,
        /// Of which component.
        component: u16,
    },
    /// The layout does not fit a record.
    #[error("record of inode {fid} would have {bytes} bytes")]
    RecordTooBig {
        /// Which.
        fid: Fid,
        /// How long.
        bytes: usize,
    },
    /// The session ended, or the client was evicted.
    #[error("session {0} does not exist")]
    NoSession(u64),
    /// A later request of that slot was answered already.
    #[error("request {xid} in slot {slot} is older than {kept}")]
    OldRequest {
        /// Slot.
        slot: u32,
        /// What was sent.
        xid: u64,
        /// Whose reply is kept.
        kept: u64,
    },
    /// A slot number out of range.
    #[error("slot {0} does not exist")]
    NoSlot(u32),
    /// The mount has a session of a later incarnation.
    #[error("incarnation {got} is older than {current}")]
    OldIncarnation {
        /// Sent.
        got: u64,
        /// Known.
        current: u64,
    },
    /// The sequences of the MGS are used up.
    #[error("no fids are left")]
    NoFids,
    /// The fid for the new inode was given out before.
    #[error("fid {0} was used before")]
    FidUsed(Fid),
    /// A client gives fids of its own sequences only.
    #[error("fid {0} is not of a sequence of this session")]
    FidNotGranted(Fid),
    /// The client has told what the name leads to, and it leads elsewhere.
    #[error("a name leads to {found:?}, not to {told:?}")]
    Elsewhere {
        /// What it leads to.
        found: Option<Fid>,
        /// What the client believes.
        told: Option<Fid>,
    },
    /// The disk of the MDT is nearly full.
    #[error("the metadata target is nearly full")]
    NoRoom,
    /// Eight names of a directory have the same hash: one in 10^18 pairs.
    #[error("directory {0} has no cookie left for this name")]
    NoCookie(Fid),
    /// A number that counts up for ever arrived at its end.
    #[error("{0} is used up")]
    UsedUp(&'static str),
    /// A record that must be there is not.
    #[error("metadata is inconsistent: {what} of {fid}")]
    Inconsistent {
        /// Of which inode.
        fid: Fid,
        /// What.
        what: &'static str,
    },
    /// The file system was never formatted.
    #[error("no superblock: the target is not formatted")]
    NotFormatted,
    /// A record is not what it should be.
    #[error("metadata is damaged")]
    Damaged(#[from] BadRecord),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NsError {
    /// A name for a message.
    pub(super) fn show(name: &[u8]) -> String {
        name.escape_ascii().to_string()
    }
}

impl ServiceError for NsError {
    fn errno(&self) -> Errno {
        match self {
            Self::Gone(_)
            | Self::NotInline(_)
            | Self::PromoteLost(_)
            | Self::Released(_)
            | Self::NoSession(_)
            | Self::OldRequest { .. }
            | Self::Elsewhere { .. }
            | Self::OldIncarnation { .. } => Errno::ESTALE,
            Self::NoDirectory(_) | Self::NoEntry { .. } | Self::Unlinked(_) => Errno::ENOENT,
            Self::Exists { .. } | Self::XattrExists { .. } => Errno::EEXIST,
            Self::NotDirectory(_) => Errno::ENOTDIR,
            Self::IsDirectory(_) => Errno::EISDIR,
            Self::LinkDirectory(_) | Self::XattrUser(_) | Self::Hsm { .. } => Errno::EPERM,
            Self::NoAction(_) => Errno::ECANCELED,
            Self::NotEmpty(_) => Errno::ENOTEMPTY,
            Self::TooManyLinks { .. } => Errno::EMLINK,
            Self::IntoItself(_)
            | Self::Invalid(_)
            | Self::Repository(_)
            | Self::FidNotGranted(_)
            | Self::NoSlot(_) => Errno::EINVAL,
            Self::Message(bad) => bad.errno(),
            Self::TargetTooLong(_) => Errno::ENAMETOOLONG,
            Self::NoXattr { .. } => Errno::ENODATA,
            Self::XattrName(_) => Errno::ERANGE,
            Self::XattrUnsupported(_) => Errno::EOPNOTSUPP,
            Self::XattrTooBig(_) => Errno::E2BIG,
            Self::DefaultAcl(_) => Errno::EACCES,
            Self::TooFar { .. } | Self::InlineFull { .. } => Errno::EFBIG,
            Self::HasInlineBytes(_)
            | Self::HasData(_)
            | Self::HsmBusy(_)
            | Self::LinkedFolder(_) => Errno::EBUSY,
            Self::NoPlacement { .. } => Errno::EAGAIN,
            Self::XattrSpace(_)
            | Self::RecordTooBig { .. }
            | Self::NoFids
            | Self::NoRoom
            | Self::NoCookie(_)
            | Self::UsedUp(_) => Errno::ENOSPC,
            Self::Lost(_)
            | Self::FidUsed(_)
            | Self::Inconsistent { .. }
            | Self::NotFormatted
            | Self::Damaged(_)
            | Self::Store(_) => Errno::EIO,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::NotInline(_) | Self::PromoteLost(_) | Self::Released(_) | Self::NoSession(_) => {
                Retry::AfterRefresh
            }
            Self::NoPlacement { .. } | Self::NoFids => Retry::SameTarget,
            Self::Gone(_)
            | Self::NoDirectory(_)
            | Self::NoEntry { .. }
            | Self::Unlinked(_)
            | Self::Exists { .. }
            | Self::NotDirectory(_)
            | Self::IsDirectory(_)
            | Self::LinkDirectory(_)
            | Self::NotEmpty(_)
            | Self::TooManyLinks { .. }
            | Self::IntoItself(_)
            | Self::Message(_)
            | Self::Invalid(_)
            | Self::TargetTooLong(_)
            | Self::NoXattr { .. }
            | Self::XattrExists { .. }
            | Self::XattrName(_)
            | Self::XattrUnsupported(_)
            | Self::XattrUser(_)
            | Self::XattrTooBig(_)
            | Self::XattrSpace(_)
            | Self::DefaultAcl(_)
            | Self::TooFar { .. }
            | Self::InlineFull { .. }
            | Self::HasInlineBytes(_)
            | Self::HasData(_)
            | Self::Lost(_)
            | Self::Hsm { .. }
            | Self::HsmBusy(_)
            | Self::NoAction(_)
            | Self::LinkedFolder(_)
            | Self::Repository(_)
            | Self::RecordTooBig { .. }
            | Self::OldRequest { .. }
            | Self::NoSlot(_)
            | Self::OldIncarnation { .. }
            | Self::FidUsed(_)
            | Self::FidNotGranted(_)
            | Self::Elsewhere { .. }
            | Self::NoRoom
            | Self::NoCookie(_)
            | Self::UsedUp(_)
            | Self::Inconsistent { .. }
            | Self::NotFormatted
            | Self::Damaged(_)
            | Self::Store(_) => Retry::Never,
        }
    }

    fn effect(&self) -> Effect {
        Effect::None
    }
}
