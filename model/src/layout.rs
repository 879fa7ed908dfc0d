//! Where the bytes of a file are: inline in the inode, or striped over objects on OSTs.

use std::num::{NonZeroU16, NonZeroU64};

use crate::{Fid, ObjectId, OstIndex};

/// Offset in a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileOffset(pub u64);

/// Offset in one OST object, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectOffset(pub u64);

/// Position of a stripe in its component: `0..stripe_count`. Not an OST index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StripeIndex(pub u16);

/// Largest file size and offset: POSIX `off_t`, 8 EiB - 1.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// `stripe_size` is a multiple of this. Lustre: `LOV_MIN_STRIPE_SIZE`.
pub const STRIPE_SIZE_GRAIN: u64 = 64 << 10;
/// Default `stripe_size`.
pub const STRIPE_SIZE_DEFAULT: u64 = 4 << 20;
/// Largest `stripe_size`: below 4 GiB, as Lustre.
pub const STRIPE_SIZE_MAX: u64 = (4 << 30) - STRIPE_SIZE_GRAIN;
/// Most stripes of a component. Lustre: `LOV_MAX_STRIPE_COUNT`.
pub const STRIPE_COUNT_MAX: u16 = 2000;
/// Stripe count of a component without OSTs that shall have them all, however many there will be.
/// Lustre: `LOV_ALL_STRIPES`.
pub const STRIPE_COUNT_ALL: NonZeroU16 = NonZeroU16::MAX;
/// Most components of a layout.
pub const COMPONENTS_MAX: usize = 16;
/// "To the end of the file": the exclusive end of a last component.
pub const EOF: u64 = u64::MAX;

/// How a new file, or the files of a directory, shall be laid out. What `lfs setstripe` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutTemplate {
    /// By extent, ascending, without gaps, the first at 0. One for a plain layout.
    pub components: Vec<ComponentTemplate>,
}

/// One component of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentTemplate {
    /// Exclusive end of the extent; [`EOF`] for the last.
    pub end: u64,
    /// How many OSTs; `None` means all (`-c -1`).
    pub stripe_count: Option<NonZeroU16>,
    /// Bytes before going on to the next OST, a multiple of [`STRIPE_SIZE_GRAIN`].
    pub stripe_size: NonZeroU64,
    /// The OST that has stripe 0; `None` lets the MDS choose (`-i -1`).
    pub stripe_index: Option<OstIndex>,
    /// OSTs to take in this order (`-o`); empty for free choice.
    pub ost_list: Vec<OstIndex>,
    /// Only OSTs of this pool; empty for any.
    pub pool: String,
}

/// The layout of one regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Raised by every change of anything below.
    pub generation: u32,
    /// By extent, ascending, without gaps, the first at 0.
    pub components: Vec<Component>,
}

/// A run of the file with one striping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// First byte.
    pub start: u64,
    /// Exclusive end; [`EOF`] for the last.
    pub end: u64,
    /// Bytes on one object before the next one's turn.
    pub stripe_size: NonZeroU64,
    /// How many stripes it has, or shall have: [`STRIPE_COUNT_ALL`] occurs only before it has OSTs.
    pub stripe_count: NonZeroU16,
    /// Pool it was, or shall be, allocated from; empty for any.
    pub pool: String,
    /// The OST wished for stripe 0; meaningful until allocated.
    pub stripe_index: Option<OstIndex>,
    /// The OSTs of its stripes, in order. Empty until the component is first written to.
    pub osts: Vec<OstIndex>,
    /// Generation of its object set, part of every [`ObjectId`].
    pub object_generation: u32,
}

/// One piece of a file range: contiguous in the file and in one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Index of the component in the layout.
    pub component: u16,
    /// Stripe in the component.
    pub stripe: StripeIndex,
    /// Where in the object.
    pub object_offset: ObjectOffset,
    /// Where in the file.
    pub file_offset: FileOffset,
    /// Length in bytes, never 0.
    pub len: u64,
}

impl Component {
    /// Whether its objects have been given OSTs.
    pub fn instantiated(&self) -> bool {
        !self.osts.is_empty()
    }

