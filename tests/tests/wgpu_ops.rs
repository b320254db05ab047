//! Every operation of the wgpu backend against the formula in its documentation, computed here in f64, with all the
//! kernel variants that the adapter can run.

use paddock_engine::Result;
use paddock_engine::backend::wgpu::{Kernels, KvEncoding, Options, Wgpu};
use paddock_engine::backend::{Backend, HeadLayout, Sampling, Segments, WeightPart, sampling_noise};
use paddock_engine::weights::Encoding;

/// f32 sums of a few hundred products of values near 1, in any order.
const TOLERANCE: f64 = 2e-5;
/// An f16 cache rounds keys and values to 11 bits.
const F16_CACHE_TOLERANCE: f64 = 3e-3;

/// Runs `test` on each variant of the kernels; skips aloud without an adapter.
fn on_devices(test: impl Fn(&Wgpu) -> Result<()>) {
    let variants = [
        (true, Kernels::Workgroup, KvEncoding::F32),
        (true, Kernels::Serial, KvEncoding::F16),
        (false, Kernels::Workgroup, KvEncoding::F32),
        (false, Kernels::Serial, KvEncoding::F16),
    ];
    for (portable, kernels, kv) in variants {
        let options = Options { portable, kernels: Some(kernels), kv: Some(kv), ..Options::default() };
        match pollster::block_on(Wgpu::new(options)) {
            Ok(gpu) => {
                test(&gpu).unwrap_or_else(|error| panic!("{error} ({:?}, {options:?})", gpu.device()));
            }
            Err(error) => paddock_tests::skip("gpu", &error.to_string()),
        }
    }
}

/// Deterministic values in [-1, 1).
fn noise(seed: u32, count: usize) -> Vec<f32> {
    (0..count).map(|i| sampling_noise(seed, 0, i as u32) * 2.0 - 1.0).collect()
}

fn close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(1.0), "{what}[{i}]: {got}, expected {expected}");
    }
}

fn read(gpu: &Wgpu, x: &<Wgpu as Backend>::Tensor) -> Vec<f32> {
    pollster::block_on(gpu.read(x)).expect("a tensor can be read")
}

fn f32_weight(gpu: &Wgpu, rows: usize, cols: usize, values: &[f32]) -> Result<<Wgpu as Backend>::Weight> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    weight(gpu, cols, &[(rows, Encoding::F32, bytes)])
}

fn weight(gpu: &Wgpu, cols: usize, parts: &[(usize, Encoding, Vec<u8>)]) -> Result<<Wgpu as Backend>::Weight> {
    let list: Vec<_> =
        parts.iter().map(|(rows, encoding, _)| WeightPart { rows: *rows, encoding: *encoding }).collect();
    let mut weight = gpu.create_weight("test", cols, &list)?;
    let mut first = 0;
    for (rows, _, bytes) in parts {
        // In two writes, to see that rows land where they belong.
        let half = rows / 2 * (bytes.len() / rows);
        gpu.write_rows(&mut weight, first, &bytes[..half])?;
        gpu.write_rows(&mut weight, first + rows / 2, &bytes[half..])?;
        first += rows;
    }
    Ok(weight)
}

/// A row of blocks and what they mean: (encoding, bytes, values).
fn encoded(encoding: Encoding, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let half = |value: f32| half::f16::from_f32(value);
    let mut bytes = Vec::new();
    let mut meaning = Vec::new();
    match encoding {
        Encoding::F32 => {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            meaning.extend(values);
        }
        Encoding::F16 => {
            for value in values {
                bytes.extend(half(*value).to_le_bytes());
                meaning.push(half(*value).to_f32());
            }
        }
        Encoding::BF16 => {
            for value in values {
                let held = half::bf16::from_f32(*value);
                bytes.extend(held.to_le_bytes());
                meaning.push(held.to_f32());
            }
        }
        Encoding::Q8_0 => {
            for block in values.chunks(32) {
                let scale = half(1.0 / 127.0);
                bytes.extend(scale.to_le_bytes());
                for value in block {
                    let quant = (value * 127.0).round() as i8;
                    bytes.push(quant as u8);
                    meaning.push(scale.to_f32() * f32::from(quant));
                }
            }
        }
        Encoding::Q4_1 => {
            for block in values.chunks(32) {
                let (scale, minimum) = (half(2.0 / 15.0), half(-1.0));
                bytes.extend(scale.to_le_bytes());
                bytes.extend(minimum.to_le_bytes());
                let quants: Vec<u8> = block.iter().map(|value| ((value + 1.0) * 7.5).round() as u8).collect();
                bytes.extend((0..16).map(|i| quants[i] | quants[i + 16] << 4));
                meaning.extend(quants.iter().map(|q| scale.to_f32() * f32::from(*q) + minimum.to_f32()));
            }
        }
        other => panic!("{other:?} is not made here"),
    }
    (bytes, meaning)
}

