//! How weights lie on the GPU: cut over several buffers or whole, and what does not fit.

use paddock_engine::Result;
use paddock_engine::backend::wgpu::{Kernels, Options, Wgpu};
use paddock_engine::backend::{Cache, Device, HeadLayout, Operations, WeightPart};
use paddock_engine::weights::Encoding;
use paddock_tests::{block_on, skip};

fn device(options: Options) -> Option<Wgpu> {
    match block_on(Wgpu::new(options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            skip("gpu", &error.to_string());
            None
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
fn token_logprobs_of_a_cut_weight_are_those_of_a_whole_one() {
    let (rows, cols, vocab) = (20, 16, 300);
    let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 16.0;
    let compute = |gpu: &Wgpu| -> Result<Vec<f32>> {
        let mut table = gpu.create_weight("test", cols, &[WeightPart { rows: vocab, encoding: Encoding::F32 }])?;
        let bytes: Vec<u8> = (0..vocab * cols).flat_map(|i| number(i).to_le_bytes()).collect();
        gpu.write_rows(&mut table, 0, &bytes)?;
        let x = gpu.tensor([rows, cols], &(0..rows * cols).map(|i| number(i * i)).collect::<Vec<_>>())?;
        let targets = gpu.tokens(&(0..rows as u32).map(|row| row * 97 % vocab as u32).collect::<Vec<_>>())?;
        block_on(gpu.read(&gpu.token_logprobs(&x, &table, &targets)?))
    };
    let Some(whole) = device(Options::default()) else { return };
    // 62 rows of the table a buffer, and the logits of three rows a chunk.
    let Some(cut) = device(Options { max_binding: Some(4000), ..Options::default() }) else { return };
    let (whole, cut) = (compute(&whole).expect("values"), compute(&cut).expect("values"));
    assert_eq!(whole.len(), rows);
    for (row, (whole, cut)) in whole.iter().zip(&cut).enumerate() {
        // Three rows are multiplied by other kernels than twenty.
        assert!((whole - cut).abs() <= 1e-5 * whole.abs().max(1.0), "row {row}: {cut}, whole {whole}");
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
