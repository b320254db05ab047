//! How a weight's rows lie in memory: the scales of all rows in one place, their integers in another, 32 values at a time,
//! so that a kernel reads two streams from front to back.
//!
//! A row takes the bytes it has in the file (floats are padded to whole groups of 32). Of the block formats of 32 values
//! only the order of the bytes changes. The super-blocks of the K formats are unravelled, so that the kernels know
//! three kinds of integers ([`crate::plane`]) instead of nine formats.

use crate::Encoding;

/// Values in a group.
pub const GROUP: usize = 32;

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

/// Sizes of a packed row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowLayout {
    encoding: Encoding,
    /// Groups of 32 values, the last one filled up with zeros.
    pub(crate) groups: usize,
    /// Bytes of the scales.
    pub(crate) head_bytes: usize,
    /// Words of 32 bits that the integers or floats take.
    pub(crate) body_words: usize,
}

impl RowLayout {
    /// A row of `cols` values, which are whole blocks.
    pub(crate) fn new(encoding: Encoding, cols: usize) -> Self {
        let groups = cols.div_ceil(GROUP);
        let blocks = cols / encoding.block_values();
        let head_bytes = blocks * head_bytes(encoding);
        let body_bytes = if encoding.is_quantized() {
            blocks * encoding.block_bytes() - head_bytes
        } else {
            groups * GROUP * encoding.block_bytes()
        };
        Self { encoding, groups, head_bytes, body_words: body_bytes / 4 }
    }

    /// Packs one row of the file into `head` and `body`, which is zero.
    pub(crate) fn pack(self, row: &[u8], head: &mut [u8], body: &mut [u8]) {
        let encoding = self.encoding;
        if !encoding.is_quantized() {
            body[..row.len()].copy_from_slice(row);
            return;
        }
        let head_bytes = head_bytes(encoding);
        let block_groups = encoding.block_values() / GROUP;
        let blocks = row.chunks_exact(encoding.block_bytes());
        let heads = head.chunks_exact_mut(head_bytes);
        let bodies = body.chunks_exact_mut(encoding.block_bytes() - head_bytes);
        for ((block, head), body) in blocks.zip(heads).zip(bodies) {
            if block_groups == 1 {
                let (scales, integers) = block.split_at(head_bytes);
                head.copy_from_slice(scales);
                body.copy_from_slice(integers);
            } else {
                let integers = super_block(encoding, block, head);
                let groups = body.chunks_exact_mut(body.len() / block_groups);
                for (values, group) in integers.chunks_exact(GROUP).zip(groups) {
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
