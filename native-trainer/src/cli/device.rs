//! Which device runs the model.

use clap::{Args, ValueEnum};
use paddock_engine::backend::Cpu;

use crate::Result;

/// Where the model runs.
#[derive(Debug, Args)]
pub(super) struct DeviceOptions {
    /// Where the model runs: auto is a graphics card if there is one, else the CPU
    #[arg(long, value_enum, default_value = "auto", value_name = "NAME")]
    device: DeviceChoice,
    /// Threads of the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceChoice {
    Auto,
    Cpu,
    Wgpu,
}

/// An opened device.
pub(super) enum Device {
    /// This machine's processor.
    Cpu(Cpu),
}

impl DeviceOptions {
    /// Opens the device.
    pub fn open(&self) -> Result<Device> {
        match self.device {
            DeviceChoice::Cpu | DeviceChoice::Auto => Ok(self.cpu()),
            DeviceChoice::Wgpu => Err(crate::Error::Request("there is no GPU backend yet".to_string())),
        }
    }

    fn cpu(&self) -> Device {
        Device::Cpu(self.threads.map_or_else(Cpu::new, |threads| Cpu::with_threads(threads.into())))
    }
}
