//! Gradients, as a decorator of any backend that can compute them.
//!
//! [`Tape`] implements the engine's backend traits: it runs each operation on the backend inside it and records it.
//! [`Tape::backward`] walks the record from its end. What a device needs for that is [`crate::Adjoint`].

mod graph;
mod named;
mod op;
mod parameter;
#[allow(clippy::module_inception, reason = "the decorator is the module's subject")]
mod tape;

pub use graph::Var;
pub use named::{Named, named};
pub use parameter::{Adapter, Parameter, Weight};
pub use tape::{Tape, TapeOptions};
