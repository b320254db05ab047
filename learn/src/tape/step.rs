//! The optimiser's step on all parameters of a tape.

use paddock_engine::Result;

use super::parameter::{Parameter, ParameterId};
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

    /// The sum of the squares of the gradients of `trained`, or of all; of this rank's parts, where ranks share the
    /// parameters.
    ///
    /// # Errors
    /// When the device fails.
    pub fn squared_norm(&self, trained: Option<&[ParameterId]>) -> Result<S::SquaredNorm> {
        let parameters = self.take();
        let states = parameters.0.iter().enumerate().filter(|(index, _)| contains(trained, *index));
        let states: Vec<&S::State> = states.filter_map(|(_, parameter)| parameter.state.as_ref()).collect();
        self.store().squared_norm(self.inner(), &states)
    }

    /// Clips the gradients of `trained`, or of all parameters, by their common norm, updates those parameters and clears
    /// their gradients. Returns the square of the norm before clipping, which the device may still be computing: nothing
    /// waits for it, except with ranks, whose parts have to be added up.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub async fn step(&self, trained: Option<&[ParameterId]>, settings: &OptimizerStep) -> Result<S::SquaredNorm> {
        let (backend, store) = (self.inner(), self.store());
        self.reduce_gradients().await?;
        let mut squares = self.squared_norm(trained)?;
        if let Some(sharding) = self.sharding() {
            let mut sum = [store.read_squared_norm(backend, &squares).await?];
            sharding.ranks.sum(&mut sum).await?;
            squares = store.known_squared_norm(backend, sum[0])?;
        }
        let mut parameters = self.take();
        for (index, parameter) in parameters.0.iter_mut().enumerate().filter(|(index, _)| contains(trained, *index)) {
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

/// Whether parameter `index` is one of `trained`, which are all where none are named.
fn contains(trained: Option<&[ParameterId]>, index: usize) -> bool {
    trained.is_none_or(|trained| trained.contains(&ParameterId(index)))
}
