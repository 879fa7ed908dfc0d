//! Directory records, packed into the buffer that the kernel asked to have filled.

use zerocopy::IntoBytes;

use super::abi::align8;
use super::abi::output::{Dirent, EntryOut};

/// A buffer of directory records, never longer than was asked for.
#[derive(Debug)]
pub(super) struct Packer {
    packed: Vec<u8>,
    bytes_max: usize,
    /// Where the last record begins.
    last: usize,
    /// Whether that one tells the kernel of an inode.
    last_is_full: bool,
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
        let packed = Vec::with_capacity(bytes_max);
        Self { packed, bytes_max, last: 0, last_is_full: false }
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
        (self.last, self.last_is_full) = (self.packed.len(), false);
        let dirent = Dirent { ino: record.ino, off: record.next, namelen, kind: record.kind };
        self.packed.extend_from_slice(entry);
        self.packed.extend_from_slice(dirent.as_bytes());
        self.packed.extend_from_slice(record.name);
        self.packed.resize(end, 0);
        true
    }

    /// The last record tells the kernel of an inode.
    pub(super) const fn last_is_full(&mut self) {
        self.last_is_full = true;
    }

    pub(super) const fn is_last_full(&self) -> bool {
        self.last_is_full
    }

    /// Gives the last record, which must have an entry, another one.
    pub(super) fn replace_last(&mut self, entry: &EntryOut) {
        let place = self.packed.get_mut(self.last..).unwrap_or_default();
        if let Some((place, _)) = place.split_at_mut_checked(size_of::<EntryOut>()) {
            place.copy_from_slice(entry.as_bytes());
        }
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

    #[test]
    fn only_the_last_entry_is_replaced() {
        let mut packer = Packer::new(1000);
        let entry: EntryOut = zerocopy::FromZeros::new_zeroed();
        for name in [b"a", b"b"] {
            assert!(packer.push(&Record { entry: Some(entry), ..record(name) }));
        }
        let len = size_of::<EntryOut>();
        packer.replace_last(&EntryOut { nodeid: 5, ..entry });
        let bytes = packer.into_bytes();
        let second = bytes.len() / 2;
        assert_eq!((bytes[0], bytes[second]), (0, 5));
        assert_eq!(bytes[second + len + 24], b'b', "the name stays");
    }
}
