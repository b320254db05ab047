//! AdamW on all parameters of a tape.

use paddock_engine::backend::pcg_hash;

use super::{AdamW, Moments};
use crate::Adjoint;
use crate::Result;
use crate::tape::Tape;

/// Settings of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerStep {
    /// Number of the step, from 1 on.
    pub number: u64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// The settings that stay.
    pub adamw: AdamW,
    /// Gradients of a larger norm are scaled down to this one; 0 leaves them.
    pub max_grad_norm: f64,
    /// Seed of the run, which the rounding of bf16 weights draws from.
    pub seed: u64,
}

/// The moments of every trained parameter.
pub struct Optimizer<B: Adjoint> {
    moments: Vec<Option<[B::Param; 2]>>,
}

impl<B: Adjoint> Optimizer<B> {
    /// An optimiser that has seen no gradient.
    ///
    /// # Errors
    /// When there is no room for the moments.
    pub fn new(tape: &Tape<B>, precision: Moments) -> Result<Self> {
        let mut moments = Vec::new();
        tape.visit(|_, parameter| {
            let shape = tape.inner().param_shape(&parameter.value);
            let [first, second] = precision.precisions(parameter.len());
            let zeros = |precision| tape.inner().moment(&parameter.label, shape, precision);
            moments.push(if parameter.grad.is_some() { Some([zeros(first)?, zeros(second)?]) } else { None });
            Ok(())
        })?;
        Ok(Self { moments })
    }

    /// First and second moment of each parameter of the tape; `None` for frozen ones.
    pub fn moments(&mut self) -> &mut [Option<[B::Param; 2]>] {
        &mut self.moments
    }

    /// Clips the gradients by their common norm, updates the parameters and clears the gradients. Returns the square of
    /// the norm before clipping, which the device may still be at: nothing waits for it, but for ranks, whose parts have
    /// to be added up.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self, tape: &Tape<B>, settings: &OptimizerStep) -> Result<B::SquaredNorm> {
        let backend = tape.inner();
        tape.reduce_gradients()?;
        let mut squares = tape.squared_norm()?;
        if let Some(sharding) = tape.sharding() {
            let mut sum = [backend.read_squared_norm(&squares)?];
            sharding.ranks.sum(&mut sum)?;
            squares = backend.known_squared_norm(sum[0])?;
        }
        let step = |adamw: AdamW| adamw.step(settings.number, settings.learning_rate, settings.max_grad_norm);
        let decayed = step(settings.adamw);
        let plain = step(AdamW { weight_decay: 0.0, ..settings.adamw });
        let moments = &mut self.moments;
        tape.visit(|index, parameter| {
            let first = tape.sharding().map_or(0, |sharding| sharding.part(parameter.len()).start);
            if let (Some(grad), Some(Some(moments))) = (&mut parameter.grad, moments.get_mut(index)) {
                let mut step = if decays(&parameter.label) { decayed } else { plain };
                step.noise = noise(settings.seed, settings.number, index);
                step.first = first as u32;
                backend.adamw(&mut parameter.value, grad, moments, &squares, &step)?;
                backend.clear_param(grad)?;
            }
            Ok(())
        })?;
        tape.refresh_weights()?;
        Ok(squares)
    }
}

/// Seed of the rounding of parameter `index` in a step.
fn noise(seed: u64, step: u64, index: usize) -> u32 {
    let seed = (seed ^ (seed >> 32)) as u32;
    pcg_hash(index as u32 ^ pcg_hash(step as u32 ^ pcg_hash(seed)))
}

/// Norms and biases do not decay, as in transformers' `Trainer`.
fn decays(label: &str) -> bool {
    !(label.ends_with("bias") || label.contains("norm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_parameter_has_noise_of_its_own() {
        let all: Vec<u32> = [(1, 1, 0), (1, 2, 0), (1, 1, 1), (1, 2, 1), (2, 1, 0), (1 << 32, 1, 0)]
            .map(|(seed, step, index)| noise(seed, step, index))
            .to_vec();
        for (at, noise) in all.iter().enumerate() {
            assert!(!all[..at].contains(noise), "{all:?}");
        }
    }

    #[test]
    fn norms_and_biases_do_not_decay() {
        let decaying = ["model.layers.0.mlp.up_proj.weight", "lm_head.weight", "model.embed_tokens.weight"];
        assert!(decaying.into_iter().all(decays));
        let others = ["model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.mlp.up_proj.bias"];
        assert!(!others.into_iter().any(decays));
    }
}
