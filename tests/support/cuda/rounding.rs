//! What rounding by chance and moments in eight bits owe to a value's place and size, on any backend that trains.

use paddock_engine::Result;
use paddock_learn::optim::{AdamW, MOMENT_BLOCK, Precision};
use paddock_learn::{Adjoint, StateLayout, Store};

use super::Trained;
use crate::block_on;

/// A weight of ones after one step, and its moments. It is the part from value `first` on of a larger one.
fn stepped<B: Adjoint + Store<B>>(
    backend: &B,
    first: usize,
    grad: &[f32],
    noise: u32,
    precision: Precision,
    moments: [Precision; 2],
) -> Result<[Vec<f32>; 3]> {
    let layout = StateLayout { label: "a weight", shape: [1, grad.len()], precision, moments };
    let mut trained = Trained::new(backend, &layout, &vec![1.0; grad.len()])?;
    trained.write_gradient(grad)?;
    let mut step = AdamW::default().step(1, 1e-3, 0.0);
    (step.noise, step.first) = (noise, first as u32);
    trained.step(&backend.known_squared_norm(backend, 0.0)?, &step)?;
    let [first, second] = trained.moments()?;
    Ok([block_on(backend.read_values(&trained.weight))?, first, second])
}

/// The noise of a value follows from the step's seed and the value's place in the whole weight, so that ranks that hold
/// parts of it round as one alone does. `moments` is how the device holds them.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is rounded otherwise.
pub fn rounding_follows_seed_and_place<B: Adjoint + Store<B>>(backend: &B, moments: Precision) -> Result<()> {
    const COUNT: usize = 3000;
    const FIRST: usize = 600;
    let run = |first: usize, noise: u32| {
        stepped(backend, first, &vec![1.0; COUNT - first], noise, Precision::Bf16Stochastic, [moments; 2])
    };
    let (whole, part, other) = (run(0, 5)?, run(FIRST, 5)?, run(0, 6)?);
    for (whole, part) in whole.iter().zip(&part) {
        assert!(whole[FIRST..] == part[..], "a part is rounded as it is in the whole");
    }
    assert!(whole[0] != other[0], "another step's seed rounds otherwise");
    assert!(whole[0][..FIRST] != whole[0][FIRST..2 * FIRST], "other places are rounded otherwise");
    Ok(())
}

/// Moments a billion times smaller than the largest of their block are not 0 after a step.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When one is.
pub fn small_eight_bit_moments_are_not_zero<B: Adjoint + Store<B>>(backend: &B) -> Result<()> {
    let eight_bits = [true, false].map(|signed| Precision::Dynamic8 { signed });
    let mut grad = vec![1e-9; 2 * MOMENT_BLOCK];
    (grad[3], grad[MOMENT_BLOCK]) = (1.0, -1.0);
    let [_, first, second] = stepped(backend, 0, &grad, 0, Precision::F32, eight_bits)?;
    assert!(first.iter().chain(&second).all(|moment| *moment != 0.0));
    Ok(())
}
