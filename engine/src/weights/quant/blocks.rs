//! Blocks of 32 values. A nibble byte `j` holds value `j` in its low and value `j + 16` in its high half.

use half::f16;

/// `d × q`, q signed 8 bits.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for j in 0..32 {
        out[j] = f32::from(block[2 + j] as i8) * d;
    }
}

/// `d × (q − 8)`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for j in 0..16 {
        let q = block[2 + j];
        out[j] = (f32::from(q & 15) - 8.0) * d;
        out[j + 16] = (f32::from(q >> 4) - 8.0) * d;
    }
}

/// `d × q + m`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for j in 0..16 {
        let q = block[4 + j];
        out[j] = f32::from(q & 15) * d + m;
        out[j + 16] = f32::from(q >> 4) * d + m;
    }
}

/// The five-bit values `j` and `j + 16`: nibbles at `nibbles`, their fifth bits in the 32 bits before.
fn five_bits(block: &[u8], nibbles: usize, j: usize) -> (f32, f32) {
    let high = u32::from_le_bytes([block[nibbles - 4], block[nibbles - 3], block[nibbles - 2], block[nibbles - 1]]);
    let q = block[nibbles + j];
    let bit = |at: usize| ((high >> at & 1) << 4) as u8;
    (f32::from(q & 15 | bit(j)), f32::from(q >> 4 | bit(j + 16)))
}

/// `d × (q − 16)`, q of five bits.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for j in 0..16 {
        let (low, high) = five_bits(block, 6, j);
        out[j] = (low - 16.0) * d;
        out[j + 16] = (high - 16.0) * d;
    }
}

/// `d × q + m`, q of five bits.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for j in 0..16 {
        let (low, high) = five_bits(block, 8, j);
        out[j] = low * d + m;
        out[j + 16] = high * d + m;
    }
}

/// The `f16` at byte `at` of a block.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
