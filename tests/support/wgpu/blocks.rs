//! Every block format of GGUF, from the fixture of ggml's own values.

use paddock_engine::Result;
use paddock_engine::backend::{Device, Operations, WeightPart, Wgpu};
use paddock_engine::weights::Encoding;
use safetensors::SafeTensors;

use crate::gguf::BLOCK_ENCODINGS;
use crate::{block_on, fixtures, folder_source};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Largest error of a value next to the largest value of its 32, and why.
fn rounding(encoding: Encoding) -> f32 {
    match encoding {
        // The products of an f16 and a 6-bit number, for scale and minimum, are rounded to f16: 2⁻¹² each, of terms
        // that may be twice the value.
        Encoding::Q4_K | Encoding::Q5_K => 1.0 / 1024.0,
        // Rounded anew to 8 bits: half a step of 1/127, and the scale to f16.
        Encoding::Q6_K => 1.0 / 250.0,
        // scale · quant + minimum may be fused or not.
        _ => 1e-6,
    }
}

/// Rows of every block format.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not ggml's.
pub fn every_block_kind_has_ggml_s_values(gpu: &Wgpu) -> Result<()> {
    let source = folder_source(&fixtures().join("gguf-blocks"));
    let tensors = SafeTensors::deserialize(&source.files["expected.safetensors"]).expect("safetensors");
    for encoding in BLOCK_ENCODINGS {
        let bytes = tensors.tensor(&format!("{encoding:?}.bytes")).expect("bytes").data();
        let expected = floats(tensors.tensor(&format!("{encoding:?}.values")).expect("values").data());
        let cols = encoding.block_values().max(8);
        let rows = expected.len() / cols;
        // Twice, because a single row would be kept as f32.
        let mut table = gpu.create_weight("blocks", cols, &[WeightPart { rows: 2 * rows, encoding }])?;
        gpu.write_rows(&mut table, 0, bytes)?;
        gpu.write_rows(&mut table, rows, bytes)?;
        let ids: Vec<u32> = (rows as u32..2 * rows as u32).collect();
        let got = gpu.embed(&table, &gpu.tokens(&ids)?)?;
        let got = block_on(gpu.read(&got))?;
        for (got, expected) in got.chunks(32).zip(expected.chunks(32)) {
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (got, expected) in got.iter().zip(expected) {
                let difference = (got - expected).abs();
                assert!(difference <= rounding(encoding) * largest, "{encoding:?}: {got}, expected {expected}");
            }
        }
    }
    Ok(())
}
