//! The bytes of a snapshot file.
//!
//! It begins with `NACRESNP` and the version, 1, in 4 bytes; then chunks follow:
//!
//! | offset | bytes | what (little endian) |
//! |---|---|---|
//! | 0 | 4 | length of the payload |
//! | 4 | 4 | crc32c of bytes 0..4, 8 and the payload |
//! | 8 | 1 | kind: 1 pairs of the scan, 2 changes made meanwhile, 3 end |
//! | 9 | length | payload |
//!
//! Pairs and changes: {key length u32, value length u32 (all ones: removed), key, value} each.
//! The end: applied index, term and state hash u64 each, number of chunks before it u64. A file
//! without an end, or with anything behind it, is none.

use crate::engine::Head;
use crate::store::Batch;

pub(super) const FILE_HEADER: [u8; 12] = *b"NACRESNP\x01\x00\x00\x00";
/// Bytes before a chunk's payload.
pub(super) const CHUNK_HEADER_BYTES: usize = 9;
/// No payload is longer. Those of the scan are about 1 MiB; changes come group by group.
pub(super) const CHUNK_BYTES_MAX: usize = 256 << 20;
const REMOVED: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pairs = 1,
    Changes = 2,
    End = 3,
}

/// A chunk, to be written as it is.
pub(super) fn chunk(kind: Kind, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= CHUNK_BYTES_MAX)?;
    let mut out = Vec::with_capacity(CHUNK_HEADER_BYTES + payload.len());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(&len.to_le_bytes(), kind as u8, payload).to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
    Some(out)
}

/// Length and kind by a chunk's header; `None` if it can be none.
pub(super) fn parse_header(header: &[u8; CHUNK_HEADER_BYTES]) -> Option<(usize, Kind)> {
    let [len @ .., _, _, _, _, kind] = header;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let kind = match *kind {
        1 => Kind::Pairs,
        2 => Kind::Changes,
        3 => Kind::End,
        _ => return None,
    };
    (len <= CHUNK_BYTES_MAX).then_some((len, kind))
}

/// Whether a chunk is what was written.
pub(super) fn is_good(header: &[u8; CHUNK_HEADER_BYTES], payload: &[u8]) -> bool {
    let [len @ .., e, f, g, h, kind] = header;
    let len: &[u8; 4] = len;
    checksum(len, *kind, payload) == u32::from_le_bytes([*e, *f, *g, *h])
}

fn checksum(len: &[u8], kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(len), &[kind]), payload)
}

pub(super) fn put_pair(key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    let len = |len: usize| u32::try_from(len).expect("the store's limits are far below");
    out.extend_from_slice(&len(key.len()).to_le_bytes());
    let value_len = value.map_or(REMOVED, |value| len(value.len()));
    out.extend_from_slice(&value_len.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value.unwrap_or_default());
}

/// The pairs of a payload, as one batch; `None` if it is not well formed.
pub(super) fn pairs(mut payload: &[u8]) -> Option<Batch> {
    let mut batch = Batch::new();
    while !payload.is_empty() {
        let key_len = u32::from_le_bytes(*payload.first_chunk()?);
        let value_len = u32::from_le_bytes(*payload.get(4..)?.first_chunk()?);
        let (key, rest) = payload.get(8..)?.split_at_checked(usize::try_from(key_len).ok()?)?;
        let taken = if value_len == REMOVED { 0 } else { usize::try_from(value_len).ok()? };
        let (value, rest) = rest.split_at_checked(taken)?;
        batch.insert(key.to_vec(), (value_len != REMOVED).then(|| value.to_vec()));
        payload = rest;
    }
    Some(batch)
}

pub(super) fn end(head: Head, chunks: u64) -> Vec<u8> {
    [head.applied, head.term, head.hash, chunks].map(u64::to_le_bytes).concat()
}

pub(super) fn parse_end(payload: &[u8]) -> Option<(Head, u64)> {
    let at = |at: usize| payload.get(at..)?.first_chunk().map(|c| u64::from_le_bytes(*c));
    let head = Head { applied: at(0)?, term: at(8)?, hash: at(16)? };
    (payload.len() == 32).then_some((head, at(24)?))
}
