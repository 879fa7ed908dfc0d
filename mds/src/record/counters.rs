//! The superblock and the counters.

use nacre_model::Fid;
use nacre_proto::convert::BadMessage;
use nacre_proto::v1;
use siphasher::sip::SipHasher24;

use super::{BadRecord, Record, decode_message, encode_message};

/// Bits of the name hash that make a directory cookie, on every file system that `format` makes.
pub const HASH_BITS: u32 = 60;

/// What `format` fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Name of the file system.
    pub fsname: String,
    /// Secret of the name hash: nobody can make names collide on purpose.
    pub hash_key: [u64; 2],
    /// Bits of the hash in use, 1 to 60. Fewer only in tests, which want collisions.
    pub hash_bits: u32,
    /// Highest number that a data repository was given.
    pub last_repository: u32,
    /// There are data repositories.
    pub linked: bool,
    /// One of them wants changes exported.
    pub exporting: bool,
}

impl Superblock {
    /// The cookie of rank 0 for a name: at least 8, below 2^63, a multiple of 8.
    pub fn cookie(&self, name: &[u8]) -> u64 {
        let [k0, k1] = self.hash_key;
        let hash = SipHasher24::new_with_keys(k0, k1).hash(name);
        let bits = self.hash_bits.clamp(1, HASH_BITS);
        let mask = (1_u64 << bits).wrapping_sub(1);
        (hash & mask).max(1) << 3
    }
}

impl Record for Superblock {
    fn encode(&self) -> Vec<u8> {
        let [hash_key_0, hash_key_1] = self.hash_key;
        encode_message(&v1::SuperblockRecord {
            fsname: self.fsname.clone(),
            hash_key_0,
            hash_key_1,
            hash_bits: self.hash_bits,
            last_repository: self.last_repository,
            linked: self.linked,
            exporting: self.exporting,
        })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let wire: v1::SuperblockRecord = decode_message(bytes)?;
        if !(1..=HASH_BITS).contains(&wire.hash_bits) {
            let value = wire.hash_bits.into();
            return Err(BadMessage::Range { field: "hash_bits", value }.into());
        }
        Ok(Self {
            fsname: wire.fsname,
            hash_key: [wire.hash_key_0, wire.hash_key_1],
            hash_bits: wire.hash_bits,
            last_repository: wire.last_repository,
            linked: wire.linked,
            exporting: wire.exporting,
        })
    }
}

/// What almost every command changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Fid sequences from the MGS, `(first, count)`; the first sequence of the first is in use.
    pub sequences: Vec<(u64, u32)>,
    /// Next object number in that sequence; 0 counts as 1, for number 0 is not given out.
    pub next_oid: u32,
    /// Next session.
    pub next_session: u64,
    /// Next work record.
    pub next_work: u64,
    /// Inodes, with the root and with orphans.
    pub inodes: u64,
}

impl Counters {
    /// A fid that was never given out; `None` when all sequences are used up.
    pub fn take_fid(&mut self) -> Option<Fid> {
        let (seq, count) = self.sequences.first_mut()?;
        let fid = Fid { seq: *seq, oid: self.next_oid.max(1), ver: 0 };
        self.next_oid = fid.oid.saturating_add(1);
        if self.next_oid >= Fid::OIDS_PER_SEQ {
            self.next_oid = 1;
            *seq = seq.saturating_add(1);
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sequences.remove(0);
            }
        }
        Some(fid)
    }

    /// A whole sequence, for somebody else; never the one in use.
    pub fn take_sequence(&mut self) -> Option<u64> {
        let ranges = self.sequences.len();
        let (first, count) = self.sequences.last_mut()?;
        if ranges == 1 && *count <= 1 {
            return None;
        }
        *count = count.saturating_sub(1);
        let seq = first.saturating_add(u64::from(*count));
        if *count == 0 {
            self.sequences.pop();
        }
        Some(seq)
    }

    /// Gives up the next `count` fids, or what is left of the sequence if that is less.
    pub fn skip_fids(&mut self, count: u32) {
        if self.sequences.is_empty() || count == 0 {
            return;
        }
        // One is taken in any case: that goes on to the next sequence at the end of this one.
        let last = Fid::OIDS_PER_SEQ.saturating_sub(1);
        self.next_oid = self.next_oid.max(1).saturating_add(count.saturating_sub(1)).min(last);
        let _: Option<Fid> = self.take_fid();
    }

    /// How many more fids there are.
    pub fn fids_left(&self) -> u64 {
        let per_sequence = u64::from(Fid::OIDS_PER_SEQ.saturating_sub(1));
        let sequences: u64 = self.sequences.iter().map(|(_, count)| u64::from(*count)).sum();
        let used = u64::from(self.next_oid.max(1).saturating_sub(1));
        sequences.saturating_mul(per_sequence).saturating_sub(used)
    }

    /// Whether `fid` may still be given out by [`Counters::take_fid`].
    pub fn is_unused(&self, fid: Fid) -> bool {
        self.sequences.iter().enumerate().any(|(index, (first, count))| {
            let end = first.saturating_add(u64::from(*count));
            (*first..end).contains(&fid.seq)
                && (index != 0 || fid.seq != *first || fid.oid >= self.next_oid)
        })
    }
}

impl Record for Counters {
    fn encode(&self) -> Vec<u8> {
        encode_message(&v1::CountersRecord {
            sequences: self
                .sequences
                .iter()
                .map(|(first, count)| v1::SequenceRange { first: *first, count: *count })
                .collect(),
            next_oid: self.next_oid,
            next_session: self.next_session,
            next_work: self.next_work,
            inodes: self.inodes,
        })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let wire: v1::CountersRecord = decode_message(bytes)?;
        let mut sequences = Vec::with_capacity(wire.sequences.len());
        for range in wire.sequences {
            let end = range.first.checked_add(range.count.into());
            if range.count == 0 || end.is_none_or(|end| end > Fid::SEQ_END) {
                return Err(BadMessage::Range { field: "sequences", value: range.first }.into());
            }
            sequences.push((range.first, range.count));
        }
        Ok(Self {
            sequences,
            next_oid: wire.next_oid,
            next_session: wire.next_session,
            next_work: wire.next_work,
            inodes: wire.inodes,
        })
    }
}
