//! The optimiser's step on all parameters of a tape.

use paddock_engine::Result;

use super::parameter::Parameter;
use super::tape::Tape;
use crate::Adjoint;
use crate::optim::{OptimizerStep, rounding_seed};
use crate::store::Store;

impl<B: Adjoint, S: Store<B>> Tape<B, S> {
    /// Sums the gradients that are not yet summed over the ranks.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub async fn reduce_gradients(&self) -> Result<()> {
        let Some(sharding) = self.sharding() else { return Ok(()) };
        let mut parameters = self.take();
        parameters.begin_sums(self.inner(), self.store(), sharding)?;
        parameters.end_sums(self.inner(), self.store())?;
        parameters.settle(self.inner(), self.store()).await
    }

    /// The sum of the squares of all gradients; of this rank's parts, where ranks share the parameters.
    ///
    /// # Errors
    /// When the device fails.
    pub fn squared_norm(&self) -> Result<S::SquaredNorm> {
        let parameters = self.take();
        let states: Vec<&S::State> = parameters.0.iter().filter_map(|parameter| parameter.state.as_ref()).collect();
        self.store().squared_norm(self.inner(), &states)
    }

    /// Clips the gradients by their common norm, updates the parameters and clears the gradients. Returns the square of
    /// the norm before clipping, which the device may still be computing: nothing waits for it, except with ranks, whose
    /// parts have to be added up.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub async fn step(&self, settings: &OptimizerStep) -> Result<S::SquaredNorm> {
        let (backend, store) = (self.inner(), self.store());
        self.reduce_gradients().await?;
        let mut squares = self.squared_norm()?;
        if let Some(sharding) = self.sharding() {
            let mut sum = [store.read_squared_norm(backend, &squares).await?];
            sharding.ranks.sum(&mut sum).await?;
            squares = store.known_squared_norm(backend, sum[0])?;
        }
        let mut parameters = self.take();
        for (index, parameter) in parameters.0.iter_mut().enumerate() {
            let first = self.sharding().map_or(0, |sharding| sharding.part(parameter.len()).start);
            let Parameter { label, value, state: Some(state), .. } = parameter else { continue };
            let mut step = settings.adamw_step(settings.adamw.decay_rule.decays(label));
            step.noise = rounding_seed(settings.seed, settings.number, index);
            step.first = first as u32;
            store.adamw(backend, value, state, &squares, &step).await?;
        }
        if let Some(sharding) = self.sharding() {
            parameters.refresh(backend, sharding)?;
        }
        Ok(squares)
    }
}
