//! What an optimiser keeps of a trained weight: gradient, moments and master values, and where they lie.

use paddock_engine::Result;

use crate::Adjoint;
use crate::optim::{AdamWStep, Precision};

/// What [`Store::state`] makes room for.
#[derive(Debug, Clone, Copy)]
pub struct StateLayout<'a> {
    /// Name of the weight in errors.
    pub label: &'a str,
    /// Rows and columns of the weight, or of this rank's part of it.
    pub shape: [usize; 2],
    /// How the weight is held.
    pub precision: Precision,
    /// How the first and the second moment are held.
    pub moments: [Precision; 2],
}

/// One of the two moments of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Mean of the gradients.
    First,
    /// Mean of their squares.
    Second,
}

/// Gradients, moments and masters of the weights of a backend, and the step of AdamW on them.
///
/// A backend that keeps them in its own memory is its own store; [`crate::Offload`] keeps them on the host.
#[allow(async_fn_in_trait, reason = "one thread: a browser worker, or a native caller that blocks on it")]
pub trait Store<B: Adjoint>: Clone + 'static {
    /// Gradient, moments and master of one weight.
    type State;

    /// The sum of the squares of gradients, where a step reads it; the device may still be computing it.
    type SquaredNorm;

    /// Zeros.
    ///
    /// # Errors
    /// When there is no room.
    fn state(&self, backend: &B, layout: &StateLayout) -> Result<Self::State>;

    /// The gradient on the device, for an adjoint to add to.
    ///
    /// # Errors
    /// When there is no room for it.
    fn gradient<'s>(&self, backend: &B, state: &'s mut Self::State) -> Result<&'s mut B::Gradient>;

    /// Called after each block of the backward pass: nothing adds to this gradient until another block does.
    ///
    /// # Errors
    /// When the device fails.
    async fn settle(&self, _backend: &B, _state: &mut Self::State) -> Result<()> {
        Ok(())
    }

    /// The values of the gradient, row by row.
    ///
    /// # Errors
    /// When the device fails.
    async fn read_gradient(&self, backend: &B, state: &Self::State) -> Result<Vec<f32>>;

    /// The sum of all squares of the gradients of `states`, in f64 and in an order that does not depend on threads.
    ///
    /// # Errors
    /// When the device fails.
    fn squared_norm(&self, backend: &B, states: &[&Self::State]) -> Result<Self::SquaredNorm>;

    /// A sum of squares that the host knows.
    ///
    /// # Errors
    /// When the device fails.
    fn known_squared_norm(&self, backend: &B, squares: f64) -> Result<Self::SquaredNorm>;

    /// The number itself. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    async fn read_squared_norm(&self, backend: &B, squares: &Self::SquaredNorm) -> Result<f64>;

    /// One step of AdamW on `weight` in place; afterwards the gradient is 0. `squares` are those of all gradients of the
    /// step, by which they are clipped.
    ///
    /// # Errors
    /// When weight and state do not fit each other, or the device fails.
    async fn adamw(
        &self,
        backend: &B,
        weight: &mut B::Weight,
        state: &mut Self::State,
        squares: &Self::SquaredNorm,
        step: &AdamWStep,
    ) -> Result<()>;

    /// The values of a moment, row by row.
    ///
    /// # Errors
    /// When the device fails.
    async fn read_moment(&self, backend: &B, state: &Self::State, moment: Moment) -> Result<Vec<f32>>;

    /// Puts `values` at the places of a moment from `first` on.
    ///
    /// # Errors
    /// When they do not fit.
    fn write_moment(
        &self,
        backend: &B,
        state: &mut Self::State,
        moment: Moment,
        first: usize,
        values: &[f32],
    ) -> Result<()>;

    /// Whether steps go to values of more bits than the model computes with.
    fn has_master(&self, state: &Self::State) -> bool;

    /// The values that steps are added to, row by row: the weight's own where it has no master.
    ///
    /// # Errors
    /// When the device fails.
    async fn read_master(&self, backend: &B, weight: &B::Weight, state: &Self::State) -> Result<Vec<f32>>;

    /// Puts `values` at the places from `first` on, into the weight and into its master where it has one.
    ///
    /// # Errors
    /// When they do not fit.
    fn write_master(
        &self,
        backend: &B,
        weight: &mut B::Weight,
        state: &mut Self::State,
        first: usize,
        values: &[f32],
    ) -> Result<()>;
}
