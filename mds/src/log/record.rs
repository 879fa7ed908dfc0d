//! One record of the log: its bytes.
//!
//! | offset | bytes | what (little endian) |
//! |---|---|---|
//! | 0 | 4 | length of the payload, above 0 |
//! | 4 | 4 | crc32c of bytes 0..4, 8..32 and the payload |
//! | 8 | 8 | term |
//! | 16 | 8 | index, one more than that of the record before |
//! | 24 | 8 | last index that was known to be durable when this was written |
//! | 32 | length | payload |
//! | | 0 to 7 | zeros up to a multiple of 8 |
//!
//! The length stands first and is never 0, so the zeros of a fresh segment end the log. Records
//! begin at multiples of 8, so that those behind a damaged one can be found again.

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub(super) const ALIGN_BYTES: usize = 8;
/// No payload is longer: a command comes from a request of at most 4 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// A record as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Place in the log.
    pub index: u64,
    /// Last index that was known to be durable when this was written.
    pub durable: u64,
    /// What it holds.
    pub payload: &'a [u8],
}

/// Appends a record to `out`, whose length is a multiple of 8.
pub(super) fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let len = u32::try_from(record.payload.len()).expect("the caller keeps to PAYLOAD_BYTES_MAX");
    let fields = [record.term, record.index, record.durable].map(u64::to_le_bytes).concat();
    let crc = checksum(&len.to_le_bytes(), &fields, record.payload);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&fields);
    out.extend_from_slice(record.payload);
    out.resize(out.len().next_multiple_of(ALIGN_BYTES), 0);
}

fn checksum(len: &[u8], fields: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(len), fields), payload)
}

/// The record at the beginning of `bytes` and how many bytes it takes; `None` if there is no
/// good one. Any bytes may be given.
pub(super) fn decode(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let (index, len) = peek(bytes)?;
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let payload = rest.get(..len)?;
    let fields = header.get(8..)?;
    if checksum(header.get(..4)?, fields, payload) != u32_at(header, 4)? {
        return None;
    }
    let record = Record { term: u64_at(header, 8)?, index, durable: u64_at(header, 24)?, payload };
    Some((record, (HEADER_BYTES + len).next_multiple_of(ALIGN_BYTES)))
}

/// Index and length, unchecked but plausible: to look for records cheaply.
pub(super) fn peek(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let index = u64_at(bytes, 16)?;
    (len > 0 && len <= PAYLOAD_BYTES_MAX).then_some((index, len))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}
