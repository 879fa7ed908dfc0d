//! The vocabulary of Nacre: identities, names, attributes, layouts, the cluster map and errors.
//!
//! Pure: nothing here knows of clocks, files, networks or tasks.

pub mod attr;
pub mod checksum;
pub mod error;
pub mod fid;
pub mod layout;
pub mod map;
pub mod name;
pub mod object;
pub mod time;

pub use attr::{Attr, FileKind};
pub use error::{Effect, Errno, Retry, ServiceError};
pub use fid::Fid;
pub use layout::{Component, FileOffset, Layout, LayoutTemplate, ObjectOffset, StripeIndex};
pub use map::{ClusterMap, MdtIndex, OstIndex, Target, TargetKind, TargetState};
pub use name::Name;
pub use object::ObjectId;
pub use time::Timestamp;
