//! Gradients, as a decorator of any backend that can compute them.
//!
//! [`Tape`] implements the engine's backend traits: it runs each operation on the backend inside it and records it.
//! [`Tape::backward`] goes through the record from its end. What a device needs for that is [`crate::Adjoint`]; where
//! gradients and moments lie is a [`crate::Store`]'s matter.

mod backend;
mod graph;
mod named;
mod op;
mod parameter;
mod step;
#[allow(clippy::module_inception, reason = "the decorator is the module's subject")]
mod tape;
mod values;

pub use graph::Var;
pub use named::{Named, named};
pub use parameter::ParameterId;
pub use tape::{KeptWhole, Pause, Tape, TapeOptions};
pub use values::ParameterInfo;
