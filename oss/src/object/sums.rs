//! Checksums of a request's data, computed once for both uses: by block, and of the whole.

use nacre_model::checksum::{BLOCK_BYTES, Crc32c};

use super::BLOCK;

/// A write, cut along the block grid.
pub(crate) struct Cut<'a> {
    /// Index of the first block touched.
    pub(crate) first: u64,
    /// Bytes of the first block, if it is not covered as a whole: where in the block, and what.
    pub(crate) head: Option<(usize, &'a [u8])>,
    /// Checksums of the blocks covered as a whole.
    pub(crate) full: Vec<Crc32c>,
    /// The bytes of the last block, if they begin it without covering it.
    pub(crate) tail: Option<&'a [u8]>,
    /// Of all the data.
    pub(crate) whole: Crc32c,
}

impl<'a> Cut<'a> {
    pub(crate) fn new(offset: u64, data: &'a [u8]) -> Self {
        let within = usize::try_from(offset % BLOCK).expect("less than a block");
        let head_len = match within {
            0 => 0,
            _ => (BLOCK_BYTES - within).min(data.len()),
        };
        let (head, rest) = data.split_at_checked(head_len).unwrap_or((data, &[]));
        let (blocks, tail) = rest.as_chunks::<BLOCK_BYTES>();
        let full: Vec<_> = blocks.iter().map(|block| Crc32c::of(block)).collect();
        let whole = full.iter().fold(Crc32c::of(head), |sum, &block| sum.then_block(block));
        Self {
            first: offset / BLOCK,
            head: (!head.is_empty()).then_some((within, head)),
            full,
            tail: (!tail.is_empty()).then_some(tail),
            whole: whole.extend(tail),
        }
    }
}

/// Checksum of a block that has `bytes` at `within`, and else zeros.
pub(crate) fn padded(within: usize, bytes: &[u8]) -> Crc32c {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let before = ZEROS.get(..within).unwrap_or(&ZEROS);
    let after = ZEROS.get(..BLOCK_BYTES.saturating_sub(within + bytes.len())).unwrap_or(&[]);
    Crc32c::of(before).extend(bytes).extend(after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_sum_to_the_whole(offset in 0u64..10_000, len in 1usize..20_000) {
            let data: Vec<u8> = (0..len).map(|i| ((i * 7) >> 2).to_le_bytes()[0]).collect();
            let cut = Cut::new(offset, &data);
            prop_assert_eq!(cut.whole, Crc32c::of(&data));
            let head = cut.head.map_or(0, |(_, head)| head.len());
            let tail = cut.tail.map_or(0, <[u8]>::len);
            prop_assert_eq!(head + cut.full.len() * BLOCK_BYTES + tail, len);
        }
    }
}
