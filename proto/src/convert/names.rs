use nacre_model::Name;

use super::BadMessage;

/// A field that must be there.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, BadMessage> {
    value.ok_or(BadMessage::Missing(field))
}

/// A directory entry name from the wire.
pub fn name(bytes: &[u8]) -> Result<Name, BadMessage> {
    Ok(Name::new(bytes)?)
}

/// A number that must fit a narrower type.
pub(super) fn narrow<T: TryFrom<u64>>(field: &'static str, value: u64) -> Result<T, BadMessage> {
    T::try_from(value).map_err(|_| BadMessage::Range { field, value })
}
