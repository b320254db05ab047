//! Super-blocks of 256 values: eight groups of 32 with six-bit scales (`Q4_K`, `Q5_K`), or sixteen of 16 (`Q6_K`).

use super::blocks::half_at;

/// The six-bit scale and minimum of group `j`, packed in twelve bytes (ggml's `get_scale_min_k4`).
fn scale_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// `(d × scale) × q − (dmin × min)`. Groups `2c` and `2c + 1` are the low and high halves of nibble bytes `32c..32c + 32`.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    for group in 0..8 {
        let (scale, min) = scale_min(&block[4..16], group);
        let (scale, min) = (d * scale, d_min * min);
        for l in 0..32 {
            let q = block[16 + group / 2 * 32 + l] >> (group % 2 * 4) & 15;
            out[group * 32 + l] = scale * f32::from(q) - min;
        }
    }
}

/// As `q4_k`, with the fifth bit of group `g`'s value `l` in bit `g` of byte `16 + l`.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    for group in 0..8 {
        let (scale, min) = scale_min(&block[4..16], group);
        let (scale, min) = (d * scale, d_min * min);
        for l in 0..32 {
            let low = block[48 + group / 2 * 32 + l] >> (group % 2 * 4) & 15;
            let high = block[16 + l] >> group & 1;
            out[group * 32 + l] = scale * f32::from(low | high << 4) - min;
        }
    }
}

/// `d × scale × (q − 32)`. Each half of 128 values: 64 bytes of nibbles, 32 bytes of two-bit tops, eight scales.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for half in 0..2 {
        for quarter in 0..4 {
            for l in 0..32 {
                let low = block[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
                let high = block[128 + half * 32 + l] >> (quarter * 2) & 3;
                let scale = block[192 + half * 8 + quarter * 2 + l / 16] as i8;
                let q = f32::from(low | high << 4) - 32.0;
                out[half * 128 + quarter * 32 + l] = d * f32::from(scale) * q;
            }
        }
    }
}
