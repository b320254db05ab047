//! The device of a model.

use paddock_engine::Result;
use paddock_engine::backend::{Cpu, Wgpu, wgpu};

use super::gpu;
use super::scope::now;
use crate::protocol::PreferredDevice;

/// A device. Each model has its own, so that a failure of one leaves the other alone.
pub enum OpenedDevice {
    /// The processor.
    Cpu(Cpu),
    /// The GPU, with its name for people.
    Gpu(Wgpu, String),
}

impl OpenedDevice {
    /// The device that `preferred` means on this machine.
    pub async fn open(preferred: PreferredDevice) -> Result<Self> {
        let gpu = gpu::probe().await;
        // If a GPU is requested where there is none, the backend reports it.
        if preferred == PreferredDevice::Gpu || gpu.serves(preferred) {
            let backend = Wgpu::new(wgpu::Options { clock: Some(now), ..wgpu::Options::default() }).await?;
            return Ok(Self::Gpu(backend, gpu.label()));
        }
        Ok(Self::Cpu(Cpu::new()))
    }
}
