//! AdamW (arXiv 1711.05101), in PyTorch's order of operations.

use super::DecayRule;

/// The settings of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Which parameters decay.
    pub decay_rule: DecayRule,
}

impl Default for AdamW {
    /// As in transformers: betas 0.9 and 0.999, eps 1e-8, no weight decay.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decay_rule: DecayRule::default() }
    }
}

impl AdamW {
    /// Step number `step`, from 1 on. Gradients whose common norm is larger than `max_grad_norm` are scaled down to it; 0
    /// leaves them.
    pub fn step(&self, step: u64, learning_rate: f64, max_grad_norm: f64) -> AdamWStep {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        AdamWStep {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            max_grad_norm,
            decay: (1.0 - learning_rate * f64::from(self.weight_decay)) as f32,
            step_size: (learning_rate / correction(self.beta1)) as f32,
            root_correction: correction(self.beta2).sqrt() as f32,
            noise: 0,
            first: 0,
        }
    }
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Gradients of a larger norm are scaled down to this one; 0 leaves them.
    pub max_grad_norm: f64,
    /// Factor of the parameter: 1 − learning rate · weight decay.
    pub decay: f32,
    /// Learning rate over the bias correction of the first moment.
    pub step_size: f32,
    /// Root of the bias correction of the second moment.
    pub root_correction: f32,
    /// Seed of the rounding of bf16 weights: the step's and the parameter's own.
    pub noise: u32,
    /// Number of the first value within the parameter, where a rank holds a part of it.
    pub first: u32,
}

impl AdamWStep {
    /// What every gradient is multiplied with, as PyTorch's `clip_grad_norm_` does; `squares` is the sum of the squares of
    /// all.
    pub fn grad_scale(&self, squares: f64) -> f32 {
        match self.max_grad_norm {
            0.0 => 1.0,
            most => (most / (squares.sqrt() + 1e-6)).min(1.0) as f32,
        }
    }

    /// Updates one value and its moments by a scaled gradient.
    #[inline(always)]
    pub fn update(&self, param: &mut f32, grad: f32, first: &mut f32, second: &mut f32) {
        *first += (grad - *first) * (1.0 - self.beta1);
        *second = *second * self.beta2 + grad * grad * (1.0 - self.beta2);
        *param = *param * self.decay - self.step_size * *first / (second.sqrt() / self.root_correction + self.eps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the paper's algorithm 2 in f64.
    #[test]
    fn is_the_papers_algorithm() {
        let settings = AdamW { weight_decay: 0.1, ..AdamW::default() };
        let (mut param, mut first, mut second) = (0.5f32, 0.0, 0.0);
        let (mut x, mut m, mut v) = (0.5f64, 0.0, 0.0);
        for (t, grad) in [0.3f64, -0.2, 0.05, 1.5].into_iter().enumerate() {
            let rate = 0.01 * (t + 1) as f64;
            let step = settings.step(t as u64 + 1, rate, 0.5);
            // Of a norm of 1.
            assert!((step.grad_scale(1.0) - 0.5).abs() < 1e-6);
            step.update(&mut param, grad as f32 * 0.5, &mut first, &mut second);
            let g = grad * 0.5;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t as i32 + 1)), v / (1.0 - 0.999f64.powi(t as i32 + 1)));
            x -= rate * (m_hat / (v_hat.sqrt() + 1e-8) + 0.1 * x);
            assert!((f64::from(param) - x).abs() < 1e-6, "step {t}: {param} not {x}");
        }
    }

    #[test]
    fn gradients_are_scaled_as_clip_grad_norm_scales_them() {
        let of = |most, squares| AdamW::default().step(1, 0.1, most).grad_scale(squares);
        assert!((of(0.5, 4.0) - 0.25).abs() < 1e-6);
        assert_eq!(of(3.0, 4.0), 1.0);
        assert_eq!(of(0.0, 4.0), 1.0);
        // What is added to the norm shows where the norm is as small.
        assert!((of(1e-6, 1e-12) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn eps_is_added_to_the_root() {
        let step = AdamW { eps: 0.5, ..AdamW::default() }.step(1, 0.1, 0.0);
        let (mut param, mut first, mut second) = (1.0, 0.0, 0.0);
        step.update(&mut param, 2.0, &mut first, &mut second);
        // Both corrected moments are those of the gradient: 2 and 2².
        assert!((param - (1.0 - 0.1 * 2.0 / 2.5)).abs() < 1e-5, "{param}");
    }
}
