//! Learning: gradients, optimisers, data and objectives for the models of the engine.
//!
//! The crate builds for wasm32 and natively. It has no files, threads, clocks or network of its own, and nothing in it
//! blocks: what waits for a device is async.

mod adjoint;
pub mod collective;
pub mod cpu;
pub mod data;
pub mod dropout;
pub mod lora;
pub mod loss;
pub mod objective;
mod offload;
pub mod optim;
mod parameters;
pub mod rl;
mod role;
mod store;
pub mod tape;
mod trainer;

pub use adjoint::Adjoint;
pub use objective::Objective;
pub use offload::Offload;
pub use paddock_engine::{Error, Result};
pub use parameters::Parameters;
pub use role::Role;
pub use store::{Moment, StateLayout, Store};
pub use tape::{Tape, TapeOptions};
pub use trainer::{StepReport, Trainer};

#[cfg(test)]
mod testing;
