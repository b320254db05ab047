//! The choice of the next tokens.

use std::mem;
use std::sync::Arc;

use super::{Cpu, Tensor, Tokens};
use crate::backend::{Device, SampleRow, Sampling, check, sampling_noise};
use crate::{Error, Result};

/// Which tokens each slot has seen.
#[derive(Debug, Clone)]
pub struct Sampler {
    vocab: usize,
    seen: Vec<Vec<bool>>,
}

impl Sampler {
    pub(super) fn new(vocab: usize, slots: usize) -> Self {
        Self { vocab, seen: vec![vec![false; vocab]; slots] }
    }
}

pub(super) fn set_seen(sampler: &mut Sampler, slot: usize, ids: &[u32]) -> Result<()> {
    check::seen(slot, ids, sampler.vocab, sampler.seen.len())?;
    let seen = &mut sampler.seen[slot];
    seen.fill(false);
    ids.iter().for_each(|id| seen[*id as usize] = true);
    Ok(())
}

pub(super) fn sample(cpu: &Cpu, logits: &Tensor, sampler: &mut Sampler, rows: &[SampleRow]) -> Result<Tokens> {
    check::sample(logits.shape, rows, sampler.vocab, sampler.seen.len())?;
    if logits.values.is_empty() || logits.values.iter().any(|v| v.is_nan() || *v == f32::INFINITY) {
        return Err(Error::Device {
            device: cpu.device().name,
            problem: "the model produced NaN or infinite logits; its weights are damaged or not for this configuration"
                .to_string(),
        });
    }
    // Threads share what was seen, and the sampler has it back once all have chosen.
    let seen = Arc::new(mem::take(&mut sampler.seen));
    let ids = cpu.team.map(rows.len(), {
        let (vocab, logits, seen, rows) = (sampler.vocab, logits.values.clone(), seen.clone(), rows.to_vec());
        move |index| choose(&logits[index * vocab..][..vocab], &seen[rows[index].slot], &rows[index])
    });
    sampler.seen = Arc::unwrap_or_clone(seen);
    rows.iter().zip(&ids).for_each(|(row, id)| sampler.seen[row.slot][*id as usize] = true);
    Ok(Tokens(ids.into()))
}

/// Chooses a token from one row.
fn choose(logits: &[f32], seen: &[bool], SampleRow { position, sampling, .. }: &SampleRow) -> u32 {
    let mut logits = logits.to_vec();
    if sampling.repetition_penalty != 1.0 {
        let penalty = sampling.repetition_penalty;
        for (logit, _) in logits.iter_mut().zip(seen).filter(|(_, seen)| **seen) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
    let best = argmax(logits.iter().copied());
    if sampling.temperature <= 0.0 {
        return best as u32;
    }
    // Relative to the largest, so that the coldest temperature does not overflow.
    let largest = logits[best];
    for logit in &mut logits {
        *logit = (*logit - largest) / sampling.temperature;
    }
    draw(&logits, threshold(&logits, sampling), sampling.seed, *position)
}

/// The token with the largest sum of logit, at least `threshold`, and a draw of the standard Gumbel distribution. Most
/// tokens are out of the question by a bound of their draw, which saves its two logarithms.
fn draw(logits: &[f32], threshold: f32, seed: u32, position: u32) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in logits.iter().copied().enumerate() {
        if logit < threshold || logit + LARGEST_GUMBEL <= best.1 {
            continue;
        }
        let noise = sampling_noise(seed, position, id as u32);
        if logit + gumbel_bound(noise) <= best.1 {
            continue;
        }
        let score = logit - (-noise.ln()).ln();
        if score > best.1 {
            best = (id, score);
        }
    }
    best.0 as u32
}

/// Above every draw: noise is at most 1 - 2⁻²⁴.
const LARGEST_GUMBEL: f32 = 16.7;

/// A number that -ln(-ln(noise)) does not exceed. -ln(noise) is at least 1 - noise, of which the exponent is known.
fn gumbel_bound(noise: f32) -> f32 {
    let exponent = ((1.0 - noise).to_bits() >> 23) as f32 - 127.0;
    0.01 - exponent * std::f32::consts::LN_2
}

