//! A weight with the state of its training, on any backend.

use paddock_engine::Result;
use paddock_engine::backend::WeightPart;
use paddock_learn::optim::AdamWStep;
use paddock_learn::{Adjoint, Moment, StateLayout, Store};

use crate::block_on;

/// A weight, and what the optimiser keeps of it.
pub(super) struct Trained<'a, B: Adjoint + Store<B>> {
    backend: &'a B,
    pub weight: B::Weight,
    pub state: B::State,
}

impl<'a, B: Adjoint + Store<B>> Trained<'a, B> {
    /// A weight of these values, which has not been trained yet.
    pub fn new(backend: &'a B, layout: &StateLayout, values: &[f32]) -> Result<Self> {
        let [rows, cols] = layout.shape;
        let part = WeightPart { rows, encoding: layout.precision.encoding() };
        let mut weight = backend.create_weight(layout.label, cols, &[part])?;
        let mut state = backend.state(backend, layout)?;
        backend.write_master(backend, &mut weight, &mut state, 0, values)?;
        Ok(Self { backend, weight, state })
    }

    /// Replaces the gradient.
    pub fn write_gradient(&mut self, values: &[f32]) -> Result<()> {
        self.backend.write_gradient(Store::gradient(self.backend, self.backend, &mut self.state)?, values)
    }

    /// A step of AdamW, by which the gradient becomes 0.
    pub fn step(&mut self, squares: &B::SquaredNorm, step: &AdamWStep) -> Result<()> {
        block_on(self.backend.adamw(self.backend, &mut self.weight, &mut self.state, squares, step))
    }

    /// The values that steps are added to.
    pub fn master(&self) -> Result<Vec<f32>> {
        block_on(self.backend.read_master(self.backend, &self.weight, &self.state))
    }

    /// Both moments.
    pub fn moments(&self) -> Result<[Vec<f32>; 2]> {
        let read = |moment| block_on(self.backend.read_moment(self.backend, &self.state, moment));
        Ok([read(Moment::First)?, read(Moment::Second)?])
    }
}