    /// Maps a file offset to the object that holds it.
    ///
    /// Stripe `k = offset / stripe_size` is on object `k % stripe_count`, row `k / stripe_count`.
    /// Offsets are the file's, not the component's, as in Lustre: an object of a later component
    /// starts with a hole. Total: every `offset` maps, and no two collide.
    ///
    /// Source: Lustre `lov_stripe_number()`, `lov_stripe_offset()`, `lustre/lov/lov_offset.c`.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "row * size + within <= offset, and index < stripe_count, a u16"
    )]
    pub fn locate(&self, offset: FileOffset) -> (StripeIndex, ObjectOffset) {
        let size = self.stripe_size;
        let count = NonZeroU64::from(self.stripe_count);
        let (stripe, within) = (offset.0 / size, offset.0 % size);
        let (row, index) = (stripe / count, stripe % count);
        (StripeIndex(index as u16), ObjectOffset(row * size.get() + within))
    }

    /// The inverse of [`Component::locate`]: where in the file an object's byte is.
    ///
    /// `None` when that lies beyond what 64 bits can say.
    pub fn file_offset(&self, stripe: StripeIndex, offset: ObjectOffset) -> Option<FileOffset> {
        let size = self.stripe_size;
        let (row, within) = (offset.0 / size, offset.0 % size);
        row.checked_mul(u64::from(self.stripe_count.get()))?
            .checked_add(u64::from(stripe.0))?
            .checked_mul(size.get())?
            .checked_add(within)
            .map(FileOffset)
    }

    /// The size a file has when this stripe's object ends at `object_size`; 0 for an empty one.
    pub fn file_size(&self, stripe: StripeIndex, object_size: u64) -> u64 {
        match object_size.checked_sub(1) {
            None => 0,
            Some(last) => self
                .file_offset(stripe, ObjectOffset(last))
                .map_or(u64::MAX, |offset| offset.0.saturating_add(1)),
        }
    }

    /// How long a stripe's object is when the file is cut at `file_size`.
    pub fn object_size(&self, stripe: StripeIndex, file_size: u64) -> u64 {
        let size = self.stripe_size;
        let stripes = file_size / size;
        let within = file_size % size;
        let count = NonZeroU64::from(self.stripe_count);
        let (rows, at) = (stripes / count, stripes % count);
        let full = rows.saturating_mul(size.get());
        match u64::from(stripe.0).cmp(&at) {
            std::cmp::Ordering::Less => full.saturating_add(size.get()),
            std::cmp::Ordering::Equal => full.saturating_add(within),
            std::cmp::Ordering::Greater => full,
        }
    }
}

impl Layout {
    /// The component that holds `offset`: its index and itself.
    pub fn component_at(&self, offset: u64) -> Option<(u16, &Component)> {
        let at = self.components.partition_point(|c| c.end <= offset);
        let component = self.components.get(at)?;
        Some((u16::try_from(at).ok()?, component))
    }

    /// Cuts a file range into pieces, ascending. Stops early where no component reaches.
    pub fn pieces(&self, offset: u64, len: u64) -> Pieces<'_> {
        Pieces { layout: self, at: offset, end: offset.saturating_add(len) }
    }

    /// Whether any part of the file has objects.
    pub fn has_objects(&self) -> bool {
        self.components.iter().any(Component::instantiated)
    }

    /// The objects of all instantiated components: `(id, OST, component index)`.
    pub fn objects(&self, fid: Fid) -> impl Iterator<Item = (ObjectId, OstIndex, u16)> + '_ {
        (0_u16..).zip(&self.components).flat_map(move |(component, c)| {
            (0_u16..).zip(&c.osts).map(move |(stripe, ost)| {
                let generation = c.object_generation;
                (ObjectId { fid, component, stripe, generation }, *ost, component)
            })
        })
    }
}

/// Iterator of [`Layout::pieces`].
#[derive(Debug)]
pub struct Pieces<'a> {
    layout: &'a Layout,
    at: u64,
    end: u64,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.at >= self.end {
            return None;
        }
        let (index, component) = self.layout.component_at(self.at)?;
        let (stripe, object_offset) = component.locate(FileOffset(self.at));
        let size = component.stripe_size.get();
        let stripe_end = (self.at / component.stripe_size).saturating_add(1).saturating_mul(size);
        let until = self.end.min(stripe_end).min(component.end);
        let file_offset = FileOffset(self.at);
        let len = until.saturating_sub(self.at);
        self.at = until;
        Some(Piece { component: index, stripe, object_offset, file_offset, len })
    }
}