/// Index of the largest value, the first of equal ones.
fn argmax(values: impl Iterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

/// The least logit that top-k, top-p and min-p keep; the largest logit is 0.
fn threshold(logits: &[f32], sampling: &Sampling) -> f32 {
    let mut threshold = f32::NEG_INFINITY;
    let top_k = sampling.top_k as usize;
    if top_k > 0 && top_k < logits.len() {
        let mut order = logits.to_vec();
        threshold = *order.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a)).1;
    }
    if sampling.top_p < 1.0 {
        let mut kept: Vec<f32> = logits.iter().copied().filter(|logit| *logit >= threshold).collect();
        threshold = nucleus(&mut kept, f64::from(sampling.top_p));
    }
    if sampling.min_p > 0.0 {
        threshold = threshold.max(sampling.min_p.ln());
    }
    threshold.min(0.0)
}

/// The largest of `logits` such that those not below it have `share` of all the probability (Holtzman et al.,
/// arXiv 1904.09751). Halves the candidates instead of sorting them.
fn nucleus(logits: &mut [f32], share: f64) -> f32 {
    let mass = |logits: &[f32]| logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>();
    let mut missing = share * mass(logits);
    let mut candidates = logits;
    let mut threshold = 0.0;
    while !candidates.is_empty() {
        let (above, middle, below) = candidates.select_nth_unstable_by(candidates.len() / 2, |a, b| b.total_cmp(a));
        let mass_above = mass(above);
        if mass_above >= missing {
            candidates = above;
            continue;
        }
        threshold = *middle;
        missing -= mass_above + mass(&[*middle]);
        if missing <= 0.0 {
            break;
        }
        candidates = below;
    }
    threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(logits: &[f32], sampling: &Sampling, position: u32) -> u32 {
        choose(logits, &vec![false; logits.len()], &SampleRow { slot: 0, position, sampling: *sampling })
    }

    /// How often each of the tokens is drawn over `draws` positions.
    fn frequencies(logits: &[f32], sampling: &Sampling, draws: u32) -> Vec<f64> {
        let mut counts = vec![0; logits.len()];
        for position in 0..draws {
            counts[draw(logits, sampling, position) as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(draws)).collect()
    }

    const HOT: Sampling =
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 3 };

    fn logs(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    /// Tokens that are ever drawn.
    fn support(probabilities: &[f32], sampling: Sampling) -> Vec<usize> {
        let found = frequencies(&logs(probabilities), &sampling, 400);
        (0..found.len()).filter(|id| found[*id] > 0.0).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draw(&[0.0, 2.0, -1.0, 2.0], &Sampling::default(), 0), 1);
        assert_eq!(draw(&[f32::NEG_INFINITY, f32::NEG_INFINITY], &Sampling::default(), 0), 0);
    }

    #[test]
    fn the_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens() {
        let cpu = Cpu::with_threads(1);
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let row = SampleRow { slot: 0, position: 0, sampling };
        let mut sampler = Sampler::new(3, 1);
        let mut choose = |logits: [f32; 3], seen: &[u32]| {
            set_seen(&mut sampler, 0, seen).unwrap();
            sample(&cpu, &Tensor::new([1, 3], logits.to_vec()), &mut sampler, &[row]).unwrap().0[0]
        };
        assert_eq!(choose([3.0, 2.0, 1.6], &[]), 0);
        assert_eq!(choose([3.0, 2.0, 1.6], &[0]), 1); // 1.5, 2, 1.6
        assert_eq!(choose([3.0, 2.0, 1.6], &[0, 1]), 2); // 1.5, 1, 1.6
        assert_eq!(choose([-1.0, -1.5, -9.0], &[0]), 1); // -2, -1.5
    }

    #[test]
    fn the_chosen_token_counts_as_seen() {
        let cpu = Cpu::with_threads(1);
        let sampling = Sampling { repetition_penalty: 4.0, ..Sampling::default() };
        let logits = Tensor::new([1, 2], vec![2.0, 1.0]);
        let mut sampler = Sampler::new(2, 1);
        let row = SampleRow { slot: 0, position: 0, sampling };
        let ids: Vec<u32> = (0..3).map(|_| sample(&cpu, &logits, &mut sampler, &[row]).unwrap().0[0]).collect();
        assert_eq!(ids, [0, 1, 0]);
    }

    #[test]
    fn a_row_is_chosen_from_as_if_it_were_alone() {
        let (cpu, vocab) = (Cpu::with_threads(1), 40);
        let penalised = Sampling { repetition_penalty: 1.7, ..HOT };
        let samplings = [Sampling::default(), HOT, Sampling { top_k: 3, seed: 9, ..penalised }, penalised];
        let logits: Vec<f32> = (0..4 * vocab).map(|i| 4.0 * sampling_noise(1, 0, i as u32)).collect();
        // Slots in another order than rows, each with a past of its own.
        let rows: Vec<SampleRow> = [2, 0, 3, 1]
            .into_iter()
            .zip(samplings)
            .zip(5..)
            .map(|((slot, sampling), position)| SampleRow { slot, position, sampling })
            .collect();
        let seen = |slot: usize| (0..vocab as u32).filter(|id| id % 4 == slot as u32).collect::<Vec<_>>();
        let mut together = Sampler::new(vocab, 4);
        (0..4).for_each(|slot| set_seen(&mut together, slot, &seen(slot)).unwrap());
        for _ in 0..3 {
            let mut alone = together.clone();
            let tensor = Tensor::new([4, vocab], logits.clone());
            let found = sample(&cpu, &tensor, &mut together, &rows).unwrap();
            for ((row, logits), found) in rows.iter().zip(logits.chunks(vocab)).zip(&*found.0) {
                let logits = Tensor::new([1, vocab], logits.to_vec());
                assert_eq!(sample(&cpu, &logits, &mut alone, &[*row]).unwrap().0[0], *found, "{row:?}");
            }
            assert_eq!(together.seen, alone.seen);
        }
        let twice = sample(&cpu, &Tensor::new([2, vocab], vec![0.0; 2 * vocab]), &mut together, &[rows[0]; 2]);
        assert!(twice.unwrap_err().to_string().contains("slot 2"));
    }

    #[test]
    fn draws_have_the_probabilities_of_the_softmax() {
        // Chi-square with 3 degrees of freedom: above 16.3 once in a thousand.
        let draws = 20_000;
        for (temperature, weights) in [(1.0, [0.5f64, 0.25, 0.2, 0.05]), (2.0, [0.5f64, 0.25, 0.2, 0.05])] {
            let logits: Vec<f32> = weights.iter().map(|p| p.ln() as f32 + 7.0).collect();
            let tempered: Vec<f64> = weights.iter().map(|p| p.powf(1.0 / f64::from(temperature))).collect();
            let sum: f64 = tempered.iter().sum();
            let found = frequencies(&logits, &Sampling { temperature, ..HOT }, draws);
            let chi_square: f64 = found
                .iter()
                .zip(&tempered)
                .map(|(found, p)| (found - p / sum).powi(2) / (p / sum) * f64::from(draws))
                .sum();
            assert!(chi_square < 16.3, "temperature {temperature}: {found:?}, chi-square {chi_square}");
        }
    }

    #[test]
    fn the_bound_of_a_draw_is_one_and_is_close() {
        let mut state = 1;
        let noises = (0..200_000).map(|_| {
            state = crate::backend::pcg_hash(state);
            ((state >> 9) as f32 + 0.5) / 8_388_608.0
        });
        let ends = [0.5, 1.5, 8_388_606.5, 8_388_607.5].map(|value: f32| value / 8_388_608.0);
        for noise in noises.chain(ends) {
            let (draw, bound) = (-(-noise.ln()).ln(), gumbel_bound(noise));
            assert!(draw <= bound && draw <= LARGEST_GUMBEL, "{noise}: {draw}, not at most {bound}");
            assert!(noise < 0.5 || bound < draw + 1.1, "{noise}: {draw}, far from {bound}");
        }
    }

    #[test]
    fn what_the_bound_leaves_out_is_never_drawn() {
        for seed in 0..300 {
            let logits: Vec<f32> = (0..500).map(|id| 12.0 * (sampling_noise(7, seed, id) - 1.0)).collect();
            let scores = logits.iter().zip(0..).map(|(logit, id)| logit - (-sampling_noise(seed, 3, id).ln()).ln());
            let expected = argmax(scores) as u32;
            assert_eq!(super::draw(&logits, f32::NEG_INFINITY, seed, 3), expected, "seed {seed}");
        }
    }

    #[test]
    fn draws_follow_the_documented_formula() {
        let logits = logs(&[0.3, 0.3, 0.2, 0.1, 0.1]);
        for position in 0..100 {
            let expected = (0..5u32)
                .max_by(|a, b| {
                    let value = |id: u32| {
                        let u = f64::from(sampling_noise(9, position, id));
                        f64::from(logits[id as usize]) / 0.7 - (-u.ln()).ln()
                    };
                    value(*a).total_cmp(&value(*b))
                })
                .unwrap();
            assert_eq!(draw(&logits, &Sampling { temperature: 0.7, seed: 9, ..HOT }, position), expected);
        }
    }

    #[test]
    fn seeds_and_positions_change_the_draw() {
        let logits = [0.0; 64];
        let run = |seed| (0..20).map(|position| draw(&logits, &Sampling { seed, ..HOT }, position)).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(1).iter().any(|id| *id != run(1)[0]));
    }

    #[test]
    fn top_k_keeps_ties() {
        let p = [0.1, 0.4, 0.2, 0.2, 0.1];
        assert_eq!(support(&p, Sampling { top_k: 1, ..HOT }), [1]);
        assert_eq!(support(&p, Sampling { top_k: 2, ..HOT }), [1, 2, 3]);
        assert_eq!(support(&p, Sampling { top_k: 9, ..HOT }), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        let p = [0.05, 0.4, 0.1, 0.25, 0.2];
        assert_eq!(support(&p, Sampling { top_p: 0.0, ..HOT }), [1]);
        assert_eq!(support(&p, Sampling { top_p: 0.39, ..HOT }), [1]);
        assert_eq!(support(&p, Sampling { top_p: 0.45, ..HOT }), [1, 3]);
        assert_eq!(support(&p, Sampling { top_p: 0.8, ..HOT }), [1, 3, 4]);
        assert_eq!(support(&p, Sampling { top_p: 0.9, ..HOT }), [1, 2, 3, 4]);
        // After top-k the mass is that of the tokens left: 0.4 of 0.65 is 62 %.
        assert_eq!(support(&p, Sampling { top_k: 2, top_p: 0.6, ..HOT }), [1]);
        assert_eq!(support(&p, Sampling { top_k: 2, top_p: 0.65, ..HOT }), [1, 3]);
        // Ties stay together.
        assert_eq!(support(&[0.4, 0.3, 0.3], Sampling { top_p: 0.6, ..HOT }), [0, 1, 2]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable() {
        let p = [0.5, 0.3, 0.15, 0.05];
        assert_eq!(support(&p, Sampling { min_p: 0.5, ..HOT }), [0, 1]);
        assert_eq!(support(&p, Sampling { min_p: 0.25, ..HOT }), [0, 1, 2]);
        assert_eq!(support(&p, Sampling { min_p: 2.0, ..HOT }), [0]);
        // The probabilities are those after the temperature: relative to the first 1, 0.77, 0.55, 0.32 at 2, and
        // 1, 0.36, 0.09, 0.01 at 0.5.
        assert_eq!(support(&p, Sampling { min_p: 0.4, temperature: 2.0, ..HOT }), [0, 1, 2]);
        assert_eq!(support(&p, Sampling { min_p: 0.25, temperature: 0.5, ..HOT }), [0, 1]);
    }

    #[test]
    fn a_nearly_frozen_temperature_is_greedy() {
        assert_eq!(draw(&[1.0, 30.0, 29.0], &Sampling { temperature: 1e-38, ..HOT }, 4), 1);
    }

    #[test]
    fn logits_that_are_not_numbers_are_an_error() {
        let cpu = Cpu::with_threads(1);
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = Tensor::new([1, 2], vec![0.0, bad]);
            let row = SampleRow { slot: 0, position: 0, sampling: Sampling::default() };
            let error = sample(&cpu, &logits, &mut Sampler::new(2, 1), &[row]).unwrap_err();
            assert!(matches!(&error, Error::Device { problem, .. } if problem.contains("NaN")), "{error}");
        }
        assert!(set_seen(&mut Sampler::new(2, 1), 0, &[2]).is_err());
        assert!(set_seen(&mut Sampler::new(2, 1), 1, &[1]).is_err());
    }
}
