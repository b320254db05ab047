//! A backend whose optimiser's state lies in the host's memory.
//!
//! [`Offload`] decorates a backend: the device holds the weights that the model computes with and, during a walk back, the
//! gradients of one block. When a block is done, its gradients go to the host, where the moments and the masters of split
//! weights lie too; the step is the CPU backend's, and the new weights go to the device. A gradient that goes on is
//! brought back first, so that its sum is made in the order of a run without offload, to the same bits.

mod adjoint;
mod backend;
mod ranks;

use paddock_engine::backend::Cpu;
use paddock_engine::{Error, Result};

use paddock_learn::Adjoint;
use paddock_learn::cpu::Dense;
use paddock_learn::optim::{Precision, split};
pub use ranks::OffloadedRanks;

/// `B` with the optimiser's state on the host. Cloning clones the handle.
#[derive(Clone)]
pub struct Offload<B: Adjoint> {
    device: B,
    host: Cpu,
}

impl<B: Adjoint> Offload<B> {
    /// Keeps the optimiser's state of what runs on `device` on the host.
    pub fn new(device: B) -> Self {
        Self { device, host: Cpu::new() }
    }
}

/// A parameter, a gradient or a moment, and where it lies.
pub enum Param<B: Adjoint> {
    /// A weight.
    Value {
        /// What the model computes with.
        device: B::Param,
        /// The values of a split weight.
        master: Option<Dense>,
        /// How steps reach it.
        precision: Precision,
    },
    /// A gradient.
    Gradient {
        /// Its name in errors.
        label: String,
        /// While something is added to it.
        device: Option<B::Param>,
        /// Otherwise.
        host: Dense,
        /// Whether the host's are zeros.
        empty: bool,
    },
    /// A moment.
    Moment(Dense),
}

fn wrong(expected: &str) -> Error {
    Error::Shape { op: "offload", expected: expected.to_string(), got: "another kind of parameter".to_string() }
}

impl<B: Adjoint> Param<B> {
    /// What the model computes with.
    fn value(&self) -> Result<&B::Param> {
        match self {
            Self::Value { device, .. } => Ok(device),
            _ => Err(wrong("a weight")),
        }
    }

    /// The gradient on the device, which is brought there.
    fn on_device(&mut self, backend: &Offload<B>) -> Result<&mut B::Param> {
        let Self::Gradient { label, device, host, empty } = self else { return Err(wrong("a gradient")) };
        let gradient = match device.take() {
            Some(gradient) => gradient,
            None => {
                let mut gradient = backend.device.gradient(label, backend.host.param_shape(host))?;
                if !*empty {
                    backend.device.write_param(&mut gradient, 0, &backend.host.read_param(host)?)?;
                }
                gradient
            }
        };
        Ok(device.insert(gradient))
    }

    /// What lies on the host alone.
    fn on_host(&self) -> Result<&Dense> {
        match self {
            Self::Gradient { device: None, host, .. } | Self::Moment(host) => Ok(host),
            _ => Err(wrong("a moment, or a gradient that nothing is added to any more")),
        }
    }
}

/// The values that a split weight's model computes with: rounded as [`split`] rounds.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| split(*value).0.to_f32()).collect()
}
