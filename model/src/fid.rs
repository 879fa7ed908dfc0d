//! File identifiers.

use std::fmt;
use std::str::FromStr;

/// Names an inode for ever; never used twice.
///
/// Prints and parses as Lustre's `DFID`, `[0xseq:0xoid:0xver]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fid {
    /// Sequence, handed to an MDT by the MGS. Below [`Fid::SEQ_END`].
    pub seq: u64,
    /// Object within the sequence.
    pub oid: u32,
    /// Version; 0 for every inode.
    pub ver: u32,
}

impl Fid {
    /// The root directory of every file system. Lustre: `FID_SEQ_ROOT`.
    pub const ROOT: Self = Self { seq: 0x2_0000_0007, oid: 1, ver: 0 };

    /// First sequence of ordinary inodes. Lustre: `FID_SEQ_NORMAL`.
    pub const SEQ_NORMAL: u64 = 0x2_0000_0400;

    /// Objects in one sequence: the object number fits the low 24 bits of an inode number.
    pub const OIDS_PER_SEQ: u32 = 1 << 24;

    /// Sequences end here, so that they fit the high 40 bits of an inode number.
    pub const SEQ_END: u64 = 1 << 40;

    /// The inode number that a mount shows.
    ///
    /// Unique for every fid with `seq < SEQ_END` and `oid < OIDS_PER_SEQ`, which are all that an
    /// MDS gives out; there it equals Lustre's number.
    ///
    /// Source: Lustre `fid_flatten()`, `lustre_fid.h`.
    pub const fn ino(self) -> u64 {
        (self.seq << 24) | self.oid as u64
    }

    /// The inverse of [`Fid::ino`].
    pub const fn from_ino(ino: u64) -> Self {
        Self { seq: ino >> 24, oid: (ino & 0x00ff_ffff) as u32, ver: 0 }
    }

    /// Sixteen bytes, big endian, in the order seq, oid, ver: sorts as the fid does.
    pub fn to_bytes(self) -> [u8; 16] {
        let wide =
            (u128::from(self.seq) << 64) | (u128::from(self.oid) << 32) | u128::from(self.ver);
        wide.to_be_bytes()
    }

    /// The inverse of [`Fid::to_bytes`].
    #[expect(clippy::cast_possible_truncation, reason = "takes the three fields apart")]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let wide = u128::from_be_bytes(bytes);
        Self { seq: (wide >> 64) as u64, oid: (wide >> 32) as u32, ver: wide as u32 }
    }
}

impl fmt::Display for Fid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}:{:#x}:{:#x}]", self.seq, self.oid, self.ver)
    }
}

/// The text is not a fid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fid: expected [0xseq:0xoid:0xver]")]
pub struct BadFid(pub String);

impl FromStr for Fid {
    type Err = BadFid;

    fn from_str(text: &str) -> Result<Self, BadFid> {
        let bad = || BadFid(text.to_owned());
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let mut parts = inner.split(':');
        let mut next = || -> Result<u64, BadFid> {
            let part = parts.next().ok_or_else(bad)?;
            let hex = part.strip_prefix("0x").ok_or_else(bad)?;
            u64::from_str_radix(hex, 16).map_err(|_| bad())
        };
        let (seq, oid, ver) = (next()?, next()?, next()?);
        let narrow = |v: u64| u32::try_from(v).map_err(|_| bad());
        let fid = Self { seq, oid: narrow(oid)?, ver: narrow(ver)? };
        if parts.next().is_some() { Err(bad()) } else { Ok(fid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let fid = Fid { seq: 0x2_0000_0401, oid: 0x1f, ver: 0 };
        assert_eq!(fid.to_string(), "[0x200000401:0x1f:0x0]");
        assert_eq!(fid.to_string().parse(), Ok(fid));
        assert_eq!(Fid::from_bytes(fid.to_bytes()), fid);
        assert_eq!(Fid::from_ino(fid.ino()), fid);
        assert_eq!(Fid::ROOT.ino(), 144_115_188_193_296_385, "as on every Lustre");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "[]", "[0x1:0x2]", "[0x1:0x2:0x3:0x4]", "[1:2:3]", "[0x1:0x100000000:0x0]"]
        {
            assert!(text.parse::<Fid>().is_err(), "{text}");
        }
    }
}
