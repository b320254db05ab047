//! How weights lie on the GPU: every block format of GGUF, cut over several buffers or whole, and what does not fit.

use paddock_engine::Result;
use paddock_engine::backend::wgpu::{Kernels, Options, Wgpu};
use paddock_engine::backend::{Backend, HeadLayout, WeightPart};
use paddock_engine::weights::Encoding;
use paddock_tests::{block_on, fixture_source, skip};
use safetensors::SafeTensors;

fn device(options: Options) -> Option<Wgpu> {
    match block_on(Wgpu::new(options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            skip("gpu", &error.to_string());
            None
        }
    }
}

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

#[test]
fn every_block_kind_has_ggml_s_values() {
    let Some(gpu) = device(Options::default()) else { return };
    let source = fixture_source("gguf-blocks");
    let tensors = SafeTensors::deserialize(&source.files["expected.safetensors"]).expect("safetensors");
    for encoding in [
        Encoding::F16,
        Encoding::BF16,
        Encoding::Q8_0,
        Encoding::Q4_0,
        Encoding::Q4_1,
        Encoding::Q5_0,
        Encoding::Q5_1,
        Encoding::Q4_K,
        Encoding::Q5_K,
        Encoding::Q6_K,
    ] {
        let bytes = tensors.tensor(&format!("{encoding:?}.bytes")).expect("bytes").data();
        let expected = floats(tensors.tensor(&format!("{encoding:?}.values")).expect("values").data());
        let cols = encoding.block_values().max(8);
        let rows = expected.len() / cols;
        // Twice, because a single row would be kept as f32.
        let mut table =
            gpu.create_weight("blocks", cols, &[WeightPart { rows: 2 * rows, encoding }]).expect("a weight");
        gpu.write_rows(&mut table, 0, bytes).expect("the first half");
        gpu.write_rows(&mut table, rows, bytes).expect("the second half");
        let ids: Vec<u32> = (rows as u32..2 * rows as u32).collect();
        let got = gpu.embed(&table, &gpu.tokens(&ids).expect("ids")).expect("rows");
        let got = block_on(gpu.read(&got)).expect("values");
        for (got, expected) in got.chunks(32).zip(expected.chunks(32)) {
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (got, expected) in got.iter().zip(expected) {
                let difference = (got - expected).abs();
                assert!(difference <= rounding(encoding) * largest, "{encoding:?}: {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn a_cut_weight_computes_what_a_whole_one_does() {
    let (rows, cols) = (42, 96);
    let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
    let x: Vec<f32> = (0..5 * cols).map(|i| ((i * 29 % 83) as f32 - 41.0) / 64.0).collect();
    let compute = |gpu: &Wgpu| -> Result<Vec<f32>> {
        let weight = |rows: usize, values: &[f32]| -> Result<_> {
            let mut weight = gpu.create_weight("test", cols, &[WeightPart { rows, encoding: Encoding::F32 }])?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            gpu.write_rows(&mut weight, 0, &bytes)?;
            Ok(weight)
        };
        let (matrix, gain) = (weight(rows, &values)?, weight(1, &values[..cols])?);
        let (one, five) = (gpu.tensor([1, cols], &x[..cols])?, gpu.tensor([5, cols], &x)?);
        let mut all = Vec::new();
        for tensor in [
            gpu.embed(&matrix, &gpu.tokens(&[41, 0, 9, 10, 11, 20])?)?,
            gpu.linear(&one, &matrix, None)?,
            gpu.linear(&five, &matrix, None)?,
            gpu.rms_norm_linear(&one, &gain, 1e-5, &matrix, None)?,
            gpu.rms_norm_gate_up(&one, &gain, 1e-5, &matrix, None)?,
            gpu.linear_add(&one, &matrix, None, &gpu.tensor([1, rows], &x[..rows])?)?,
        ] {
            all.extend(block_on(gpu.read(&tensor))?);
        }
        Ok(all)
    };
    for kernels in [Kernels::Workgroup, Kernels::Serial] {
        let options = Options { kernels: Some(kernels), ..Options::default() };
        let Some(whole) = device(options) else { return };
        // Ten rows a buffer.
        let Some(cut) = device(Options { max_binding: Some(4000), ..options }) else { return };
        let (whole, cut) = (compute(&whole).expect("values"), compute(&cut).expect("values"));
        assert_eq!(whole.len(), cut.len());
        for (whole, cut) in whole.iter().zip(&cut) {
            // The cut gate and up are two dispatches, whose exponentials may round differently.
            assert!((whole - cut).abs() <= 1e-5 * whole.abs().max(1.0), "{cut}, whole {whole}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_in_a_sentence() {
    let Some(gpu) = device(Options { portable: true, ..Options::default() }) else { return };
    let heads = HeadLayout { heads: 32, kv_heads: 32, head_dim: 128 };
    let error = gpu.kv_cache(1, heads, 1, 1 << 20).err().expect("a million tokens are too many for a binding");
    assert!(error.to_string().contains("choose a shorter context"), "{error}");
    let error = gpu.tensor([1 << 20, 64], &[]).err().expect("no values for a tensor of many");
    assert!(error.to_string().contains("values of shape"), "{error}");
}