/// What is wrong with a [`LayoutTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// None, or more than [`COMPONENTS_MAX`].
    #[error("a layout has 1 to {COMPONENTS_MAX} components, not {0}")]
    ComponentCount(usize),
    /// Ends must ascend.
    #[error("component {index} ends at {end}, which is not after the one before")]
    Order {
        /// Which.
        index: usize,
        /// Its end.
        end: u64,
    },
    /// Ends must lie on the stripe grid.
    #[error("component {index} ends at {end}, which is not a multiple of {STRIPE_SIZE_GRAIN}")]
    EndGrain {
        /// Which.
        index: usize,
        /// Its end.
        end: u64,
    },
    /// A multiple of 64 KiB below 4 GiB.
    #[error("stripe size {0} is not a multiple of 64 KiB between 64 KiB and 4 GiB - 64 KiB")]
    StripeSize(u64),
    /// At most 2000.
    #[error("stripe count {0} is more than {STRIPE_COUNT_MAX}")]
    StripeCount(u16),
    /// A pool name is 1 to 15 of `[A-Za-z0-9_-]`.
    #[error("`{0}` is not a pool name: 1 to 15 letters, digits, `_` or `-`")]
    Pool(String),
    /// `-o` with a count that differs from the list.
    #[error("{count} stripes cannot be on the {listed} OSTs listed")]
    OstList {
        /// Stripe count asked for.
        count: u16,
        /// Length of the list.
        listed: usize,
    },
}

impl LayoutTemplate {
    /// One component with the built-in stripe size and `stripe_count` stripes.
    pub fn plain(stripe_count: Option<NonZeroU16>, stripe_size: NonZeroU64) -> Self {
        let component = ComponentTemplate {
            end: EOF,
            stripe_count,
            stripe_size,
            stripe_index: None,
            ost_list: Vec::new(),
            pool: String::new(),
        };
        Self { components: vec![component] }
    }

    /// The layout of a file system that nobody configured: one stripe up to 64 MiB, beyond that
    /// up to 8 OSTs, 4 MiB stripes.
    pub fn built_in() -> Self {
        let size = NonZeroU64::MIN.saturating_add(STRIPE_SIZE_DEFAULT - 1);
        let mut template = Self::plain(Some(NonZeroU16::MIN), size);
        let mut wide = Self::plain(NonZeroU16::new(8), size);
        if let Some(first) = template.components.first_mut() {
            first.end = 64 << 20;
        }
        template.components.append(&mut wide.components);
        template
    }

    /// Checks everything that can be checked without a cluster map.
    pub fn validate(&self) -> Result<(), BadTemplate> {
        if !(1..=COMPONENTS_MAX).contains(&self.components.len()) {
            return Err(BadTemplate::ComponentCount(self.components.len()));
        }
        let mut before = 0;
        for (index, component) in self.components.iter().enumerate() {
            let end = component.end;
            if end <= before {
                return Err(BadTemplate::Order { index, end });
            }
            if end != EOF && end % STRIPE_SIZE_GRAIN != 0 {
                return Err(BadTemplate::EndGrain { index, end });
            }
            before = end;
            component.validate()?;
        }
        Ok(())
    }
}

impl ComponentTemplate {
    fn validate(&self) -> Result<(), BadTemplate> {
        let size = self.stripe_size.get();
        if !size.is_multiple_of(STRIPE_SIZE_GRAIN) || size > STRIPE_SIZE_MAX {
            return Err(BadTemplate::StripeSize(size));
        }
        if let Some(count) = self.stripe_count {
            if count.get() > STRIPE_COUNT_MAX {
                return Err(BadTemplate::StripeCount(count.get()));
            }
            let listed = self.ost_list.len();
            if listed != 0 && usize::from(count.get()) != listed {
                return Err(BadTemplate::OstList { count: count.get(), listed });
            }
        }
        if !self.pool.is_empty() && !crate::ClusterMap::valid_pool(&self.pool) {
            return Err(BadTemplate::Pool(self.pool.clone()));
        }
        Ok(())
    }
}
