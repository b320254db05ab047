//! Random operands that bf16 holds exactly.

use half::bf16;
use paddock_engine::Result;
use paddock_engine::backend::{Device, WeightPart, sampling_noise};
use paddock_engine::weights::Encoding;
use paddock_learn::{Adjoint, Parameters};

/// A stream of operands; the same seed gives the same.
pub struct Inputs {
    seed: u32,
    drawn: u32,
}

impl Inputs {
    /// A stream of its own for each `seed`.
    pub fn new(seed: u32) -> Self {
        Self { seed, drawn: 0 }
    }

    /// Numbers around 0, up to `size`.
    pub fn numbers(&mut self, count: usize, size: f32) -> Vec<f32> {
        self.drawn += 1;
        let uniform = |i: usize| 2.0 * sampling_noise(self.seed, self.drawn, i as u32) - 1.0;
        (0..count).map(|i| bf16::from_f32(uniform(i) * size).to_f32()).collect()
    }

    /// Whole numbers below `end`.
    pub fn indices(&mut self, count: usize, end: usize) -> Vec<u32> {
        self.drawn += 1;
        (0..count).map(|i| (sampling_noise(self.seed, self.drawn, i as u32) * end as f32) as u32).collect()
    }

    /// An activation.
    pub fn tensor<B: Device>(&mut self, backend: &B, shape: [usize; 2]) -> Result<B::Tensor> {
        backend.tensor(shape, &self.numbers(shape[0] * shape[1], 1.0))
    }

    /// A matrix as training has it: made for f32 and written by value.
    pub fn trained<B: Parameters>(&mut self, backend: &B, [rows, cols]: [usize; 2]) -> Result<B::Weight> {
        let values = self.numbers(rows * cols, 1.0);
        let mut weight = backend.create_weight("a weight", cols, &[WeightPart { rows, encoding: Encoding::F32 }])?;
        backend.write_values(&mut weight, 0, &values)?;
        Ok(weight)
    }

    /// A gradient that holds something already.
    pub fn gradient<B: Adjoint>(&mut self, backend: &B, shape: [usize; 2]) -> Result<B::Gradient> {
        let values = self.numbers(shape[0] * shape[1], 0.5);
        let mut gradient = backend.gradient("a gradient", shape)?;
        backend.write_gradient(&mut gradient, &values)?;
        Ok(gradient)
    }

    /// A weight as a bf16 checkpoint has it, written in two pieces.
    pub fn weight<B: Device>(&mut self, backend: &B, [rows, cols]: [usize; 2]) -> Result<B::Weight> {
        let values = self.numbers(rows * cols, 1.0);
        let bytes: Vec<u8> = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        let mut weight = backend.create_weight("a weight", cols, &[WeightPart { rows, encoding: Encoding::BF16 }])?;
        let half = rows / 2;
        backend.write_rows(&mut weight, half, &bytes[half * cols * 2..])?;
        if half > 0 {
            backend.write_rows(&mut weight, 0, &bytes[..half * cols * 2])?;
        }
        Ok(weight)
    }
}
