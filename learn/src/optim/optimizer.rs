//! The settings of one step, and what differs from parameter to parameter.

use paddock_engine::backend::pcg_hash;

use super::{AdamW, AdamWStep};

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

impl OptimizerStep {
    /// The numbers of the step, for a parameter that decays or not.
    pub fn adamw_step(&self, decays: bool) -> AdamWStep {
        let weight_decay = if decays { self.adamw.weight_decay } else { 0.0 };
        AdamW { weight_decay, ..self.adamw }.step(self.number, self.learning_rate, self.max_grad_norm)
    }
}

/// Seed of the rounding of parameter `index` in a step.
pub fn rounding_seed(seed: u64, step: u64, index: usize) -> u32 {
    let seed = (seed ^ (seed >> 32)) as u32;
    pcg_hash(index as u32 ^ pcg_hash(step as u32 ^ pcg_hash(seed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_parameter_has_noise_of_its_own() {
        let all: Vec<u32> = [(1, 1, 0), (1, 2, 0), (1, 1, 1), (1, 2, 1), (2, 1, 0), (7 << 32, 1, 0)]
            .map(|(seed, step, index)| rounding_seed(seed, step, index))
            .to_vec();
        for (at, noise) in all.iter().enumerate() {
            assert!(!all[..at].contains(noise), "{all:?}");
        }
    }

    #[test]
    fn all_bits_of_a_seed_count() {
        let of = |seed, step| rounding_seed(seed, step, 0);
        assert_ne!(of((7 << 32) | 7, 1), of(7, 1));
        assert_ne!(of(7 << 32, 1), of(0, 1));
        let mut steps: Vec<u32> = (0..256).map(|step| of(5, step)).collect();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), 256);
    }

    #[test]
    fn only_what_decays_decays() {
        let adamw = AdamW { weight_decay: 0.5, ..AdamW::default() };
        let step = OptimizerStep { number: 1, learning_rate: 0.5, adamw, max_grad_norm: 0.0, seed: 0 };
        assert_eq!([step.adamw_step(true).decay, step.adamw_step(false).decay], [0.75, 1.0]);
    }
}
