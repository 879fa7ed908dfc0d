//! What the MGS remembers, and its form on the disk.
//!
//! ```text
//! key    value = version (1 byte, 1) · payload · crc32c of both (4 bytes, little endian)
//! "map"  payload = a v1::ClusterMap
//! "boot" payload = per target: kind (1: MDT, 2: OST) · index (u16) · boot id (u64), little endian
//! "seq"  payload = per range: first (u64) · count (u64) · MDT index (u16), little endian
//! ```
//!
//! The checksum comes last so that a value cut short fails it.

use std::collections::BTreeMap;

use nacre_model::map::Deployment;
use nacre_model::{ClusterMap, Fid, MdtIndex, TargetKind};
use nacre_proto::v1;
use prost::Message;

/// Kind and index of a target.
pub type TargetKey = (TargetKind, u16);

/// Fid sequences `first..first + count` of one MDT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRange {
    /// First sequence.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Whose they are.
    pub mdt: MdtIndex,
}

/// Everything durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The map.
    pub map: ClusterMap,
    /// By which process each target was registered last.
    pub boots: BTreeMap<TargetKey, u64>,
    /// Sequences given out, ascending, without gaps from [`Fid::SEQ_NORMAL`].
    pub sequences: Vec<SequenceRange>,
}

/// Names of the records.
pub const KEYS: [&str; 3] = ["map", "boot", "seq"];

const VERSION: u8 = 1;