/// x · weightᵀ + bias.
fn linear(x: &[f64], weight: &[f32], cols: usize, bias: Option<&[f32]>) -> Vec<f64> {
    let rows = weight.len() / cols;
    x.chunks(cols)
        .flat_map(|x| {
            (0..rows).map(move |row| {
                let dot: f64 = weight[row * cols..][..cols].iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
                dot + bias.map_or(0.0, |bias| f64::from(bias[row]))
            })
        })
        .collect()
}

fn rms_norm(x: &[f32], gain: &[f32], eps: f64) -> Vec<f64> {
    x.chunks(gain.len())
        .flat_map(|row| {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / row.len() as f64;
            row.iter().zip(gain).map(move |(v, g)| f64::from(*v) / (mean + eps).sqrt() * f64::from(*g))
        })
        .collect()
}

fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
    x.chunks(gain.len())
        .flat_map(|row| {
            let count = row.len() as f64;
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
            row.iter()
                .zip(gain)
                .zip(bias)
                .map(move |((v, g), b)| (f64::from(*v) - mean) / (var + eps).sqrt() * f64::from(*g) + f64::from(*b))
        })
        .collect()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn silu_mul(gate_up: &[f64], cols: usize) -> Vec<f64> {
    gate_up
        .chunks(2 * cols)
        .flat_map(|row| (0..cols).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[cols + i]))
        .collect()
}

const ENCODINGS: [Encoding; 5] = [Encoding::F32, Encoding::F16, Encoding::BF16, Encoding::Q8_0, Encoding::Q4_1];

#[test]
fn linear_and_its_fusions_multiply_every_encoding() {
    on_devices(|gpu| {
        let (cols, half) = (96, 35);
        let out = 2 * half;
        let gain = noise(3, cols);
        let gain_weight = f32_weight(gpu, 1, cols, &gain)?;
        let bias = noise(4, out);
        let bias_weight = f32_weight(gpu, 1, out, &bias)?;
        for encoding in ENCODINGS {
            let (bytes, values) = encoded(encoding, &noise(1, cols * out));
            let weight = weight(gpu, cols, &[(out, encoding, bytes)])?;
            for rows in [1, 3, 5, 70] {
                let what = format!("{encoding:?}, {rows} rows");
                let x = noise(2, rows * cols);
                let tensor = gpu.tensor([rows, cols], &x)?;
                let got = read(gpu, &gpu.linear(&tensor, &weight, Some(&bias_weight))?);
                close(&what, &got, &linear(&doubles(&x), &values, cols, Some(&bias)), TOLERANCE);
                let got = read(gpu, &gpu.linear(&tensor, &weight, None)?);
                close(&what, &got, &linear(&doubles(&x), &values, cols, None), TOLERANCE);

                let residual = noise(5, rows * out);
                let residual_tensor = gpu.tensor([rows, out], &residual)?;
                let got = read(gpu, &gpu.linear_add(&tensor, &weight, Some(&bias_weight), &residual_tensor)?);
                let mut expected = linear(&doubles(&x), &values, cols, Some(&bias));
                expected.iter_mut().zip(&residual).for_each(|(sum, value)| *sum += f64::from(*value));
                close(&format!("{what}, add"), &got, &expected, TOLERANCE);

                let normal = rms_norm(&x, &gain, 1e-5);
                let got = read(gpu, &gpu.rms_norm_linear(&tensor, &gain_weight, 1e-5, &weight, Some(&bias_weight))?);
                let expected = linear(&normal, &values, cols, Some(&bias));
                close(&format!("{what}, norm"), &got, &expected, TOLERANCE);

                let got = read(gpu, &gpu.rms_norm_gate_up(&tensor, &gain_weight, 1e-5, &weight, Some(&bias_weight))?);
                close(&format!("{what}, gate_up"), &got, &silu_mul(&expected, half), TOLERANCE);
            }
        }
        Ok(())
    });
}

