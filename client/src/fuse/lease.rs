//! What the kernel may keep, and for how long.
//!
//! The kernel keeps nothing by itself: each answer says what of it stays valid. Under a lease that
//! is everything, for ever; without one nothing. So that no answer says more than is true when the
//! kernel gets it, it is written to the device while no lease can be revoked
//! ([`Filesystem::pinned`]), and what was written before a revocation is taken back by the
//! notifications that follow it ([`Notifier`]).
//!
//! ```text
//! answer:      stamp() ── make it up ── pinned { what may be kept? write it to the device }
//! revocation:            { forget the lease, raise the stamp } ── inval_inode ── inval_names
//!                          excludes pinned
//! ```
//!
//! [`Filesystem::pinned`]: super::Filesystem::pinned
//! [`Notifier`]: super::Notifier

use std::time::Duration;

use nacre_model::{Attr, Fid};

/// A moment, as the file system counts them. Later ones are not less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(pub u64);

/// What a file system ever lets the kernel keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grants {
    /// Nothing but the pages of open files, which the kernel drops when size or mtime change. The
    /// mount is served as if there were no leases in the world.
    #[default]
    Nothing,
    /// Attributes, pages and listings, but no names. Kernels before 6.16 are served so too, for
    /// they cannot be told to forget a name without a lock that an application may hold.
    Inodes,
    /// All there is a lease for.
    All,
}

/// Which leases stand, while none can be revoked.
///
/// A lease counts for an answer only if the answer cannot be older than the lease: either the lease
/// stood at the answer's stamp and was not revoked since, or it came with the answer itself. One
/// that another request brought meanwhile does not count: between the two something may have
/// changed.
pub trait Leases {
    /// Whether the kernel may keep these attributes of `attr.fid`.
    fn attr(&self, attr: &Attr) -> bool;

    /// Whether the kernel may keep that a name of `dir` leads where the answer says, or nowhere,
    /// and its list of names.
    fn names(&self, dir: Fid) -> bool;

    /// Whether the kernel may keep pages of `fid` that it has or will get.
    fn data(&self, fid: Fid) -> bool;

    /// Whether it may keep the pages that are in this answer: a lease that came after the question
    /// does not count.
    fn pages(&self, fid: Fid) -> bool {
        self.data(fid)
    }
}

/// No lease at all.
#[derive(Debug, Clone, Copy)]
pub struct NoLeases;

impl Leases for NoLeases {
    fn attr(&self, _attr: &Attr) -> bool {
        false
    }

    fn names(&self, _dir: Fid) -> bool {
        false
    }

    fn data(&self, _fid: Fid) -> bool {
        false
    }
}

/// How long the kernel may use what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// That a name leads to an inode.
    pub(super) entry: Duration,
    /// The inode's attributes.
    pub(super) attr: Duration,
}

/// For ever, as good as: the kernel adds it to its clock in units of a few milliseconds, which
/// must not overflow.
const UNLIMITED: Duration = Duration::from_secs(1 << 30);

impl Validity {
    /// Ask every time.
    pub(super) const NONE: Self = Self::of(false, false);

    /// Without limit, or not at all.
    pub(super) const fn of(entry: bool, attr: bool) -> Self {
        const fn time(granted: bool) -> Duration {
            if granted { UNLIMITED } else { Duration::ZERO }
        }
        Self { entry: time(entry), attr: time(attr) }
    }
}
