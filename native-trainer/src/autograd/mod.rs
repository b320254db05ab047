//! Gradients, as a decorator of any backend that can compute them.
//!
//! [`Tape`] implements the engine's `Backend`: it runs each operation on the backend inside it and writes down what it
//! did. [`Tape::backward`] then walks the record from its end. What a device needs for that is [`Adjoint`]: one
//! `<op>_adjoint` for each operation, and the operations that read weights on trainable parameters.

mod adjoint;
pub mod cpu;
mod graph;
mod offload;
mod op;
mod parameter;
mod tape;

pub use adjoint::Adjoint;
pub use graph::Var;
pub use offload::{Offload, OffloadedRanks};
pub use parameter::{Adapter, Parameter, Weight};
pub use tape::{Tape, TapeOptions};