/// A record that this program did not write, or not so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It should be there.
    #[error("record `{0}` is missing")]
    Missing(&'static str),
    /// Its checksum is wrong.
    #[error("record `{0}` is damaged: checksum")]
    Checksum(&'static str),
    /// Written by another version.
    #[error("record `{key}` has version {version}; this program knows only {VERSION}")]
    Version {
        /// Which record.
        key: &'static str,
        /// Its version.
        version: u8,
    },
    /// It cannot be read though its checksum holds.
    #[error("record `{0}` is malformed")]
    Malformed(&'static str),
}

impl State {
    /// Of a file system that nobody has registered with.
    pub fn new(fsname: &str) -> Self {
        let map = ClusterMap {
            version: 1,
            fsname: fsname.to_owned(),
            deployment: Deployment::Scratch,
            targets: BTreeMap::new(),
            pools: BTreeMap::new(),
            default_layout: None,
        };
        Self { map, boots: BTreeMap::new(), sequences: Vec::new() }
    }

    /// The first sequence that nobody has.
    pub fn next_sequence(&self) -> u64 {
        self.sequences.last().map_or(Fid::SEQ_NORMAL, |r| r.first.saturating_add(r.count))
    }

    /// The records, by key.
    pub fn encode(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut boots = Vec::new();
        for ((kind, index), boot) in &self.boots {
            boots.push(kind_byte(*kind));
            boots.extend(index.to_le_bytes());
            boots.extend(boot.to_le_bytes());
        }
        let mut sequences = Vec::new();
        for range in &self.sequences {
            sequences.extend(range.first.to_le_bytes());
            sequences.extend(range.count.to_le_bytes());
            sequences.extend(range.mdt.0.to_le_bytes());
        }
        let map = v1::ClusterMap::from(self.map.clone()).encode_to_vec();
        vec![("map", seal(&map)), ("boot", seal(&boots)), ("seq", seal(&sequences))]
    }

    /// The inverse of [`State::encode`]; `get` finds a record by its key.
    pub fn decode(get: impl Fn(&'static str) -> Option<Vec<u8>>) -> Result<Self, BadRecord> {
        let record = |key| open(key, get(key).ok_or(BadRecord::Missing(key))?);
        let bad_map = |_| BadRecord::Malformed("map");
        let wire = v1::ClusterMap::decode(record("map")?.as_slice()).map_err(bad_map)?;
        let map = ClusterMap::try_from(wire).map_err(|_| BadRecord::Malformed("map"))?;
        let bytes = record("boot")?;
        let (items, rest) = bytes.as_chunks::<11>();
        let boots = items.iter().map(boot_item).collect::<Option<_>>();
        let boots = boots.filter(|_| rest.is_empty()).ok_or(BadRecord::Malformed("boot"))?;
        let bytes = record("seq")?;
        let (items, rest) = bytes.as_chunks::<18>();
        let sequences = items.iter().map(sequence_item).collect::<Option<_>>();
        let sequences = sequences.filter(|_| rest.is_empty()).ok_or(BadRecord::Malformed("seq"))?;
        Ok(Self { map, boots, sequences })
    }
}

fn kind_byte(kind: TargetKind) -> u8 {
    match kind {
        TargetKind::Mdt => 1,
        TargetKind::Ost => 2,
    }
}

fn boot_item(item: &[u8; 11]) -> Option<(TargetKey, u64)> {
    let (kind, rest) = item.split_first()?;
    let (index, boot) = rest.split_first_chunk::<2>()?;
    let kind = match kind {
        1 => TargetKind::Mdt,
        2 => TargetKind::Ost,
        _ => return None,
    };
    Some(((kind, u16::from_le_bytes(*index)), u64::from_le_bytes(boot.try_into().ok()?)))
}

fn sequence_item(item: &[u8; 18]) -> Option<SequenceRange> {
    let (first, rest) = item.split_first_chunk::<8>()?;
    let (count, mdt) = rest.split_first_chunk::<8>()?;
    Some(SequenceRange {
        first: u64::from_le_bytes(*first),
        count: u64::from_le_bytes(*count),
        mdt: MdtIndex(u16::from_le_bytes(mdt.try_into().ok()?)),
    })
}

fn seal(payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(payload.len().saturating_add(5));
    value.push(VERSION);
    value.extend(payload);
    let crc = crc32c::crc32c(&value);
    value.extend(crc.to_le_bytes());
    value
}

fn open(key: &'static str, mut value: Vec<u8>) -> Result<Vec<u8>, BadRecord> {
    let (body, crc) = value.split_last_chunk::<4>().ok_or(BadRecord::Checksum(key))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(BadRecord::Checksum(key));
    }
    let version = *body.first().ok_or(BadRecord::Malformed(key))?;
    if version != VERSION {
        return Err(BadRecord::Version { key, version });
    }
    let end = body.len();
    value.truncate(end);
    value.remove(0);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_model::{Target, TargetState};

    pub(crate) fn sample() -> State {
        let mut state = State::new("nacre");
        let target = Target {
            kind: TargetKind::Ost,
            index: 3,
            uuid: "u3".to_owned(),
            state: TargetState::Up,
            addresses: vec!["h:1".to_owned()],
            epoch: 2,
            no_create: false,
        };
        state.map.targets.insert((TargetKind::Ost, 3), target);
        state.boots.insert((TargetKind::Ost, 3), 0xdead_beef_0000_0001);
        let range = SequenceRange { first: Fid::SEQ_NORMAL, count: 64, mdt: MdtIndex(0) };
        state.sequences.push(range);
        state
    }

    fn decode(records: &[(&'static str, Vec<u8>)]) -> Result<State, BadRecord> {
        State::decode(|key| records.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()))
    }

    #[test]
    fn records_round_trip() {
        let state = sample();
        assert_eq!(decode(&state.encode()), Ok(state));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let records = sample().encode();
        for at in 0..records.len() {
            for bit in 0..records[at].1.len() * 8 {
                let mut bad = records.clone();
                bad[at].1[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bad), Err(BadRecord::Checksum(records[at].0)));
            }
            for len in 0..records[at].1.len() {
                let mut bad = records.clone();
                bad[at].1.truncate(len);
                assert_eq!(decode(&bad), Err(BadRecord::Checksum(records[at].0)));
            }
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_named_as_such() {
        let mut records = sample().encode();
        let body = [2, 0];
        let mut value = body.to_vec();
        value.extend(crc32c::crc32c(&body).to_le_bytes());
        records[2].1 = value;
        assert_eq!(decode(&records), Err(BadRecord::Version { key: "seq", version: 2 }));
    }
}
