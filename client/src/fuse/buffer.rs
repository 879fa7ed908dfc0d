//! Receive buffers, which become the payload of a write without a copy.
//!
//! A message is read so that the payload of a WRITE, which begins 80 bytes in, lies on a page
//! boundary:
//!
//! ```text
//! 0 .. PAGE-80      unused
//! PAGE-80 .. PAGE   in_header (40), write_in (40)
//! PAGE ..           payload, at most max_write
//! ```

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::abi::input::{InHeader, WriteIn};

/// Largest payload of one WRITE, in bytes; also of one READ.
pub(super) const MAX_WRITE_BYTES: usize = 1 << 20;
/// Free buffers that are kept; more are given back to the allocator.
const FREE_MAX: usize = 16;
/// A smaller payload is copied, so that it does not pin a buffer of a megabyte.
const HAND_OVER_BYTES: usize = 256 << 10;
/// Page size that payloads are aligned to.
const PAGE: usize = 4096;
/// Where in the (aligned) buffer a message begins.
const MESSAGE: usize = PAGE - size_of::<InHeader>() - size_of::<WriteIn>();

/// Free buffers. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    /// A free buffer, or a new one.
    pub(super) fn get(&self) -> Buffer {
        let memory = self.0.lock().pop().unwrap_or_else(|| vec![0; MAX_WRITE_BYTES + 2 * PAGE]);
        let shift = memory.as_ptr().align_offset(PAGE).min(PAGE);
        Buffer { memory, start: shift + MESSAGE, pool: self.clone() }
    }
}

/// One receive buffer; goes back to its pool when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    /// Where a message begins.
    start: usize,
    pool: BufferPool,
}

impl Buffer {
    /// Where the next message goes: the header, the arguments and [`MAX_WRITE_BYTES`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..).unwrap_or_default()
    }

    /// The message of `len` bytes that was read into [`Buffer::space`].
    pub(super) fn message(&self, len: usize) -> &[u8] {
        self.memory.get(self.start..self.start.saturating_add(len)).unwrap_or_default()
    }

    /// Takes `range` of the message as bytes of its own.
    ///
    /// A large range takes the buffer with it and leaves a fresh one here, so the bytes are not
    /// copied; a small one is copied.
    pub(super) fn take(&mut self, range: Range<usize>) -> Bytes {
        if range.len() < HAND_OVER_BYTES {
            let end = self.start.saturating_add(range.end);
            let part = self.memory.get(self.start.saturating_add(range.start)..end);
            return Bytes::copy_from_slice(part.unwrap_or_default());
        }
        let fresh = self.pool.get();
        let whole = std::mem::replace(self, fresh);
        let start = whole.start;
        Bytes::from_owner(whole)
            .slice(start.saturating_add(range.start)..start.saturating_add(range.end))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.0.lock();
        if free.len() < FREE_MAX {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_is_taken_without_a_copy_and_lies_on_a_page() {
        let pool = BufferPool::default();
        let mut buffer = pool.get();
        buffer.space()[80..80 + HAND_OVER_BYTES].fill(7);
        let address = buffer.message(81)[80..].as_ptr();
        let payload = buffer.take(80..80 + HAND_OVER_BYTES);
        assert_eq!(payload.as_ptr(), address, "the same memory");
        assert_eq!(payload.as_ptr().align_offset(PAGE), 0);
        buffer.space().fill(0);
        assert!(payload.iter().all(|byte| *byte == 7), "the next message goes elsewhere");
        drop(payload);
        assert_eq!(pool.0.lock().len(), 1, "the buffer is free again");
    }

    #[test]
    fn a_small_payload_does_not_pin_a_buffer() {
        let mut buffer = BufferPool::default().get();
        buffer.space()[80..84].copy_from_slice(b"data");
        let payload = buffer.take(80..84);
        buffer.space().fill(0);
        assert_eq!(&payload[..], b"data");
    }

    #[test]
    fn the_largest_request_fits() {
        let mut buffer = BufferPool::default().get();
        assert!(buffer.space().len() >= 80 + MAX_WRITE_BYTES);
    }
}
