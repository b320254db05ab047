//! What a CUDA backend must agree on with the CPU, whatever its driver: the emulation in the tests, or a GPU.
//!
//! Inputs are fresh for a seed and exact in the device's format, so that the CPU computes the same operation in f32. An
//! error is judged by FlashAttention's rule: at most twice (values) or three times (gradients) that of a plain
//! implementation in the same format.

mod cases;
mod inputs;
mod plain;
mod preference;
mod resume;
mod rounding;
mod steps;
mod trained;
mod training;

use paddock::cuda::{Cuda, Driver, Dtype};
use paddock_engine::Result;
use paddock_engine::backend::Cpu;

pub use cases::{Case, cases};
pub use inputs::Inputs;
pub use preference::reward_gradients_are_the_cpus;
pub use resume::a_resumed_run_is_the_same;
pub use rounding::{rounding_follows_seed_and_place, small_eight_bit_moments_are_not_zero};
pub use steps::{adamw_is_the_cpus, choices_are_the_cpus, decoding_is_the_cpus, small_updates_count_on_average};
pub use training::{fine_tuning_is_the_cpus, offload_trains_alike, training_is_deterministic};

use trained::Trained;

/// f32 sums of some hundred products in another order, relative to the largest value.
pub const F32_TOLERANCE: f32 = 2e-5;

/// What an operation gave.
#[derive(Debug)]
pub struct Output {
    /// "value", "gradient of x", …
    pub what: &'static str,
    /// The numbers.
    pub values: Vec<f32>,
}

/// How far an operation is from the CPU's.
#[derive(Debug)]
pub struct Comparison {
    /// The operation with its sizes, and the output.
    pub what: String,
    /// Largest distance of a number.
    pub error: f32,
    /// How much is allowed.
    pub bound: f32,
}

impl Comparison {
    /// Compares numbers; `plain` is the error of a plain implementation in the device's format.
    pub fn new(what: String, got: &[f32], expected: &[f32], plain: f32, factor: f32) -> Self {
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let error = crate::largest_difference(got, expected);
        Self { what, error, bound: factor * plain + F32_TOLERANCE * largest.max(1e-3) }
    }

    /// Whether the error is allowed. A number that is none never is.
    pub fn holds(&self) -> bool {
        self.error <= self.bound
    }
}

/// Runs `case` on the device and on the CPU.
///
/// # Errors
/// When the device fails.
pub fn compare<D: Driver>(cuda: &Cuda<D>, case: &Case, seed: u32) -> Result<Vec<Comparison>> {
    let bf16 = cuda.formats().values == Dtype::Bf16;
    let expected = case.run(&Cpu::with_threads(2), &mut Inputs::new(seed))?;
    let got = case.run(cuda, &mut Inputs::new(seed))?;
    let plain = case.plain(&mut Inputs::new(seed), &expected);
    let comparisons = expected.iter().zip(&got).zip(plain).map(|((expected, got), plain)| {
        let factor = if expected.what == "value" { 2.0 } else { 3.0 };
        let error = if bf16 { crate::largest_difference(&plain, &expected.values) } else { 0.0 };
        Comparison::new(format!("{case:?}: {}", expected.what), &got.values, &expected.values, error, factor)
    });
    Ok(comparisons.collect())
}
