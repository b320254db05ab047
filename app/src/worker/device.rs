//! Where a model is to run.

use paddock_engine::Result;
use paddock_engine::backend::{Cpu, Wgpu, wgpu};

use super::gpu;
use super::scope::now;
use crate::protocol::DeviceChoice;

/// A device of its own for each model: what breaks under one leaves the other alone.
pub enum Device {
    /// The processor.
    Cpu(Cpu),
    /// The GPU, with its name for people.
    Gpu(Wgpu, String),
}

impl Device {
    /// The device that `choice` comes to on this machine.
    pub async fn open(choice: DeviceChoice) -> Result<Self> {
        let gpu = gpu::probe().await;
        // Asked for a GPU where there is none, the backend says so.
        if choice == DeviceChoice::Gpu || gpu.serves(choice) {
            let backend = Wgpu::new(wgpu::Options { clock: Some(now), ..wgpu::Options::default() }).await?;
            return Ok(Self::Gpu(backend, gpu.label()));
        }
        Ok(Self::Cpu(Cpu::new()))
    }
}
