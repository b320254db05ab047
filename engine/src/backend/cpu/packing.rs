//! How a weight's rows lie in memory: first the scales of the whole row, then its integers, 32 values at a time.
//!
//! A row takes the bytes it has in the file (floats are padded to whole groups of 32). Of the block formats of 32 values
//! only the order of the bytes changes. The super-blocks of the K formats are unravelled, so that the kernels know
//! three kinds of integers ([`super::plane`]) instead of nine formats.

use crate::weights::Encoding;

/// Values in a group.
pub(super) const GROUP: usize = 32;

/// How many bytes of a block are scales.
const fn head_bytes(encoding: Encoding) -> usize {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::BF16 => 0,
        Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q5_0 => 2,
        Encoding::Q4_1 | Encoding::Q5_1 => 4,
        Encoding::Q4_K | Encoding::Q5_K => 16,
        Encoding::Q6_K => 18,
    }
}

/// Where things lie in a packed row.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLayout {
    encoding: Encoding,
    /// Groups of 32 values, the last one filled up with zeros.
    pub(super) groups: usize,
    head: usize,
    /// Bytes of the row.
    pub(super) bytes: usize,
}

impl RowLayout {
    /// A row of `cols` values, which are whole blocks.
    pub(super) fn new(encoding: Encoding, cols: usize) -> Self {
        let groups = cols.div_ceil(GROUP);
        let blocks = cols / encoding.block_values();
        let head = blocks * head_bytes(encoding);
        let bytes = if encoding.is_quantized() {
            blocks * encoding.block_bytes()
        } else {
            groups * GROUP * encoding.block_bytes()
        };
        Self { encoding, groups, head, bytes }
    }

    /// Scales and integers of a packed row.
    pub(super) fn split(self, row: &[u8]) -> (&[u8], &[u8]) {
        row.split_at(self.head)
    }

    /// Packs one row of the file into `packed`, which is zero.
    pub(super) fn pack(self, row: &[u8], packed: &mut [u8]) {
        let encoding = self.encoding;
        if !encoding.is_quantized() {
            packed[..row.len()].copy_from_slice(row);
            return;
        }
        let head_bytes = head_bytes(encoding);
        let group_bytes = (encoding.block_bytes() - head_bytes) / (encoding.block_values() / GROUP);
        let (heads, groups) = packed.split_at_mut(self.head);
        let mut groups = groups.chunks_exact_mut(group_bytes);
        for (block, head) in row.chunks_exact(encoding.block_bytes()).zip(heads.chunks_exact_mut(head_bytes)) {
            if encoding.block_values() == GROUP {
                let (scales, integers) = block.split_at(head_bytes);
                head.copy_from_slice(scales);
                groups.by_ref().take(1).for_each(|group| group.copy_from_slice(integers));
            } else {
                let integers = super_block(encoding, block, head);
                for (values, group) in integers.chunks_exact(GROUP).zip(groups.by_ref()) {
                    pack_group(values, group);
                }
            }
        }
    }
}

/// The 256 integers of a super-block (ggml-quants.c, `dequantize_row_q4_K`, `_q5_K`, `_q6_K`); its scales go to `head`.
fn super_block(encoding: Encoding, block: &[u8], head: &mut [u8]) -> [u8; 256] {
    let mut out = [0; 256];
    if encoding == Encoding::Q6_K {
        let (low, rest) = block.split_at(128);
        let (high, scales) = rest.split_at(64);
        head.copy_from_slice(scales);
        for (i, out) in out.iter_mut().enumerate() {
            // Each half of 128 values has 64 bytes of low bits and 32 of high bits.
            let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
            let low = low[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
            let high = high[32 * half + l] >> (2 * quarter) & 3;
            *out = low | high << 4;
        }
    } else {
        let (scales, rest) = block.split_at(16);
        head.copy_from_slice(scales);
        let (high, low) = rest.split_at(rest.len() - 128);
        for (i, out) in out.iter_mut().enumerate() {
            let (sub_block, l) = (i / 32, i % 32);
            *out = low[32 * (sub_block / 2) + l] >> (4 * (sub_block % 2)) & 15;
            if let Some(high) = high.get(l) {
                *out |= (high >> sub_block & 1) << 4;
            }
        }
    }
    out
}

/// 32 integers of 4 (16 bytes), 5 (20) or 6 bits (24): the bits above the fourth come first.
fn pack_group(values: &[u8], group: &mut [u8]) {
    let (high, low) = group.split_at_mut(group.len() - 16);
    for (i, value) in values.iter().enumerate() {
        low[i % 16] |= (value & 15) << (4 * (i / 16));
        match high.len() {
            4 => high[i / 8] |= (value >> 4) << (i % 8),
            8 => high[i % 8] |= (value >> 4) << (2 * (i / 8)),
            _ => {}
        }
    }
}
