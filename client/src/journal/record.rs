//! What one entry of the journal says, and how it is written.

use nacre_model::Fid;

use crate::types::OpenFlags;

/// Bytes of an entry: a power of two, so that none crosses a page and each is written whole.
pub(super) const LEN: usize = 64;

const WORDS: usize = LEN / 8;
const OPEN: u64 = 1;
const CHANGE: u64 = 2;
const APPEND: u64 = 3;
const DIRTY: u64 = 4;

/// Something that the next process must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// A file that is open under a handle, or is being opened by a request.
    Open { handle: u64, fid: Fid, flags: OpenFlags, request: u64 },
    /// A change that a request makes: it may have been made.
    Change { request: u64, kind: u64, slot: u32, xid: u64, handle: u64 },
    /// Where a request appends, and whose lock keeps others from that: 0 where a lease does.
    Append { request: u64, fid: Fid, offset: u64, owner: u64 },
    /// A file of which bytes were written that no server has.
    Dirty { fid: Fid },
}

impl Record {
    /// The request on whose behalf it was noted, if it counts only until that is answered.
    pub(super) const fn request(&self) -> Option<u64> {
        match self {
            Self::Change { request, .. } | Self::Append { request, .. } => Some(*request),
            Self::Open { .. } | Self::Dirty { .. } => None,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let words: [u64; WORDS] = match self {
            Self::Open { handle, fid, flags, request } => {
                [OPEN, handle, fid.seq, pack(fid), flags.bits().into(), request, 0, 0]
            }
            Self::Change { request, kind, slot, xid, handle } => {
                [CHANGE, request, kind, slot.into(), xid, handle, 0, 0]
            }
            Self::Append { request, fid, offset, owner } => {
                [APPEND, request, fid.seq, pack(fid), offset, owner, 0, 0]
            }
            Self::Dirty { fid } => [DIRTY, fid.seq, pack(fid), 0, 0, 0, 0, 0],
        };
        bytes(words)
    }

    /// `None`: the place is free, or the entry is of a newer program.
    pub(super) fn from_bytes(bytes: &[u8; LEN]) -> Option<Self> {
        match words(bytes) {
            [OPEN, handle, seq, rest, flags, request, _, _] => Some(Self::Open {
                handle,
                fid: unpack(seq, rest),
                flags: OpenFlags::from_bits_truncate(u32::try_from(flags).ok()?),
                request,
            }),
            [CHANGE, request, kind, slot, xid, handle, _, _] => {
                Some(Self::Change { request, kind, slot: u32::try_from(slot).ok()?, xid, handle })
            }
            [APPEND, request, seq, rest, offset, owner, _, _] => {
                Some(Self::Append { request, fid: unpack(seq, rest), offset, owner })
            }
            [DIRTY, seq, rest, ..] => Some(Self::Dirty { fid: unpack(seq, rest) }),
            _ => None,
        }
    }
}

pub(super) fn bytes(words: [u64; WORDS]) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub(super) fn words(bytes: &[u8; LEN]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(place);
        *word = u64::from_le_bytes(eight);
    }
    words
}

fn pack(fid: Fid) -> u64 {
    (u64::from(fid.oid) << 32) | u64::from(fid.ver)
}

#[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
fn unpack(seq: u64, rest: u64) -> Fid {
    Fid { seq, oid: (rest >> 32) as u32, ver: rest as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let fid = Fid { seq: 0x2_0000_0401, oid: 7, ver: 1 };
        let flags = OpenFlags::READ | OpenFlags::APPEND;
        for record in [
            Record::Open { handle: 1 << 40, fid, flags, request: 5 },
            Record::Change { request: 6, kind: 3, slot: 63, xid: 9, handle: 2 },
            Record::Append { request: 8, fid, offset: u64::MAX, owner: 4 },
            Record::Dirty { fid },
        ] {
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }
        assert_eq!(Record::from_bytes(&[0; LEN]), None, "a free place");
        assert_eq!(Record::from_bytes(&[0xff; LEN]), None);
    }
}