#[test]
fn a_weight_takes_the_widest_of_its_parts() {
    on_devices(|gpu| {
        let cols = 64;
        let (four, mut values) = encoded(Encoding::Q4_1, &noise(1, cols * 8));
        let (eight, more) = encoded(Encoding::Q8_0, &noise(2, cols * 4));
        values.extend(more);
        let fused = weight(gpu, cols, &[(8, Encoding::Q4_1, four), (4, Encoding::Q8_0, eight)])?;
        let x = noise(3, cols);
        let got = read(gpu, &gpu.linear(&gpu.tensor([1, cols], &x)?, &fused, None)?);
        close("q4 and q8", &got, &linear(&doubles(&x), &values, cols, None), TOLERANCE);
        Ok(())
    });
}

#[test]
fn embed_reads_rows_of_every_encoding() {
    on_devices(|gpu| {
        let (cols, rows) = (96, 33);
        for encoding in ENCODINGS {
            let (bytes, values) = encoded(encoding, &noise(1, cols * rows));
            let table = weight(gpu, cols, &[(rows, encoding, bytes)])?;
            let ids = [32_u32, 0, 7, 7];
            let got = read(gpu, &gpu.embed(&table, &gpu.tokens(&ids)?)?);
            let expected: Vec<f64> =
                ids.iter().flat_map(|id| doubles(&values[*id as usize * cols..][..cols])).collect();
            close(&format!("{encoding:?}"), &got, &expected, 1e-6);
        }
        Ok(())
    });
}

#[test]
fn plain_operations_on_rows() {
    on_devices(|gpu| {
        let (rows, cols) = (5, 68);
        let (a, b, gain) = (noise(1, rows * cols), noise(2, rows * cols), noise(3, cols));
        let tensor = gpu.tensor([rows, cols], &a)?;
        let normal = gpu.rms_norm(&tensor, &f32_weight(gpu, 1, cols, &gain)?, 1e-6)?;
        close("rms_norm", &read(gpu, &normal), &rms_norm(&a, &gain, 1e-6), TOLERANCE);
        let bias = noise(4, cols);
        let (gains, biases) = (f32_weight(gpu, 1, cols, &gain)?, f32_weight(gpu, 1, cols, &bias)?);
        // Far from 0, where a variance of squares less the squared mean would lose its digits.
        let far: Vec<f32> = a.iter().map(|v| v + 30.0).collect();
        let centred = gpu.layer_norm(&gpu.tensor([rows, cols], &far)?, &gains, &biases, 1e-5)?;
        close("layer_norm", &read(gpu, &centred), &layer_norm(&far, &gain, &bias, 1e-5), 5.0 * TOLERANCE);
        let positive: Vec<f64> = a.iter().map(|v| f64::from(v.max(0.0))).collect();
        close("relu", &read(gpu, &gpu.relu(&tensor)?), &positive, 0.0);
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(a + b)).collect();
        close("add", &read(gpu, &gpu.add(&tensor, &gpu.tensor([rows, cols], &b)?)?), &sum, 0.0);
        close("silu_mul", &read(gpu, &gpu.silu_mul(&tensor)?), &silu_mul(&doubles(&a), cols / 2), TOLERANCE);
        let picked = [4, 0, 4];
        let expected: Vec<f64> = picked.iter().flat_map(|row| doubles(&a[row * cols..][..cols])).collect();
        close("select_rows", &read(gpu, &gpu.select_rows(&tensor, &picked)?), &expected, 0.0);
        Ok(())
    });
}

const HEADS: HeadLayout = HeadLayout { heads: 6, kv_heads: 2, head_dim: 16 };

fn frequencies() -> Vec<f32> {
    (0..HEADS.head_dim / 2).map(|i| 10_000_f64.powf(-(i as f64) / 8.0) as f32).collect()
}

fn rope(qkv: &[f32], segments: &Segments) -> Vec<f64> {
    let mut out = doubles(qkv);
    let half = HEADS.head_dim / 2;
    for (row, position) in out.chunks_mut(HEADS.qkv_dim()).zip(segments.positions()) {
        for head in 0..HEADS.heads + HEADS.kv_heads {
            for (i, frequency) in frequencies().into_iter().enumerate() {
                // The product is f32, as in transformers.
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                let first = head * HEADS.head_dim + i;
                let (a, b) = (row[first], row[first + half]);
                row[first] = a * cos - b * sin;
                row[first + half] = b * cos + a * sin;
            }
        }
    }
    out
}

