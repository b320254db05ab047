//! What goes over several calls: the optimiser, a cache, a choice of tokens.

use half::bf16;
use paddock::cuda::{Cuda, Driver, Dtype, Formats};
use paddock_engine::Result;
use paddock_engine::backend::{Backend, Cpu, HeadLayout, SampleRow, Sampling, Segments, pcg_hash};
use paddock_learn::optim::{AdamW, DynamicMap, MOMENT_BLOCK, Precision};
use paddock_learn::{Adjoint, Moment, StateLayout, Store};

use super::cases::layout;
use super::{Comparison, Inputs, Trained};
use crate::block_on;

/// Learning rate of [`adamw`].
const RATE: f64 = 1e-2;

/// Some steps of AdamW: the exact weight and both moments.
fn adamw<B: Adjoint + Store<B>>(
    backend: &B,
    inputs: &mut Inputs,
    precision: Precision,
    moments: [Precision; 2],
) -> Result<[Vec<f32>; 3]> {
    const SHAPE: [usize; 2] = [7, 333];
    let settings = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let layout = StateLayout { label: "a weight", shape: SHAPE, precision, moments };
    let mut trained = Trained::new(backend, &layout, &inputs.numbers(SHAPE[0] * SHAPE[1], 1.0))?;
    for number in 1..=5 {
        trained.write_gradient(&inputs.numbers(SHAPE[0] * SHAPE[1], 0.5))?;
        // Clipped to about a half.
        let squares = backend.squared_norm(backend, &[&trained.state])?;
        let mut step = settings.step(number, RATE, 7.0);
        step.noise = pcg_hash(number as u32);
        trained.step(&squares, &step)?;
        let squares = backend.squared_norm(backend, &[&trained.state])?;
        assert_eq!(block_on(backend.read_squared_norm(backend, &squares))?, 0.0, "a step clears the gradient");
    }
    let [first, second] = trained.moments()?;
    Ok([trained.master()?, first, second])
}

/// How weights may be held on a device of these formats.
fn precisions(formats: Formats) -> &'static [Precision] {
    match formats.values {
        Dtype::F32 => &[Precision::F32],
        Dtype::Bf16 => &[Precision::F32, Precision::Bf16Split, Precision::Bf16Stochastic],
    }
}

/// Moments in eight bits.
const EIGHT_BITS: [Precision; 2] = [Precision::Dynamic8 { signed: true }, Precision::Dynamic8 { signed: false }];

/// Which part of the codes of moments in eight bits is another than expected; infinite if one is not even next to it.
fn codes_off(got: &[f32], expected: &[f32], signed: bool) -> f32 {
    let map = DynamicMap::of(signed);
    // Read and written again, values have the codes that they came from.
    let codes = |values: &[f32]| -> Vec<u8> {
        let mut codes = vec![0; values.len()];
        codes.chunks_mut(MOMENT_BLOCK).zip(values.chunks(MOMENT_BLOCK)).for_each(|(codes, values)| {
            map.encode(values, codes);
        });
        codes
    };
    let off = |(a, b): (u8, u8)| if a.abs_diff(b) > 1 { f32::INFINITY } else { f32::from(a.abs_diff(b)) };
    let sum: f32 = codes(got).into_iter().zip(codes(expected)).map(off).sum();
    if got.len() == expected.len() { sum / got.len() as f32 } else { f32::INFINITY }
}

/// Both moments in eight bits, each written in two parts that are not whole blocks; before that they are 0.
fn moments_written_in_parts<B: Adjoint + Store<B>>(backend: &B, values: &[f32]) -> Result<[Vec<f32>; 2]> {
    let layout = StateLayout { label: "m", shape: [4, 250], precision: Precision::F32, moments: EIGHT_BITS };
    let mut trained = Trained::new(backend, &layout, values)?;
    assert!(trained.moments()?.iter().flatten().all(|value| *value == 0.0));
    let (head, tail) = values.split_at(600);
    let positive = |values: &[f32]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    for (first, part) in [(0, head), (head.len(), tail)] {
        backend.write_moment(backend, &mut trained.state, Moment::First, first, part)?;
        backend.write_moment(backend, &mut trained.state, Moment::Second, first, &positive(part))?;
    }
    trained.moments()
}

