//! The one checksum of Nacre: crc32c.

use std::fmt;

/// CRC-32C (Castagnoli) of a run of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Crc32c(pub u32);

/// Bytes covered by one stored checksum of an object.
pub const BLOCK_BYTES: usize = 4096;

impl Crc32c {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc32c::crc32c(bytes))
    }

    /// Of what `self` covers followed by `bytes`.
    #[must_use]
    pub fn extend(self, bytes: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, bytes))
    }

    /// Of what `self` covers followed by the `len` bytes that `next` covers.
    #[must_use]
    pub fn combine(self, next: Self, len: usize) -> Self {
        Self(crc32c::crc32c_combine(self.0, next.0, len))
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_answer() {
        // RFC 3720, appendix B.4: 32 bytes of zeros.
        assert_eq!(Crc32c::of(&[0; 32]), Crc32c(0x8a91_36aa));
    }

    #[test]
    fn pieces_combine() {
        let (a, b) = (&b"mother of"[..], &b" pearl"[..]);
        let whole = Crc32c::of(b"mother of pearl");
        assert_eq!(Crc32c::of(a).extend(b), whole);
        assert_eq!(Crc32c::of(a).combine(Crc32c::of(b), b.len()), whole);
    }
}
