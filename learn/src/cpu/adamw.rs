//! AdamW, fused: gradient, moments and parameter are read and written once, a block at a time.

use half::bf16;
use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{ValuesMut, Weight};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::storage::{MomentValues, PieceMut};
use super::store::State;
use super::weight::{floats, write_values};
use super::{PIECE, expect};
use crate::optim::{AdamWStep, MOMENT_BLOCK, rounding_noise};

pub(super) fn adamw(cpu: &Cpu, weight: &mut Weight, state: &mut State, squares: f64, step: &AdamWStep) -> Result<()> {
    expect("adamw", "a gradient", state.gradient.shape, weight.shape())?;
    if weight.stride() == weight.shape()[1] {
        let pieces = match (weight.values_mut()?, &mut state.low) {
            (ValuesMut::F32(values), None) => values.chunks_mut(PIECE).map(PieceMut::F32).collect(),
            (ValuesMut::Bf16(high), None) => high.chunks_mut(PIECE).map(PieceMut::Bf16).collect(),
            (ValuesMut::Bf16(high), Some(low)) => split_pieces(high, low),
            (ValuesMut::F32(_), Some(_)) => return Err(no_master(weight)),
        };
        update_all(pieces, &state.gradient.values, &mut state.moments, squares, step);
        return Ok(());
    }
    // Rows with gaps between them, which blocks of moments do not have.
    let is_f32 = matches!(weight.values_mut()?, ValuesMut::F32(_));
    let mut values = floats(cpu, weight)?.into_owned();
    if is_f32 {
        if state.low.is_some() {
            return Err(no_master(weight));
        }
        let pieces = values.chunks_mut(PIECE).map(PieceMut::F32).collect();
        update_all(pieces, &state.gradient.values, &mut state.moments, squares, step);
    } else {
        let mut high: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
        let pieces = match &mut state.low {
            None => high.chunks_mut(PIECE).map(PieceMut::Bf16).collect(),
            Some(low) => split_pieces(&mut high, low),
        };
        update_all(pieces, &state.gradient.values, &mut state.moments, squares, step);
        values.iter_mut().zip(high).for_each(|(value, high)| *value = high.to_f32());
    }
    write_values(weight, 0, &values)
}

fn split_pieces<'a>(high: &'a mut [bf16], low: &'a mut [i16]) -> Vec<PieceMut<'a>> {
    high.chunks_mut(PIECE).zip(low.chunks_mut(PIECE)).map(|(high, low)| PieceMut::Split(high, low)).collect()
}

fn no_master(weight: &Weight) -> Error {
    Error::Shape { op: "adamw", expected: "a weight of bf16".to_string(), got: format!("{} in f32", weight.label()) }
}

fn update_all(
    weights: Vec<PieceMut>,
    gradient: &[f32],
    [first, second]: &mut [MomentValues; 2],
    squares: f64,
    step: &AdamWStep,
) {
    let scale = step.grad_scale(squares);
    let moments = first.pieces_mut().into_par_iter().zip(second.pieces_mut());
    let pieces = weights.into_par_iter().zip(gradient.par_chunks(PIECE)).zip(moments);
    pieces.enumerate().for_each(|(piece, ((weight, gradient), (first, second)))| {
        update(weight, (gradient, scale), [first, second], step, piece * PIECE);
    });
}

