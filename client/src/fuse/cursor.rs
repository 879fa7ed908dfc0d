//! Takes a request's bytes apart without ever reading past their end.

use model::{Errno, Name, name::BadName};
use nacre_model as model;
use zerocopy::FromBytes;

/// What is left of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(&'a [u8]);

/// The request ends before its structure does, or a string in it has no end.
///
/// Becomes `EINVAL`: a kernel that sends this speaks another protocol than was negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short;

impl From<Short> for Errno {
    fn from(Short: Short) -> Self {
        Self::EINVAL
    }
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next structure.
    pub(super) fn take<T: FromBytes>(&mut self) -> Result<T, Short> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Short)?;
        self.0 = rest;
        Ok(value)
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: u32) -> Result<&'a [u8], Short> {
        let len = usize::try_from(len).map_err(|_| Short)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The bytes before the next NUL, which is passed over.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Short> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Short)?;
        let (taken, rest) = self.0.split_at_checked(end).ok_or(Short)?;
        self.0 = rest.get(1..).ok_or(Short)?;
        Ok(taken)
    }

    /// The next string as the name of an entry.
    pub(super) fn name(&mut self) -> Result<Name, Errno> {
        Name::new(self.string()?).map_err(name_errno)
    }
}

/// The kernel lets names of any length through; the rest it never sends.
pub(super) fn name_errno(bad: BadName) -> Errno {
    match bad {
        BadName::TooLong(_) => Errno::ENAMETOOLONG,
        BadName::Empty | BadName::Byte | BadName::Dots => Errno::EINVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_need_their_end_and_leave_the_rest() {
        let mut cursor = Cursor::new(b"one\0two\0three");
        assert_eq!(cursor.string(), Ok(&b"one"[..]));
        assert_eq!(cursor.name().map(|name| name.as_bytes().to_vec()), Ok(b"two".to_vec()));
        assert_eq!(cursor.string(), Err(Short));
    }

    #[test]
    fn a_structure_longer_than_the_request_is_refused() {
        assert_eq!(Cursor::new(&[0; 7]).take::<u64>(), Err(Short));
        assert_eq!(Cursor::new(&[0; 7]).bytes(8), Err(Short));
    }

    #[test]
    fn a_name_of_256_bytes_is_too_long_rather_than_malformed() {
        let mut bytes = vec![b'n'; 256];
        bytes.push(0);
        assert_eq!(Cursor::new(&bytes).name(), Err(Errno::ENAMETOOLONG));
    }
}