/// Steps with moments in eight bits: the CPU's codes, but for one in a hundred at the border to the next, which another
/// rounding of a sum tips.
fn eight_bit_moments_are_the_cpus<D: Driver>(cuda: &Cuda<D>, seed: u32) -> Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for &precision in precisions(cuda.formats()) {
        let got = adamw(cuda, &mut Inputs::new(seed), precision, EIGHT_BITS)?;
        let expected = adamw(&Cpu::with_threads(2), &mut Inputs::new(seed), precision, EIGHT_BITS)?;
        let what = |what: &str| format!("adamw with moments in eight bits, {precision:?}: {what}");
        // A weight that is rounded by chance is off by at most a place of bf16 a step; another by what a code that
        // was tipped makes of a step, at most the learning rate.
        let plain = if precision == Precision::Bf16Stochastic { 5.0 * 2f32.powi(-7) } else { RATE as f32 };
        comparisons.push(Comparison::new(what("weight"), &got[0], &expected[0], plain, 1.0));
        for (index, signed) in [(1, true), (2, false)] {
            let off = codes_off(&got[index], &expected[index], signed);
            comparisons.push(Comparison::new(what("codes that differ"), &[off], &[0.0], 0.01, 1.0));
        }
        // The comparison can fail: moments in f32 have other codes.
        let exact = adamw(cuda, &mut Inputs::new(seed), precision, [Precision::F32; 2])?;
        assert!(codes_off(&exact[1], &expected[1], true) > 0.01);
    }
    // What a checkpoint does: moments are written, in parts that are not whole blocks, and read.
    let values = Inputs::new(seed).numbers(1000, 1.0);
    let written = moments_written_in_parts(cuda, &values)?;
    assert!(written == moments_written_in_parts(&Cpu::with_threads(2), &values)?, "moments that were written and read");
    Ok(comparisons)
}

/// The optimiser's steps; the norm of a gradient.
///
/// # Errors
/// When the device fails.
pub fn adamw_is_the_cpus<D: Driver>(cuda: &Cuda<D>, seed: u32) -> Result<Vec<Comparison>> {
    let cpu = Cpu::with_threads(2);
    let mut comparisons = eight_bit_moments_are_the_cpus(cuda, seed)?;
    for &precision in precisions(cuda.formats()) {
        let got = adamw(cuda, &mut Inputs::new(seed), precision, [Precision::F32; 2])?;
        let expected = adamw(&cpu, &mut Inputs::new(seed), precision, [Precision::F32; 2])?;
        for (index, what) in ["weight", "first moment", "second moment"].into_iter().enumerate() {
            let largest = expected[index].iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            // What is rounded by chance is off by at most one place of bf16 a step, and what was off stays so. A
            // weight alone has the noise of the CPU's, but for a sum in another order that may tip it.
            let stochastic = precision == Precision::Bf16Stochastic && index == 0;
            let rounded = stochastic || cuda.formats().moments == Dtype::Bf16;
            let plain = if rounded { 5.0 * largest * 2f32.powi(-7) } else { 0.0 };
            let what = format!("adamw, {precision:?}: {what}");
            comparisons.push(Comparison::new(what, &got[index], &expected[index], plain, 1.0));
        }
    }
    let (got, expected) = (squared_norm(cuda, seed)? as f32, squared_norm(&cpu, seed)? as f32);
    comparisons.push(Comparison::new("squared norm".into(), &[got], &[expected], 0.0, 1.0));
    Ok(comparisons)
}

/// The squared norm of three gradients of more than one block of threads.
fn squared_norm<B: Adjoint + Store<B>>(backend: &B, seed: u32) -> Result<f64> {
    const SHAPE: [usize; 2] = [300, 301];
    let moments = [Precision::F32; 2];
    let layout = StateLayout { label: "a weight", shape: SHAPE, precision: Precision::F32, moments };
    let values = Inputs::new(seed).numbers(SHAPE[0] * SHAPE[1], 0.5);
    let mut trained = Trained::new(backend, &layout, &values)?;
    trained.write_gradient(&values)?;
    let squares = backend.squared_norm(backend, &[&trained.state; 3])?;
    block_on(backend.read_squared_norm(backend, &squares))
}

/// Steps too small for bf16's places must add up all the same, however the exact weight is held.
///
/// # Errors
/// When the device fails.
pub fn small_updates_count_on_average<D: Driver>(cuda: &Cuda<D>) -> Result<Vec<Comparison>> {
    const SHAPE: [usize; 2] = [64, 64];
    const STEPS: u64 = 50;
    const SMALL_RATE: f64 = 1e-4;
    let count = SHAPE[0] * SHAPE[1];
    let mut comparisons = Vec::new();
    let no_clip = cuda.known_squared_norm(cuda, 0.0)?;
    for &precision in precisions(cuda.formats()) {
        let layout = StateLayout { label: "a weight", shape: SHAPE, precision, moments: [Precision::F32; 2] };
        let mut trained = Trained::new(cuda, &layout, &vec![1.0; count])?;
        for number in 1..=STEPS {
            trained.write_gradient(&vec![1.0; count])?;
            // With a steady gradient each step goes by the learning rate: a 40th of bf16's place at 1.
            let mut step = AdamW::default().step(number, SMALL_RATE, 0.0);
            step.noise = pcg_hash(number as u32);
            trained.step(&no_clip, &step)?;
        }
        let values = trained.master()?;
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count as f64;
        let moved = (1.0 - mean) / (STEPS as f64 * SMALL_RATE);
        // The mean of 4096 values that are off by up to a place: 1.2 % of the way is three deviations.
        let what = format!("updates too small for bf16, {precision:?}");
        comparisons.push(Comparison::new(what, &[moved as f32], &[1.0], 0.03, 1.0));
    }
    Ok(comparisons)
}

