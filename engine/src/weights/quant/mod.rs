//! Encodings to `f32` and back: the reference for every backend.
//!
//! Values agree bit for bit with ggml's (`ggml-quants.c`), so the order of the float operations is part of the format.

mod blocks;
mod k_blocks;
mod quantize;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Encoding;
use crate::{Error, Result};

pub use quantize::quantize;

/// Decodes whole rows: `bytes` in `encoding` into `out`.
///
/// # Errors
/// When `bytes` is not exactly the encoding of `out.len()` values.
pub fn dequantize(encoding: Encoding, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    if encoding.row_bytes(out.len()) != Some(bytes.len()) {
        return Err(Error::Shape {
            op: "dequantize",
            expected: format!("{:?} bytes of {encoding:?} for {} values", encoding.row_bytes(out.len()), out.len()),
            got: format!("{} bytes", bytes.len()),
        });
    }
    match encoding {
        Encoding::F32 => each::<4, 1>(bytes, out, |b, y| y[0] = f32::from_le_bytes(*b)),
        Encoding::F16 => halves(bytes, out),
        Encoding::BF16 => each::<2, 1>(bytes, out, |b, y| y[0] = bf16::from_le_bytes(*b).to_f32()),
        Encoding::Q8_0 => each(bytes, out, blocks::q8_0),
        Encoding::Q4_0 => each(bytes, out, blocks::q4_0),
        Encoding::Q4_1 => each(bytes, out, blocks::q4_1),
        Encoding::Q5_0 => each(bytes, out, blocks::q5_0),
        Encoding::Q5_1 => each(bytes, out, blocks::q5_1),
        Encoding::Q4_K => each(bytes, out, k_blocks::q4_k),
        Encoding::Q5_K => each(bytes, out, k_blocks::q5_k),
        Encoding::Q6_K => each(bytes, out, k_blocks::q6_k),
    }
    Ok(())
}

/// The values of whole rows in another encoding; untouched when it is the same.
///
/// # Errors
/// As [`dequantize`] and [`quantize`].
pub fn recode(bytes: Vec<u8>, from: Encoding, to: Encoding) -> Result<Vec<u8>> {
    if from == to {
        return Ok(bytes);
    }
    let count = bytes.len() / from.block_bytes() * from.block_values();
    if to == Encoding::F32 {
        // Decoded in place when the buffer is aligned for f32, as allocators align it.
        let mut out = vec![0; 4 * count];
        if let Ok(values) = bytemuck::try_cast_slice_mut(&mut out) {
            dequantize(from, &bytes, values)?;
            return Ok(out);
        }
    }
    let mut values = vec![0.0; count];
    dequantize(from, &bytes, &mut values)?;
    quantize(to, &values)
}

/// f16 to f32, vectorised where the bytes are aligned.
fn halves(bytes: &[u8], out: &mut [f32]) {
    match bytemuck::try_cast_slice::<u8, f16>(bytes) {
        Ok(halves) => halves.convert_to_f32_slice(out),
        Err(_) => each::<2, 1>(bytes, out, |b, y| y[0] = f16::from_le_bytes(*b).to_f32()),
    }
}

/// Applies `decode` to each block of `BYTES` bytes and `VALUES` values.
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = out.as_chunks_mut::<VALUES>();
    for (block, values) in blocks.iter().zip(values) {
        decode(block, values);
    }
}
