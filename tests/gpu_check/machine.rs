//! What measurements need of a device, so that they can be rehearsed on the processor.

use std::time::Instant;

use paddock::Result;
use paddock::cuda::{Cuda, Device, DeviceOptions, Dtype, Formats};
use paddock::files;
use paddock::run::memory::{self, Recipe};
use paddock::run::{MemorySettings, resident_memory};
use paddock_engine::backend::{Cpu, Device as _, Operations, WeightPart};
use paddock_engine::weights::Encoding;
use paddock_learn::optim::Moments;

use super::benchmarks;

/// Waits for everything that a backend was asked for.
pub type Wait<'a, B> = &'a dyn Fn(&B) -> Result<()>;

/// A device that is opened anew for every measurement, so that the memory of the last one is free.
pub struct Machine<'a, B> {
    /// Opens it to compute in these formats.
    pub open: &'a dyn Fn(Formats) -> Result<B>,
    pub wait: Wait<'a, B>,
    /// Bytes that are taken.
    pub taken: &'a dyn Fn(&B) -> Result<u64>,
    /// All bytes.
    pub memory: u64,
    /// Operations a second of a large product.
    pub peak: f64,
    /// Bytes a second, read and written.
    pub bandwidth: f64,
    /// What estimates of memory are made for.
    pub device: memory::RunDevice,
    /// Number format of the weights.
    pub dtype: files::Dtype,
}

impl<B> Machine<'_, B> {
    /// The leanest way to train: 8 bytes a parameter on a card.
    pub fn lean(&self, micro_batch_tokens: usize) -> Recipe {
        let in_bf16 = self.dtype == files::Dtype::Bf16;
        let moments = if in_bf16 { Moments::Bf16 } else { Moments::F32 };
        let settings = MemorySettings { micro_batch_tokens, dtype: self.dtype, moments, ..MemorySettings::default() };
        Recipe { device: self.device, ranks: 1, longest: micro_batch_tokens, settings }
    }
}

/// Hands the first NVIDIA GPU to `measure`.
///
/// # Errors
/// When it fails.
pub fn with_gpu<R>(measure: impl FnOnce(&Machine<Cuda<Device>>) -> R) -> Result<R> {
    let open = |formats| Ok(Cuda::new(Device::open(DeviceOptions { ordinal: 0, formats, poison: false })?));
    let taken = |cuda: &Cuda<Device>| {
        let (free, total) = cuda.driver().memory()?;
        Ok(total - free)
    };
    let cuda = open(Formats::LEAN)?;
    let (peak, bandwidth) = (benchmarks::peak(&cuda)?, benchmarks::bandwidth(&cuda)?);
    drop(cuda);
    Ok(measure(&Machine {
        open: &open,
        wait: &benchmarks::synchronize,
        taken: &taken,
        memory: paddock::cuda::total_memory()?,
        peak,
        bandwidth,
        device: memory::RunDevice::Cuda { gradients: Dtype::Bf16 },
        dtype: files::Dtype::Bf16,
    }))
}

/// Hands the processor to `measure`, for a rehearsal.
///
/// # Errors
/// When it cannot multiply.
pub fn with_cpu<R>(measure: impl FnOnce(&Machine<Cpu>) -> R) -> Result<R> {
    const SIZE: usize = 256;
    let cpu = Cpu::with_threads(2);
    let mut weight = cpu.create_weight("peak", SIZE, &[WeightPart { rows: SIZE, encoding: Encoding::F32 }])?;
    cpu.write_rows(&mut weight, 0, &[0; 4 * SIZE * SIZE])?;
    let x = cpu.tensor([SIZE, SIZE], &[0.0; SIZE * SIZE])?;
    let began = Instant::now();
    cpu.linear(&x, &weight, None)?;
    let peak = 2.0 * (SIZE as f64).powi(3) / began.elapsed().as_secs_f64();
    let (from, mut to) = (vec![1u8; 64 << 20], vec![0u8; 64 << 20]);
    let began = Instant::now();
    to.copy_from_slice(&from);
    let bandwidth = 2.0 * std::hint::black_box(&to).len() as f64 / began.elapsed().as_secs_f64();
    Ok(measure(&Machine {
        open: &|_| Ok(Cpu::with_threads(2)),
        wait: &|_| Ok(()),
        taken: &|_| Ok(resident_memory().unwrap_or_default()),
        memory: u64::MAX,
        peak,
        bandwidth,
        device: memory::RunDevice::Cpu,
        dtype: files::Dtype::F32,
    }))
}

/// Median of the seconds of `runs` runs, after one that warms up.
///
/// # Errors
/// What a run reports.
pub fn seconds<R>(wait: impl Fn() -> Result<()>, runs: usize, mut run: impl FnMut() -> Result<R>) -> Result<f64> {
    let mut times = Vec::new();
    for index in 0..=runs {
        wait()?;
        let began = Instant::now();
        run()?;
        wait()?;
        if index > 0 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Bytes in the unit of cards.
pub fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