/// Attention of the rows of one document, `rows` its rotated fused rows; results of the last `len` rows.
fn attention(rows: &[f64], len: usize) -> Vec<f64> {
    let width = HEADS.qkv_dim();
    let count = rows.len() / width;
    let mut out = Vec::new();
    for row in count - len..count {
        for head in 0..HEADS.heads {
            let q = &rows[row * width + head * HEADS.head_dim..][..HEADS.head_dim];
            let kv = head / (HEADS.heads / HEADS.kv_heads) * HEADS.head_dim;
            let k = |i: usize| &rows[i * width + HEADS.q_dim() + kv..][..HEADS.head_dim];
            let v = |i: usize| &rows[i * width + HEADS.q_dim() + HEADS.kv_dim() + kv..][..HEADS.head_dim];
            let weights: Vec<f64> = (0..=row)
                .map(|i| (q.iter().zip(k(i)).map(|(q, k)| q * k).sum::<f64>() / (HEADS.head_dim as f64).sqrt()).exp())
                .collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..HEADS.head_dim).map(|d| (0..=row).map(|i| weights[i] / total * v(i)[d]).sum::<f64>()));
        }
    }
    out
}

#[test]
fn rope_turns_far_positions_precisely() {
    on_devices(|gpu| {
        let mut segments = Segments::default();
        segments.push(3, 0, 0);
        segments.push(2, 8000, 1);
        let qkv = noise(1, segments.rows() * HEADS.qkv_dim());
        let tensor = gpu.tensor([segments.rows(), HEADS.qkv_dim()], &qkv)?;
        let frequencies = gpu.tensor([1, HEADS.head_dim / 2], &frequencies())?;
        let got = read(gpu, &gpu.rope(&tensor, HEADS, &segments, &frequencies)?);
        close("rope", &got, &rope(&qkv, &segments), 2e-6);
        Ok(())
    });
}

#[test]
fn attention_keeps_documents_apart() {
    on_devices(|gpu| {
        let segments = Segments::documents(&[3, 1, 90]);
        let width = HEADS.qkv_dim();
        let qkv = noise(1, segments.rows() * width);
        let got = read(gpu, &gpu.attention(&gpu.tensor([segments.rows(), width], &qkv)?, HEADS, &segments)?);
        let rows = doubles(&qkv);
        let expected: Vec<f64> = segments
            .iter()
            .flat_map(|segment| attention(&rows[segment.start * width..][..segment.len * width], segment.len))
            .collect();
        close("attention", &got, &expected, TOLERANCE);
        Ok(())
    });
}

#[test]
fn cached_attention_equals_full_attention() {
    on_devices(|gpu| {
        // Two sequences: a prompt of each together, then steps of both together and of one alone, short and far apart
        // enough that the keys are split.
        let width = HEADS.qkv_dim();
        let frequencies = gpu.tensor([1, HEADS.head_dim / 2], &frequencies())?;
        let mut cache = gpu.kv_cache(2, HEADS, 2, 700)?;
        let tolerance = if cache.encoding() == KvEncoding::F16 { F16_CACHE_TOLERANCE } else { TOLERANCE };
        let mut documents = [Vec::new(), Vec::new()];
        let mut lengths = [0, 0];
        for (step, added) in [[70, 3], [1, 1], [1, 1], [1, 0], [2, 1], [500, 0], [1, 1], [1, 0]].into_iter().enumerate()
        {
            let mut segments = Segments::default();
            for (sequence, len) in added.into_iter().enumerate() {
                segments.push(len, lengths[sequence], sequence);
                lengths[sequence] += len;
            }
            let qkv = noise(step as u32, segments.rows() * width);
            let rotated = rope(&qkv, &segments);
            let tensor = gpu.tensor([segments.rows(), width], &qkv)?;
            let out = gpu.rope_attention_cached(&mut cache, 1, &tensor, HEADS, &segments, &frequencies)?;
            let mut expected = Vec::new();
            for segment in segments.iter() {
                documents[segment.sequence].extend(&rotated[segment.start * width..][..segment.len * width]);
                expected.extend(attention(&documents[segment.sequence], segment.len));
            }
            close(&format!("step {step}"), &read(gpu, &out), &expected, tolerance);
        }
        Ok(())
    });
}

/// Scores of the tokens that a sampling keeps, and those it drops as None: the definition, with a sort.
fn kept(logits: &[f32], seen: &[u32], sampling: &Sampling) -> Vec<Option<f64>> {
    let mut scores = doubles(logits);
    for id in seen {
        let score = &mut scores[*id as usize];
        let penalty = f64::from(sampling.repetition_penalty);
        *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
    }
    scores.iter_mut().for_each(|score| *score /= f64::from(sampling.temperature));
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    let highest = scores[order[0]];
    let total: f64 = order.iter().map(|i| (scores[*i] - highest).exp()).sum();
    let mut mass = 0.0;
    order.retain(|i| {
        let before = mass;
        mass += (scores[*i] - highest).exp() / total;
        before < f64::from(sampling.top_p)
    });
    order.retain(|i| (scores[*i] - highest).exp() >= f64::from(sampling.min_p));
    let mut out = vec![None; scores.len()];
    order.into_iter().for_each(|i| out[i] = Some(scores[i]));
    out
}

