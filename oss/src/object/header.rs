//! The header of an object's `.m` file.
//!
//! An object is two files. `ID.d` is its data, plain and sparse; its length is the object's size.
//! `ID.m` is:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 128 | header slot 0, of even versions |
//! | 4096 | 128 | header slot 1, of odd versions |
//! | 8192 + 4 *n* | 4 | checksum of block *n* of the data, little endian |
//!
//! A checksum is the crc32c of 4096 bytes, those beyond the end of the data being zeros, *xor* the
//! crc32c of 4096 zeros. So a block of zeros has checksum 0, a hole in `.d` goes with a hole (or
//! the end) of `.m`, and nothing needs to be written for either.
//!
//! A header slot, all numbers little endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `NACREOBJ` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | state: 0 in doubt, 1 clean |
//! | 16 | 8 | version of the header; the valid slot with the higher one counts |
//! | 24 | 8 | size in bytes when written |
//! | 32 | 8 | clean end: blocks below it have true checksums, unless the intent log names them |
//! | 40 | 8 | mtime, seconds (signed) |
//! | 48 | 4 | mtime, nanoseconds |
//! | 52 | 4 | owner: uid |
//! | 56 | 4 | owner: gid |
//! | 60 | 4 | owner: project |
//! | 64 | 8 | epoch of the target when written |
//! | 72 | 24 | object id, as `ObjectId::to_bytes` (big endian); holds the generation |
//! | 96 | 28 | zeros |
//! | 124 | 4 | crc32c of bytes 0 to 124 |
//!
//! *Why two slots, a page apart:* the newer one may be torn by a power cut, the older one stands.
//! A slot lies within one sector. *Why the id is inside:* a file that was put under another
//! object's name is noticed. *Why a clean end rather than a flag:* what is appended to a clean
//! object lies beyond it, in doubt without a word, so streaming pays nothing.
//!
//! The order that makes a header true: data and checksums are synced first, then the header is
//! written, then synced; only then are the object's records in the intent log void.

use nacre_model::checksum::Crc32c;
use nacre_model::{ObjectId, Timestamp};

/// Bytes of one header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Where the slot of odd versions begins.
const SLOT_ONE: u64 = 4096;
/// Where the checksums begin.
pub(crate) const TABLE_START: u64 = 8192;

const MAGIC: &[u8; 8] = b"NACREOBJ";
const FORMAT: u32 = 1;
const COVERED: usize = HEADER_BYTES - 4;

/// Who pays for the object's space. Not yet told by clients: zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Project.
    pub project: u32,
}

/// What is remembered of an object besides its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: ObjectId,
    pub(crate) version: u64,
    pub(crate) size: u64,
    /// Below this, checksums are true unless the intent log names the range.
    pub(crate) clean_end: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) owner: Owner,
    pub(crate) epoch: u64,
}

/// What one slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotContent {
    /// Never written.
    Empty,
    /// Neither empty nor a header.
    Bad,
    Valid(Header),
}

/// Where the slot of a version begins in the file.
pub(crate) fn slot_offset(version: u64) -> u64 {
    if version.is_multiple_of(2) { 0 } else { SLOT_ONE }
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let state = u32::from(self.clean_end >= self.size);
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&state.to_le_bytes());
        for word in [self.version, self.size, self.clean_end] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.mtime.secs.to_le_bytes());
        let Owner { uid, gid, project } = self.owner;
        for word in [self.mtime.nanos, uid, gid, project] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_bytes());
        bytes.resize(COVERED, 0);
        let crc = Crc32c::of(&bytes);
        bytes.extend_from_slice(&crc.0.to_le_bytes());
        bytes.try_into().expect("the fields above and the padding are 128 bytes")
    }

    /// `id` is whose file it was read from.
    pub(crate) fn decode(id: ObjectId, bytes: &[u8]) -> SlotContent {
        if bytes.iter().all(|&byte| byte == 0) {
            return SlotContent::Empty;
        }
        Self::parse(id, bytes).map_or(SlotContent::Bad, SlotContent::Valid)
    }

    fn parse(id: ObjectId, bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.split_at_checked(COVERED)?;
        let crc = u32::from_le_bytes(crc.try_into().ok()?);
        if Crc32c::of(covered).0 != crc {
            return None;
        }
        let mut at = Reader(covered);
        let known = at.take::<8>()? == *MAGIC && at.u32()? == FORMAT;
        let _state = at.u32()?;
        let (version, size, clean_end) = (at.u64()?, at.u64()?, at.u64()?);
        let secs = i64::from_le_bytes(at.take()?);
        let mtime = Timestamp::new(secs, at.u32()?)?;
        let owner = Owner { uid: at.u32()?, gid: at.u32()?, project: at.u32()? };
        let epoch = at.u64()?;
        let own = at.take::<24>()? == id.to_bytes();
        (known && own).then_some(Self { id, version, size, clean_end, mtime, owner, epoch })
    }
}

/// Takes numbers off the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use nacre_model::Fid;
    use proptest::prelude::*;

    use super::*;

    fn id() -> ObjectId {
        let fid = Fid { seq: 0x2_0000_0401, oid: 7, ver: 0 };
        ObjectId { fid, component: 1, stripe: 2, generation: 3 }
    }

    fn header() -> Header {
        let mtime = Timestamp { secs: -5, nanos: 6 };
        let owner = Owner { uid: 8, gid: 9, project: 10 };
        Header { id: id(), version: 4, size: 5000, clean_end: 8192, mtime, owner, epoch: 7 }
    }

    /// Version 1 as it is on disks: this may never change.
    const FIXTURE: &str = "4e414352454f424a010000000100000004000000000000008813000000000000\
                           0020000000000000fbffffffffffffff0600000008000000090000000a000000\
                           0700000000000000000000020000040100000007000000000001000200000003\
                           00000000000000000000000000000000000000000000000000000000";

    #[test]
    fn format_version_1_stands() {
        use std::fmt::Write;
        let mut hex = String::new();
        for byte in &header().encode()[..COVERED] {
            write!(hex, "{byte:02x}").expect("a String takes everything");
        }
        assert_eq!(hex, FIXTURE);
    }

    #[test]
    fn round_trips_and_is_bound_to_its_object() {
        let bytes = header().encode();
        assert_eq!(Header::decode(id(), &bytes), SlotContent::Valid(header()));
        let other = ObjectId { stripe: 3, ..id() };
        assert_eq!(Header::decode(other, &bytes), SlotContent::Bad);
        assert_eq!(Header::decode(id(), &[0; HEADER_BYTES]), SlotContent::Empty);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..HEADER_BYTES * 8) {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(id(), &bytes), SlotContent::Bad);
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::decode(id(), &bytes);
        }
    }
}
