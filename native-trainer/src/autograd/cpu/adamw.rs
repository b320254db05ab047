//! AdamW, fused: gradient, moments and parameter are read and written once.

use paddock_engine::Result;
use rayon::prelude::*;

use super::dense::{Bf16, widen};
use super::{Dense, PIECE, expect, vectorised};
use crate::optim::{AdamWStep, join, round_stochastically, rounding_noise, split};

pub(super) fn adamw(param: &mut Dense, grad: &Dense, moments: &mut [Dense; 2], step: &AdamWStep) -> Result<()> {
    for other in [grad.shape, moments[0].shape, moments[1].shape] {
        expect("adamw", "a gradient and moments", other, param.shape)?;
    }
    let [first, second] = moments;
    let moments = first.values.par_chunks_mut(PIECE).zip(second.values.par_chunks_mut(PIECE));
    let pieces = grad.values.par_chunks(PIECE).zip(moments).enumerate();
    match &mut param.bf16 {
        None => pieces.zip(param.values.par_chunks_mut(PIECE)).for_each(|((_, (grad, (first, second))), param)| {
            vectorised(|| {
                for (((param, grad), first), second) in param.iter_mut().zip(grad).zip(first).zip(second) {
                    step.update(param, *grad, first, second);
                }
            });
        }),
        Some(Bf16 { high, low: None }) => {
            pieces.zip(high.par_chunks_mut(PIECE)).for_each(|((piece, (grad, (first, second))), high)| {
                vectorised(|| {
                    let values = high.iter_mut().zip(grad).zip(first).zip(second).enumerate();
                    for (index, (((high, grad), first), second)) in values {
                        let mut value = widen(*high);
                        step.update(&mut value, *grad, first, second);
                        let index = step.first.wrapping_add((piece * PIECE + index) as u32);
                        *high = round_stochastically(value, rounding_noise(step.noise, index));
                    }
                });
            });
        }
        Some(Bf16 { high, low: Some(low) }) => {
            let halves = high.par_chunks_mut(PIECE).zip(low.par_chunks_mut(PIECE));
            pieces.zip(halves).for_each(|((_, (grad, (first, second))), (high, low))| {
                vectorised(|| {
                    let values = high.iter_mut().zip(low).zip(grad).zip(first).zip(second);
                    for ((((high, low), grad), first), second) in values {
                        let mut value = join(*high, *low);
                        step.update(&mut value, *grad, first, second);
                        (*high, *low) = split(value);
                    }
                });
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::cpu::testing::{dense, numbers};
    use crate::optim::{AdamW, Precision};

    const SHAPE: [usize; 2] = [3, 2 * PIECE / 3 + 5];

    /// The weights after ten small steps from the same bf16 values.
    fn trained(precision: Precision, noise: u32) -> Dense {
        let size = SHAPE[0] * SHAPE[1];
        let start: Vec<f32> = numbers(size, 1).into_iter().map(|v| half::bf16::from_f32(v).to_f32()).collect();
        let mut param = Dense::zeros("w", SHAPE, precision).unwrap();
        param.write(0, &start).unwrap();
        let mut moments = [dense(SHAPE, &vec![0.0; size]), dense(SHAPE, &vec![0.0; size])];
        for number in 1..=10 {
            let grad = dense(SHAPE, &numbers(size, 10 + number as u32));
            let mut step = AdamW::default().step(number, 1e-4, 1.0);
            step.noise = noise ^ number as u32;
            adamw(&mut param, &grad, &mut moments, &step).unwrap();
        }
        param
    }

    #[test]
    fn a_split_master_takes_the_steps_of_f32() {
        let (whole, halves) = (trained(Precision::F32, 0), trained(Precision::Bf16Split, 0));
        assert_eq!(halves.master().unwrap(), whole.values);
        let rounded: Vec<f32> = whole.values.iter().map(|value| widen(split(*value).0)).collect();
        assert_eq!(*halves.floats(), rounded);
    }

    #[test]
    fn stochastic_rounding_keeps_small_steps_on_average() {
        let (whole, rounded) = (trained(Precision::F32, 0), trained(Precision::Bf16Stochastic, 7));
        let size = whole.values.len() as f64;
        let moved = |values: &[f32]| -> f64 {
            values.iter().zip(&whole.values).map(|(a, b)| f64::from(a - b)).sum::<f64>() / size
        };
        // A single value is off by some units of the last place of bf16, 0.004 near 1; their mean is not.
        assert!(moved(&rounded.floats()).abs() < 4.0 * 0.004 / size.sqrt(), "{}", moved(&rounded.floats()));
        let nearest: Vec<f32> = whole.values.iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect();
        assert_ne!(*rounded.floats(), nearest);
        assert_ne!(trained(Precision::Bf16Stochastic, 8), rounded, "the noise is the seed's");
        assert_eq!(trained(Precision::Bf16Stochastic, 7), rounded);
    }
}