fn drawn(scores: &[Option<f64>], sampling: &Sampling, position: u32) -> u32 {
    let noisy = scores.iter().enumerate().filter_map(|(id, score)| {
        let noise = f64::from(sampling_noise(sampling.seed, position, id as u32));
        score.map(|score| (id as u32, score - (-noise.ln()).ln()))
    });
    noisy.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |best| best.0)
}

#[test]
fn sample_draws_what_a_sort_would() {
    on_devices(|gpu| {
        let vocab = 5003;
        let logits: Vec<f32> = noise(1, vocab).iter().map(|value| value * 12.0).collect();
        let tensor = gpu.tensor([1, vocab], &logits)?;
        let plain = Sampling { temperature: 0.7, seed: 11, ..Sampling::default() };
        let samplings = [
            plain,
            Sampling { top_k: 40, ..plain },
            Sampling { top_p: 0.9, ..plain },
            Sampling { min_p: 0.05, ..plain },
            Sampling { top_k: 300, top_p: 0.8, min_p: 0.02, repetition_penalty: 1.3, temperature: 1.5, seed: 5 },
            Sampling { top_k: 1, ..plain },
        ];
        for sampling in samplings {
            let mut sampler = gpu.sampler(vocab)?;
            let mut seen = vec![3_u32, 4999, 17];
            gpu.mark_seen(&mut sampler, &seen)?;
            let mut tokens = Vec::new();
            let mut expected = Vec::new();
            for position in 0..12 {
                tokens.push(gpu.sample(&tensor, &mut sampler, &sampling, position)?);
                expected.push(drawn(&kept(&logits, &seen, &sampling), &sampling, position));
                if !seen.contains(&expected[position as usize]) {
                    seen.push(expected[position as usize]);
                }
            }
            let got = pollster::block_on(gpu.read_tokens(&tokens))?;
            assert_eq!(got, expected, "{sampling:?}");
        }
        Ok(())
    });
}

#[test]
fn greedy_takes_the_lowest_of_equals_and_penalises_what_it_has_seen() {
    on_devices(|gpu| {
        let mut logits = vec![-1.0_f32; 3000];
        for (id, value) in [(2999, 5.0), (40, 5.0), (1700, 4.0), (3, 4.5)] {
            logits[id] = value;
        }
        let tensor = gpu.tensor([1, 3000], &logits)?;
        let mut sampler = gpu.sampler(3000)?;
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut tokens = Vec::new();
        for position in 0..5 {
            tokens.push(gpu.sample(&tensor, &mut sampler, &sampling, position)?);
        }
        assert_eq!(pollster::block_on(gpu.read_tokens(&tokens))?, [40, 2999, 3, 1700, 40]);
        Ok(())
    });
}

#[test]
fn not_a_number_is_an_error() {
    on_devices(|gpu| {
        let mut logits = vec![0.0_f32; 300];
        logits[200] = f32::NAN;
        let tensor = gpu.tensor([1, 300], &logits)?;
        for temperature in [0.0, 1.0] {
            let mut sampler = gpu.sampler(300)?;
            let sampling = Sampling { temperature, top_p: 0.9, ..Sampling::default() };
            let token = gpu.sample(&tensor, &mut sampler, &sampling, 0)?;
            let error = pollster::block_on(gpu.read_tokens(&[token])).expect_err("NaN must not become a token");
            assert!(error.to_string().contains("not a number"), "{error}");
        }
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    on_devices(|gpu| {
        let x = gpu.tensor([2, 8], &noise(1, 16))?;
        let weight = f32_weight(gpu, 4, 12, &noise(1, 48))?;
        let error = gpu.linear(&x, &weight, None).err().expect("12 columns do not take 8");
        assert!(error.to_string().contains("x with 12 columns"), "{error}");
        assert!(gpu.select_rows(&x, &[2]).is_err());
        assert!(gpu.create_weight("odd", 33, &[WeightPart { rows: 2, encoding: Encoding::Q4_0 }]).is_err());
        assert!(gpu.create_weight("odd", 6, &[WeightPart { rows: 2, encoding: Encoding::F32 }]).is_err());
        Ok(())
    });
}