/// What a conversation does to a cache: two prompts, steps of both and of one, a fork.
fn decode<B: Backend>(backend: &B, heads: HeadLayout, inputs: &mut Inputs) -> Result<Vec<Vec<f32>>> {
    let half = heads.head_dim / 2;
    let frequencies: Vec<f32> = (0..half).map(|i| 1e4f32.powf(-(i as f32) / half as f32)).collect();
    let frequencies = backend.tensor([1, half], &frequencies)?;
    let mut cache = backend.kv_cache(2, heads, 3, 160)?;
    let mut lengths = [0; 3];
    let mut outputs = Vec::new();
    for (step, added) in [[70, 33, 0], [1, 1, 0], [1, 0, 0], [2, 1, 0], [40, 0, 0], [0, 0, 5]].into_iter().enumerate() {
        if step == 5 {
            backend.cache_fork(&mut cache, 0, 2, 90)?;
            lengths[2] = 90;
        }
        let mut segments = Segments::default();
        for (sequence, len) in added.into_iter().enumerate() {
            segments.push(len, lengths[sequence], sequence);
            lengths[sequence] += len;
        }
        let qkv = inputs.tensor(backend, [segments.rows(), heads.qkv_dim()])?;
        for layer in [0, 1] {
            let out = backend.rope_attention_cached(&mut cache, layer, &qkv, heads, &segments, &frequencies)?;
            outputs.push(block_on(backend.read(&out))?);
        }
    }
    Ok(outputs)
}

/// Attention on a cache.
///
/// # Errors
/// When the device fails.
pub fn decoding_is_the_cpus<D: Driver>(cuda: &Cuda<D>, seed: u32) -> Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for sizes in [[4, 2, 64], [2, 1, 128], [6, 2, 24]] {
        let heads = layout(sizes);
        let got = decode(cuda, heads, &mut Inputs::new(seed))?;
        let expected = decode(&Cpu::with_threads(2), heads, &mut Inputs::new(seed))?;
        // Rotated queries, keys and their products are rounded on the way: three roundings of the largest.
        let rounding = if cuda.formats().values == Dtype::Bf16 { 3.0 * 2f32.powi(-9) } else { 0.0 };
        for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let what = format!("decoding {sizes:?}: step {step}");
            comparisons.push(Comparison::new(what, got, expected, rounding * largest, 2.0));
        }
    }
    Ok(comparisons)
}

/// Twelve tokens from `logits`, beside which another row is greedy, and their log-probabilities.
fn choose<B: Backend>(backend: &B, logits: &[f32], sampling: &Sampling) -> Result<(Vec<u32>, Vec<f32>)> {
    let vocab = logits.len();
    let mut sampler = backend.sampler(vocab, 3)?;
    backend.set_seen(&mut sampler, 1, &(0..vocab as u32).collect::<Vec<_>>())?;
    backend.set_seen(&mut sampler, 1, &[3, 17, vocab as u32 - 1])?;
    let logits = backend.tensor([2, vocab], &[logits, logits].concat())?;
    let tokens = (0..12)
        .map(|position| {
            let greedy = SampleRow { slot: 2, position, sampling: Sampling::default() };
            backend.sample(&logits, &mut sampler, &[SampleRow { slot: 1, position, sampling: *sampling }, greedy])
        })
        .collect::<Result<Vec<_>>>()?;
    let ids = block_on(backend.read_tokens(&tokens))?;
    let mut log_probs = Vec::new();
    for tokens in &tokens {
        log_probs.extend(block_on(backend.read(&backend.token_logprobs_of_logits(&logits, tokens)?))?);
    }
    Ok((ids, log_probs))
}

/// The choice of tokens, which must be the very same; that damaged logits are noticed.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a choice differs.
pub fn choices_are_the_cpus<D: Driver>(cuda: &Cuda<D>, seed: u32) -> Result<()> {
    let plain = Sampling { temperature: 0.7, seed, ..Sampling::default() };
    for vocab in [29, 2003] {
        // Each a place of bf16 apart, so that rounding does not make ties.
        let mut logits: Vec<f32> =
            Inputs::new(seed).numbers(vocab, 12.0).iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        logits[vocab / 2] = f32::NEG_INFINITY;
        for sampling in [
            Sampling { repetition_penalty: 2.0, ..Sampling::default() },
            plain,
            Sampling { top_k: 20, ..plain },
            Sampling { top_p: 0.9, ..plain },
            Sampling { min_p: 0.05, ..plain },
            Sampling { top_k: 25, top_p: 0.8, min_p: 0.02, repetition_penalty: 1.3, temperature: 1.5, seed: 5 },
            Sampling { top_k: 1, ..plain },
        ] {
            let (expected, expected_log_probs) = choose(&Cpu::with_threads(1), &logits, &sampling)?;
            let (found, log_probs) = choose(cuda, &logits, &sampling)?;
            assert_eq!(found, expected, "{vocab} tokens, {sampling:?}");
            for (found, expected) in log_probs.iter().zip(&expected_log_probs) {
                assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found}, not {expected}");
            }
        }
        logits[3] = f32::NAN;
        for temperature in [0.0, 1.0] {
            let error = choose(cuda, &logits, &Sampling { temperature, ..plain }).expect_err("NaN is no token");
            assert!(error.to_string().contains("not a number"), "{error}");
        }
    }
    Ok(())
}
