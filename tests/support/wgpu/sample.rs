//! The choice of the next token.

use paddock_engine::Result;
use paddock_engine::backend::{Device, Sample, SampleRow, Sampling, Wgpu, sampling_noise};

use super::{doubles, noise};

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

/// Temperature, top-k, top-p, min-p and the penalty.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn sample_draws_what_a_sort_would(gpu: &Wgpu) -> Result<()> {
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
        let mut sampler = gpu.sampler(vocab, 1)?;
        let mut seen = vec![3_u32, 4999, 17];
        gpu.set_seen(&mut sampler, 0, &[5, 4999])?;
        gpu.set_seen(&mut sampler, 0, &seen)?;
        let mut tokens = Vec::new();
        let mut expected = Vec::new();
        for position in 0..12 {
            tokens.push(gpu.sample(&tensor, &mut sampler, &[SampleRow { slot: 0, position, sampling }])?);
            expected.push(drawn(&kept(&logits, &seen, &sampling), &sampling, position));
            if !seen.contains(&expected[position as usize]) {
                seen.push(expected[position as usize]);
            }
        }
        let got = pollster::block_on(gpu.read_tokens(&tokens))?;
        assert_eq!(got, expected, "{sampling:?}");
    }
    Ok(())
}

/// Several rows in one call, some greedy and some drawn, each with a slot that has seen something else.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a row's token is not the one it gives alone.
pub fn rows_are_sampled_as_if_each_were_alone(gpu: &Wgpu) -> Result<()> {
    let vocab = 5003;
    let logits: Vec<f32> = noise(2, 4 * vocab).iter().map(|value| value * 12.0).collect();
    let drawn = Sampling { temperature: 0.9, top_k: 200, top_p: 0.95, seed: 3, ..Sampling::default() };
    let penalised = Sampling { repetition_penalty: 2.5, ..Sampling::default() };
    let samplings = [drawn, penalised, Sampling { seed: 4, min_p: 0.01, ..drawn }, Sampling { top_k: 0, ..drawn }];
    let row = |index: usize, position: u32| SampleRow {
        slot: [2, 0, 3, 1][index],
        position: position + index as u32,
        sampling: samplings[index],
    };
    let sampler = || -> Result<_> {
        let mut sampler = gpu.sampler(vocab, 4)?;
        for slot in 0..4 {
            let seen: Vec<u32> = (0..vocab as u32).filter(|id| id % 4 == slot).collect();
            gpu.set_seen(&mut sampler, slot as usize, &seen)?;
        }
        Ok(sampler)
    };
    let (mut together, mut alone) = (sampler()?, sampler()?);
    let all = gpu.tensor([4, vocab], &logits)?;
    let (mut got, mut expected) = (Vec::new(), Vec::new());
    for position in 0..6 {
        let rows: Vec<SampleRow> = (0..4).map(|index| row(index, position)).collect();
        got.push(gpu.sample(&all, &mut together, &rows)?);
        for (row, logits) in rows.iter().zip(logits.chunks(vocab)) {
            expected.push(gpu.sample(&gpu.tensor([1, vocab], logits)?, &mut alone, &[*row])?);
        }
    }
    let [got, expected] = [got, expected].map(|tokens| pollster::block_on(gpu.read_tokens(&tokens)));
    assert_eq!(got?, expected?);
    Ok(())
}

/// Choice without chance.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn greedy_takes_the_lowest_of_equals_and_penalises_what_it_has_seen(gpu: &Wgpu) -> Result<()> {
    let mut logits = vec![-1.0_f32; 3000];
    for (id, value) in [(2999, 5.0), (40, 5.0), (1700, 4.0), (3, 4.5)] {
        logits[id] = value;
    }
    let tensor = gpu.tensor([1, 3000], &logits)?;
    let mut sampler = gpu.sampler(3000, 1)?;
    let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
    let mut tokens = Vec::new();
    for position in 0..5 {
        tokens.push(gpu.sample(&tensor, &mut sampler, &[SampleRow { slot: 0, position, sampling }])?);
    }
    assert_eq!(pollster::block_on(gpu.read_tokens(&tokens))?, [40, 2999, 3, 1700, 40]);
    Ok(())
}

/// The penalty on logits below zero, which it must make smaller still.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn the_penalty_multiplies_negative_logits(gpu: &Wgpu) -> Result<()> {
    let mut logits = vec![-9.0_f32; 3000];
    for (id, value) in [(7, -1.0), (2040, -1.5), (31, -1.9)] {
        logits[id] = value;
    }
    let tensor = gpu.tensor([1, 3000], &logits)?;
    let mut sampler = gpu.sampler(3000, 1)?;
    gpu.set_seen(&mut sampler, 0, &[31])?;
    let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
    let mut tokens = Vec::new();
    for position in 0..3 {
        tokens.push(gpu.sample(&tensor, &mut sampler, &[SampleRow { slot: 0, position, sampling }])?);
    }
    // -1, -1.5, -3.8; then -2, -1.5, -3.8; then -2, -3, -3.8.
    assert_eq!(pollster::block_on(gpu.read_tokens(&tokens))?, [7, 2040, 7]);
    Ok(())
}

/// Logits that are no numbers.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn not_a_number_is_an_error(gpu: &Wgpu) -> Result<()> {
    let mut logits = vec![0.0_f32; 300];
    logits[200] = f32::NAN;
    let tensor = gpu.tensor([1, 300], &logits)?;
    for temperature in [0.0, 1.0] {
        let mut sampler = gpu.sampler(300, 1)?;
        let sampling = Sampling { temperature, top_p: 0.9, ..Sampling::default() };
        let token = gpu.sample(&tensor, &mut sampler, &[SampleRow { slot: 0, position: 0, sampling }])?;
        let error = pollster::block_on(gpu.read_tokens(&[token])).expect_err("NaN must not become a token");
        assert!(error.to_string().contains("not a number"), "{error}");
    }
    Ok(())
}
