//! Between wire and model. The only place where a peer's message is believed, after checking.

mod attr;
mod layout;
mod map;
mod names;

pub use names::{name, required};

use nacre_model::{Effect, Errno, Retry, ServiceError};

/// A peer sent something that no correct peer sends. Always `EINVAL`, never retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A message field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// An enum of zero, or of a number that this version does not know.
    #[error("field `{field}` has the unknown value {value}")]
    UnknownEnum {
        /// Which.
        field: &'static str,
        /// What it said.
        value: i32,
    },
    /// A number, string or list outside its range.
    #[error("field `{field}` is out of range: {value}")]
    Range {
        /// Which.
        field: &'static str,
        /// What it said, or its length.
        value: u64,
    },
    /// A text that is not what the field holds.
    #[error("field `{field}` is malformed: `{value}`")]
    Text {
        /// Which.
        field: &'static str,
        /// What it said.
        value: String,
    },
    /// A directory entry name.
    #[error("bad name")]
    Name(#[from] nacre_model::name::BadName),
    /// A layout.
    #[error("bad layout")]
    Layout(#[from] nacre_model::layout::BadTemplate),
}

impl ServiceError for BadMessage {
    fn errno(&self) -> Errno {
        match self {
            Self::Name(nacre_model::name::BadName::TooLong(_)) => Errno::ENAMETOOLONG,
            Self::Missing(_)
            | Self::UnknownEnum { .. }
            | Self::Range { .. }
            | Self::Text { .. }
            | Self::Name(_)
            | Self::Layout(_) => Errno::EINVAL,
        }
    }
    fn retry(&self) -> Retry {
        Retry::Never
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}
