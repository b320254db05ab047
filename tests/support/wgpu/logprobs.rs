//! Log-probabilities of given tokens.

use paddock_engine::Result;
use paddock_engine::backend::wgpu::Purpose;
use paddock_engine::backend::{Cpu, Device, Operations, Sample, WeightPart, Wgpu};

use super::products::{ENCODINGS, encoded, linear};
use super::{TOLERANCE, close, doubles, noise, read, weight};

/// The log-probability of each row's target, from the formula.
fn log_softmax(logits: &[f64], vocab: usize, targets: &[u32]) -> Vec<f64> {
    logits
        .chunks(vocab)
        .zip(targets)
        .map(|(row, target)| {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - highest).exp()).sum();
            row[*target as usize] - highest - sum.ln()
        })
        .collect()
}

/// Values and bits of `token_logprobs`, asked for twice.
fn twice(gpu: &Wgpu, x: &[f32], cols: usize, weight: &<Wgpu as Device>::Weight, targets: &[u32]) -> Result<Vec<f32>> {
    let x = gpu.tensor([targets.len(), cols], x)?;
    let targets = gpu.tokens(targets)?;
    let first = gpu.token_logprobs(&x, weight, &targets)?;
    let second = gpu.token_logprobs(&x, weight, &targets)?;
    assert_eq!(gpu.shape(&first), [gpu.shape(&x)[0], 1]);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (first, second) = (read(gpu, &first), read(gpu, &second));
    assert_eq!(bits(&first), bits(&second), "the same call gives the same bits");
    Ok(first)
}

/// Every encoding, for one row and for several chunks of rows, with vocabularies below and beyond a workgroup, against
/// the CPU backend and the formula.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn token_logprobs_are_the_cpu_s(gpu: &Wgpu) -> Result<()> {
    let cols = 96;
    let cpu = Cpu::with_threads(1);
    for (encoding, vocab) in ENCODINGS.into_iter().zip([67, 300, 513, 1000, 67]) {
        let (bytes, values) = encoded(encoding, &noise(1, vocab * cols));
        let on_gpu = weight(gpu, cols, &[(vocab, encoding, bytes.clone())])?;
        let mut on_cpu = cpu.create_weight("test", cols, &[WeightPart { rows: vocab, encoding }])?;
        cpu.write_rows(&mut on_cpu, 0, &bytes)?;
        // Nothing, one row, a few, and chunks of which the last has one row and some.
        for rows in [0, 1, 5, 65, 150] {
            // Logits of some hundreds, whose exponentials f32 cannot hold.
            let x: Vec<f32> = noise(2, rows * cols).into_iter().map(|value| 30.0 * value).collect();
            let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 37 + vocab as u32 - 1) % vocab as u32).collect();
            let what = format!("{encoding:?}, {rows} rows of {vocab}");
            let got = twice(gpu, &x, cols, &on_gpu, &targets)?;
            let logits = linear(&doubles(&x), &values, cols, None);
            close(&what, &got, &log_softmax(&logits, vocab, &targets), TOLERANCE);
            let reference = cpu.token_logprobs(&cpu.tensor([rows, cols], &x)?, &on_cpu, &cpu.tokens(&targets)?)?;
            close(&format!("{what}, as on the CPU"), &got, &doubles(reference.values()), 2.0 * TOLERANCE);
            let logits = gpu.linear(&gpu.tensor([rows, cols], &x)?, &on_gpu, None)?;
            let of_logits = gpu.token_logprobs_of_logits(&logits, &gpu.tokens(&targets)?)?;
            close(&format!("{what}, of logits"), &read(gpu, &of_logits), &doubles(reference.values()), 2.0 * TOLERANCE);
        }
    }
    Ok(())
}

/// A likely token's log-probability is close to 0 and keeps its digits.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn token_logprobs_near_zero_keep_their_digits(gpu: &Wgpu) -> Result<()> {
    // The logits are 8 for token 1 and 0 for the three others.
    let (cols, vocab) = (8, 4);
    let mut values = vec![0.0_f32; vocab * cols];
    values[cols] = 8.0;
    let weight = super::f32_weight(gpu, vocab, cols, &values)?;
    let mut x = vec![0.0; 2 * cols];
    (x[0], x[cols]) = (1.0, 1.0);
    let got = twice(gpu, &x, cols, &weight, &[1, 3])?;
    let rest = 3.0 * (-8.0_f64).exp();
    for (got, expected) in got.iter().zip([-rest.ln_1p(), -8.0 - rest.ln_1p()]) {
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference <= 2e-7 * expected.abs().max(1.0), "{got}, expected {expected}");
    }
    Ok(())
}

/// The logits of all rows never exist together.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When more memory is taken than for a chunk of rows.
pub fn token_logprobs_take_the_memory_of_a_chunk_of_rows(gpu: &Wgpu) -> Result<()> {
    let (rows, cols, vocab) = (640, 8, 5000);
    let weight = super::f32_weight(gpu, vocab, cols, &noise(1, vocab * cols))?;
    let x = gpu.tensor([rows, cols], &noise(2, rows * cols))?;
    let targets = gpu.tokens(&vec![7; rows])?;
    let before = gpu.bytes(Purpose::Activations);
    read(gpu, &gpu.token_logprobs(&x, &weight, &targets)?);
    let taken = gpu.bytes(Purpose::Activations) - before;
    // 64 rows of logits, rounded up to the pool's sizes, and small change; not 640.
    let chunk = 64 * vocab as u64 * 4;
    assert!(taken <= 2 * chunk, "{taken} bytes for chunks of {chunk}");
    Ok(())
}

/// Wrong shapes.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When they are accepted.
pub fn token_logprobs_of_operands_that_do_not_fit_are_refused(gpu: &Wgpu) -> Result<()> {
    let weight = super::f32_weight(gpu, 4, 8, &noise(1, 32))?;
    let x = gpu.tensor([2, 8], &noise(1, 16))?;
    let error = gpu.token_logprobs(&x, &weight, &gpu.tokens(&[0])?).err().expect("one target for two rows");
    assert!(error.to_string().contains("2 targets"), "{error}");
    let wide = gpu.tensor([2, 12], &noise(1, 24))?;
    let error = gpu.token_logprobs(&wide, &weight, &gpu.tokens(&[0, 1])?).err().expect("12 columns for 8");
    assert!(error.to_string().contains("token_logprobs"), "{error}");
    Ok(())
}
