//! The training step, whatever is learned.

use paddock_engine::Result;

use crate::Adjoint;
use crate::objective::{Measured, Objective};
use crate::optim::{OptimizerStep, rounding_seed};
use crate::store::Store;
use crate::tape::Tape;

/// In place of a parameter's number, for what passes draw.
const DRAWN: usize = u32::MAX as usize;

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The objective's loss before the step, of all ranks.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// What else the objective measured before the step, of all ranks.
    pub values: Vec<(&'static str, f64)>,
}

/// Parameters on a tape, and what they are trained for.
pub struct Trainer<B: Adjoint, O, S: Store<B> = B> {
    tape: Tape<B, S>,
    objective: O,
}

impl<B: Adjoint, O: Objective<B, S>, S: Store<B>> Trainer<B, O, S> {
    /// Trains the parameters of `tape`, on which the objective's model lies.
    pub fn new(tape: Tape<B, S>, objective: O) -> Self {
        Self { tape, objective }
    }

    /// The tape that holds the parameters.
    pub fn tape(&self) -> &Tape<B, S> {
        &self.tape
    }

    /// What they are trained for.
    pub fn objective(&self) -> &O {
        &self.objective
    }

    /// Whether this rank is the one that writes.
    pub fn leads(&self) -> bool {
        self.tape.sharding().is_none_or(|sharding| sharding.ranks.rank() == 0)
    }

    /// One step on `batch`: the gradients of its loss, clipped, and AdamW. Losses are read back only after all work is
    /// queued, so that a device goes on without waiting for the host.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn step(&mut self, batch: &O::Batch, settings: &OptimizerStep) -> Result<StepReport> {
        self.tape.set_noise(rounding_seed(settings.seed, settings.number, DRAWN));
        let passes = self.objective.accumulate(&self.tape, batch).await?;
        let squares = self.tape.step(self.objective.trained(), settings).await?;
        let measured = self.objective.loss(&self.tape, passes).await?;
        let Measured { loss, values } = self.total(measured).await?;
        let grad_norm = self.tape.store().read_squared_norm(self.tape.inner(), &squares).await?.sqrt();
        Ok(StepReport { loss, grad_norm, values })
    }

    /// The loss of `batch`; nothing is learned.
    ///
    /// # Errors
    /// When the device fails, or a rank has ended.
    pub async fn evaluate(&self, batch: &O::Batch) -> Result<f64> {
        let pause = self.tape.pause();
        let loss = self.objective.evaluate(&self.tape, batch).await;
        drop(pause);
        self.sum(loss?).await
    }

    /// What all ranks measured together, given this rank's part.
    ///
    /// # Errors
    /// When a rank has ended.
    pub async fn total(&self, Measured { loss, mut values }: Measured) -> Result<Measured> {
        let mut sums: Vec<f64> = [loss].into_iter().chain(values.iter().map(|(_, value)| *value)).collect();
        if let Some(sharding) = self.tape.sharding() {
            sharding.ranks.sum(&mut sums).await?;
        }
        values.iter_mut().zip(&sums[1..]).for_each(|((_, value), sum)| *value = *sum);
        Ok(Measured { loss: sums[0], values })
    }

    /// The sum over the ranks.
    async fn sum(&self, value: f64) -> Result<f64> {
        let mut sum = [value];
        if let Some(sharding) = self.tape.sharding() {
            sharding.ranks.sum(&mut sum).await?;
        }
        Ok(sum[0])
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Cpu;

    use super::*;
    use crate::TapeOptions;
    use crate::collective::Stage;
    use crate::objective::RewardHead;
    use crate::testing::Twin;

    #[test]
    fn rank_zero_leads() {
        let (cpu, (sharding, twin)) = (Cpu::with_threads(1), Twin::sharding(Stage::Two));
        let tape = Tape::with_store(cpu.clone(), cpu, Some(sharding), TapeOptions::default());
        let head = RewardHead::new(&tape, 2, 0.0).unwrap();
        let trainer = Trainer::new(tape, head);
        assert!(trainer.leads());
        twin.rank.set(1);
        assert!(!trainer.leads());
    }
}