vectorised! {
    /// One piece, whose first value is the parameter's number `start`.
    fn update<'a>(param: PieceMut<'a>, gradient: (&'a [f32], f32), moments: [PieceMut<'a>; 2], step: &'a AdamWStep, start: usize) {
        let (mut param, (grad, scale), [mut first, mut second]) = (param, gradient, moments);
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
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Device, WeightPart};
    use pollster::block_on;

    use super::*;
    use crate::cpu::testing::numbers;
    use crate::optim::{AdamW, Moments, Precision, round_stochastically, split};
    use crate::store::{StateLayout, Store};

    /// The last piece is short.
    const SHAPE: [usize; 2] = [3, 10_944];
    /// As many values, in rows that have gaps between them in memory.
    const GAPS: [usize; 2] = [48, 684];

    /// The weights after ten small steps from the same bf16 values, as the model reads them, and their master's.
    fn trained(precision: Precision, moments: Moments, noise: u32) -> [Vec<f32>; 2] {
        trained_as(SHAPE, precision, moments, noise)
    }

    fn trained_as(shape: [usize; 2], precision: Precision, moments: Moments, noise: u32) -> [Vec<f32>; 2] {
        let cpu = Cpu::with_threads(1);
        let size = shape[0] * shape[1];
        let part = WeightPart { rows: shape[0], encoding: precision.encoding() };
        let mut weight = cpu.create_weight("w", shape[1], &[part]).unwrap();
        let layout = StateLayout { label: "w", shape, precision, moments: moments.precisions(size) };
        let mut state = cpu.state(&cpu, &layout).unwrap();
        cpu.write_master(&cpu, &mut weight, &mut state, 0, &start()).unwrap();
        for number in 1..=10 {
            let gradient = cpu.gradient(&cpu, &mut state).unwrap();
            gradient.write(&numbers(size, 10 + number as u32)).unwrap();
            let mut step = AdamW::default().step(number, 1e-4, 0.0);
            step.noise = noise ^ number as u32;
            block_on(cpu.adamw(&cpu, &mut weight, &mut state, &0.0, &step)).unwrap();
        }
        let master = block_on(cpu.read_master(&cpu, &weight, &state)).unwrap();
        [floats(&cpu, &weight).unwrap().into_owned(), master]
    }

    fn start() -> Vec<f32> {
        numbers(SHAPE[0] * SHAPE[1], 1).into_iter().map(|v| bf16::from_f32(v).to_f32()).collect()
    }

    #[test]
    fn a_split_master_takes_the_steps_of_f32() {
        let [whole, _] = trained(Precision::F32, Moments::F32, 0);
        let [halves, master] = trained(Precision::Bf16Split, Moments::F32, 0);
        assert_eq!(master, whole);
        let rounded: Vec<f32> = whole.iter().map(|value| split(*value).0.to_f32()).collect();
        assert_eq!(halves, rounded);
    }

    #[test]
    fn gaps_between_rows_change_nothing() {
        for precision in [Precision::F32, Precision::Bf16Split, Precision::Bf16Stochastic] {
            for moments in [Moments::F32, Moments::Dynamic8] {
                let run = |shape| trained_as(shape, precision, moments, 3);
                assert_eq!(run(GAPS), run(SHAPE), "{precision:?}, {moments}");
            }
        }
    }

    #[test]
    fn stochastic_rounding_keeps_small_steps_on_average() {
        let [whole, _] = trained(Precision::F32, Moments::F32, 0);
        let [rounded, _] = trained(Precision::Bf16Stochastic, Moments::F32, 7);
        let size = whole.len() as f64;
        let moved: f64 = rounded.iter().zip(&whole).map(|(a, b)| f64::from(a - b)).sum::<f64>() / size;
        // A single value is off by some units of the last place of bf16, 0.004 near 1; their mean is not.
        assert!(moved.abs() < 4.0 * 0.004 / size.sqrt(), "{moved}");
        let nearest: Vec<f32> = whole.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        assert_ne!(rounded, nearest);
        assert_ne!(trained(Precision::Bf16Stochastic, Moments::F32, 8)[0], rounded, "the noise is the seed's");
        assert_eq!(trained(Precision::Bf16Stochastic, Moments::F32, 7)[0], rounded);
    }

    /// Moments in fewer bits: every step is of about the size of an exact one, and none is wild.
    #[test]
    fn moments_in_fewer_bits_change_steps_a_little() {
        let [whole, _] = trained(Precision::F32, Moments::F32, 0);
        let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let way = length(&mut whole.iter().zip(&start()).map(|(a, b)| a - b));
        for (moments, tolerance) in [(Moments::Bf16, 0.02), (Moments::Dynamic8, 0.05)] {
            let [rounded, _] = trained(Precision::F32, moments, 7);
            let off = length(&mut rounded.iter().zip(&whole).map(|(a, b)| a - b)) / way;
            assert!(off < tolerance, "{moments}: off by {off} of the way");
            assert!(off > 1e-4, "{moments}: the comparison can fail");
            let furthest = rounded.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest < 3e-4, "{moments}: a value is off by {furthest}, three whole steps");
        }
    }

    /// The noise of a value is that of its number within the parameter, whichever piece and block it is in.
    #[test]
    fn every_value_is_rounded_by_noise_of_its_own() {
        let (cpu, shape) = (Cpu::with_threads(1), [1, 2 * PIECE + 300]);
        let part = WeightPart { rows: 1, encoding: Precision::Bf16Stochastic.encoding() };
        let mut weight = cpu.create_weight("w", shape[1], &[part]).unwrap();
        let precision = Precision::Bf16Stochastic;
        let mut state =
            cpu.state(&cpu, &StateLayout { label: "w", shape, precision, moments: [Precision::F32; 2] }).unwrap();
        cpu.write_master(&cpu, &mut weight, &mut state, 0, &vec![1.0; shape[1]]).unwrap();
        cpu.gradient(&cpu, &mut state).unwrap().write(&vec![0.5; shape[1]]).unwrap();
        let mut step = AdamW::default().step(1, 1e-3, 0.0);
        (step.noise, step.first) = (7, 1000);
        block_on(cpu.adamw(&cpu, &mut weight, &mut state, &0.0, &step)).unwrap();
        let (mut exact, mut first, mut second) = (1.0, 0.0, 0.0);
        step.update(&mut exact, 0.5, &mut first, &mut second);
        let expected: Vec<f32> = (0..shape[1] as u32)
            .map(|place| round_stochastically(exact, rounding_noise(7, 1000 + place)).to_f32())
            .collect();
        assert_eq!(*floats(&cpu, &weight).unwrap(), expected);
    }
}
