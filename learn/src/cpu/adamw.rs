//! AdamW, fused: gradient, moments and parameter are read and written once, a block at a time.

use paddock_engine::Result;
use rayon::prelude::*;

use super::storage::PieceMut;
use super::{Dense, PIECE, expect, vectorised};
use crate::optim::{AdamWStep, MOMENT_BLOCK, rounding_noise};

pub(super) fn adamw(
    param: &mut Dense,
    grad: &Dense,
    moments: &mut [Dense; 2],
    squares: f64,
    step: &AdamWStep,
) -> Result<()> {
    for other in [grad.shape, moments[0].shape, moments[1].shape] {
        expect("adamw", "a gradient and moments", other, param.shape)?;
    }
    let scale = step.grad_scale(squares);
    let [first, second] = moments;
    let moments = first.pieces_mut().into_par_iter().zip(second.pieces_mut());
    let pieces = param.pieces_mut().into_par_iter().zip(grad.values.par_chunks(PIECE)).zip(moments);
    pieces.enumerate().for_each(|(piece, ((param, grad), (first, second)))| {
        vectorised(|| update(param, (grad, scale), first, second, step, piece * PIECE));
    });
    Ok(())
}

/// One piece, whose first value is the parameter's number `start`.
#[inline(always)]
fn update(
    mut param: PieceMut,
    (grad, scale): (&[f32], f32),
    mut first: PieceMut,
    mut second: PieceMut,
    step: &AdamWStep,
    start: usize,
) {
    let (mut params, mut firsts, mut seconds) = ([0.0; MOMENT_BLOCK], [0.0; MOMENT_BLOCK], [0.0; MOMENT_BLOCK]);
    for (block, grad) in grad.chunks(MOMENT_BLOCK).enumerate() {
        let places = block * MOMENT_BLOCK..block * MOMENT_BLOCK + grad.len();
        let (params, firsts, seconds) =
            (&mut params[..grad.len()], &mut firsts[..grad.len()], &mut seconds[..grad.len()]);
        param.load(places.clone(), params);
        first.load(places.clone(), firsts);
        second.load(places.clone(), seconds);
        for (((param, grad), first), second) in params.iter_mut().zip(grad).zip(&mut *firsts).zip(&mut *seconds) {
            step.update(param, *grad * scale, first, second);
        }
        // Each of the three has noise of its own.
        let noise = |stream: u32| {
            move |place: usize| {
                rounding_noise(step.noise.wrapping_add(stream), step.first.wrapping_add((start + place) as u32))
            }
        };
        param.store(places.clone(), params, noise(0));
        first.store(places.clone(), firsts, noise(0x9e37_79b9));
        second.store(places, seconds, noise(0x3c6e_f372));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{dense, numbers};
    use crate::optim::{AdamW, Moments, Precision, split};

    const SHAPE: [usize; 2] = [3, 2 * PIECE / 3 + 5];

    /// The weights after ten small steps from the same bf16 values.
    fn trained(precision: Precision, moments: Moments, noise: u32) -> Dense {
        let size = SHAPE[0] * SHAPE[1];
        let start: Vec<f32> = numbers(size, 1).into_iter().map(|v| half::bf16::from_f32(v).to_f32()).collect();
        let mut param = Dense::zeros("w", SHAPE, precision).unwrap();
        param.write(0, &start).unwrap();
        let mut moments = moments.precisions(size).map(|precision| Dense::zeros("m", SHAPE, precision).unwrap());
        for number in 1..=10 {
            let grad = dense(SHAPE, &numbers(size, 10 + number as u32));
            let mut step = AdamW::default().step(number, 1e-4, 0.0);
            step.noise = noise ^ number as u32;
            adamw(&mut param, &grad, &mut moments, 0.0, &step).unwrap();
        }
        param
    }

    #[test]
    fn a_split_master_takes_the_steps_of_f32() {
        let (whole, halves) =
            (trained(Precision::F32, Moments::F32, 0), trained(Precision::Bf16Split, Moments::F32, 0));
        assert_eq!(halves.master().unwrap(), whole.values);
        let rounded: Vec<f32> = whole.values.iter().map(|value| split(*value).0.to_f32()).collect();
        assert_eq!(*halves.floats(), rounded);
    }

    #[test]
    fn stochastic_rounding_keeps_small_steps_on_average() {
        let whole = trained(Precision::F32, Moments::F32, 0);
        let rounded = trained(Precision::Bf16Stochastic, Moments::F32, 7);
        let size = whole.values.len() as f64;
        let moved = |values: &[f32]| -> f64 {
            values.iter().zip(&whole.values).map(|(a, b)| f64::from(a - b)).sum::<f64>() / size
        };
        // A single value is off by some units of the last place of bf16, 0.004 near 1; their mean is not.
        assert!(moved(&rounded.floats()).abs() < 4.0 * 0.004 / size.sqrt(), "{}", moved(&rounded.floats()));
        let nearest: Vec<f32> = whole.values.iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect();
        assert_ne!(*rounded.floats(), nearest);
        assert_ne!(trained(Precision::Bf16Stochastic, Moments::F32, 8), rounded, "the noise is the seed's");
        assert_eq!(trained(Precision::Bf16Stochastic, Moments::F32, 7), rounded);
    }

    /// Moments in fewer bits: every step is of about the size of an exact one, and none is wild.
    #[test]
    fn moments_in_fewer_bits_change_steps_a_little() {
        let whole = trained(Precision::F32, Moments::F32, 0);
        let start: Vec<f32> =
            numbers(whole.values.len(), 1).into_iter().map(|v| half::bf16::from_f32(v).to_f32()).collect();
        let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let way = length(&mut whole.values.iter().zip(&start).map(|(a, b)| a - b));
        for (moments, tolerance) in [(Moments::Bf16, 0.02), (Moments::Dynamic8, 0.05)] {
            let rounded = trained(Precision::F32, moments, 7);
            let off = length(&mut rounded.values.iter().zip(&whole.values).map(|(a, b)| a - b)) / way;
            assert!(off < tolerance, "{moments}: off by {off} of the way");
            assert!(off > 1e-4, "{moments}: the comparison can fail");
            let furthest = rounded.values.iter().zip(&whole.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest < 3e-4, "{moments}: a value is off by {furthest}, three whole steps");
        }
    }
}
