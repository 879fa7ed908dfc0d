//! Directory records, packed into the buffer that the kernel asked to have filled.

use zerocopy::IntoBytes;

use super::abi::align8;
use super::abi::output::{Dirent, EntryOut};

/// A buffer of directory records, never longer than was asked for.
#[derive(Debug)]
pub(super) struct Packer {
    packed: Vec<u8>,
    bytes_max: usize,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) name: &'a [u8],
    pub(super) ino: u64,
    /// `d_type`.
    pub(super) kind: u32,
    /// Where to go on behind it.
    pub(super) next: u64,
    /// For READDIRPLUS.
    pub(super) entry: Option<EntryOut>,
}

impl Packer {
    pub(super) fn new(bytes_max: u32) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(1 << 20);
        Self { packed: Vec::with_capacity(bytes_max), bytes_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// `false`: it does not fit any more.
    #[must_use]
    pub(super) fn push(&mut self, record: &Record<'_>) -> bool {
        let Ok(namelen) = u32::try_from(record.name.len()) else { return false };
        let entry = record.entry.as_ref().map_or(&[][..], IntoBytes::as_bytes);
        let used = entry.len().saturating_add(size_of::<Dirent>());
        let len = align8(used.saturating_add(record.name.len()));
        let end = self.packed.len().saturating_add(len);
        if end > self.bytes_max {
            return false;
        }
        let dirent = Dirent { ino: record.ino, off: record.next, namelen, kind: record.kind };
        self.packed.extend_from_slice(entry);
        self.packed.extend_from_slice(dirent.as_bytes());
        self.packed.extend_from_slice(record.name);
        self.packed.resize(end, 0);
        true
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8]) -> Record<'_> {
        Record { name, ino: 7, kind: 8, next: 9, entry: None }
    }

    #[test]
    fn records_are_aligned_and_bounded() {
        let mut packer = Packer::new(64);
        assert!(packer.push(&record(b"a")) && packer.push(&record(b"12345678")));
        assert!(!packer.push(&record(b"b")), "32 + 32 bytes are taken");
        let bytes = packer.into_bytes();
        assert_eq!(bytes.len(), 64);
        assert_eq!(&bytes[24..33], b"a\0\0\0\0\0\0\0\x07");
    }
}
