//! Which device runs the model.

use std::sync::OnceLock;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::{Args, ValueEnum};
use paddock_engine::backend::{Cpu, Device, DeviceKind, Wgpu, wgpu};

use super::console;
use crate::Result;
use crate::cuda::{self, Cuda, Formats};

/// Where the model runs.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DeviceOptions {
    /// Where the model runs: auto is a graphics card if there is one (an NVIDIA card through CUDA), else the CPU
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
    Cuda,
}

/// An opened device.
pub(super) enum OpenDevice {
    /// This machine's processor.
    Cpu(Cpu),
    /// A graphics card, or a software one if it was asked for.
    Wgpu(Wgpu),
    /// An NVIDIA card, through CUDA.
    Cuda(Cuda<cuda::Device>),
}

impl DeviceOptions {
    /// The number of CPU threads.
    pub fn thread_count(&self) -> usize {
        self.threads.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// Opens the device. The choice of `auto` is noted on stderr.
    pub fn open(&self) -> Result<OpenDevice> {
        match self.device {
            DeviceChoice::Cpu => Ok(self.cpu()),
            DeviceChoice::Wgpu => gpu(),
            DeviceChoice::Cuda => Ok(OpenDevice::Cuda(open_cuda(0, Formats::BF16)?)),
            DeviceChoice::Auto => match cuda_if_any(0, Formats::BF16) {
                Some(cuda) => Ok(OpenDevice::Cuda(cuda)),
                None => self.wgpu_or_cpu(),
            },
        }
    }

    fn wgpu_or_cpu(&self) -> Result<OpenDevice> {
        match pollster::block_on(wgpu::probe()) {
            Ok(info) if info.kind == DeviceKind::Gpu => {
                console::note(format_args!("device: {}", info.name));
                gpu()
            }
            Ok(info) => {
                console::note(format_args!("device: the CPU, which is faster than {}", info.name));
                Ok(self.cpu())
            }
            Err(error) => {
                console::note(format_args!("device: the CPU ({error})"));
                Ok(self.cpu())
            }
        }
    }

    fn cpu(&self) -> OpenDevice {
        OpenDevice::Cpu(self.threads.map_or_else(Cpu::new, |threads| Cpu::with_threads(threads.into())))
    }
}

/// Opens NVIDIA GPU number `ordinal`.
pub(super) fn open_cuda(ordinal: usize, formats: Formats) -> Result<Cuda<cuda::Device>> {
    Ok(Cuda::new(cuda::Device::open(cuda::DeviceOptions { ordinal, formats, poison: false })?))
}

/// Opens NVIDIA GPU number `ordinal` if there is a driver. Notes its name on stderr, or why it is not used.
pub(super) fn cuda_if_any(ordinal: usize, formats: Formats) -> Option<Cuda<cuda::Device>> {
    if !cuda::has_driver() {
        return None;
    }
    match open_cuda(ordinal, formats) {
        Ok(cuda) => {
            console::note(format_args!("device: {}", cuda.device().name));
            Some(cuda)
        }
        Err(error) => {
            console::note(format_args!("CUDA is not used: {error}"));
            None
        }
    }
}

fn gpu() -> Result<OpenDevice> {
    let options = wgpu::Options { clock: Some(seconds), ..Default::default() };
    Ok(OpenDevice::Wgpu(pollster::block_on(Wgpu::new(options))?))
}

/// Seconds since the first call.
fn seconds() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}
