//! Choosing the kernels by timing them once, when the device is opened.

use super::context::{Kernels, Wgpu};
use super::linear::linear;
use super::read::read;
use super::weight::create_weight;
use super::write::tensor;
use crate::Result;
use crate::backend::WeightPart;
use crate::weights::Encoding;

/// A product that takes an emulated adapter some 30 ms and a graphics processor next to nothing.
const ROWS: usize = 64;
const SIZE: usize = 512;

/// Times a prompt's and a decoding step's product with either kernels and keeps the faster ones.
pub(super) async fn tune(gpu: &Wgpu, clock: fn() -> f64) -> Result<()> {
    /// Seconds that make a measurement reliable, and the most repetitions to reach them.
    const ENOUGH: f64 = 0.01;
    const MOST: usize = 256;
    let mut repeats = 1;
    let mut serial = time(gpu, clock, Kernels::Serial, repeats).await?;
    while serial < ENOUGH && repeats < MOST {
        repeats *= 4;
        serial = time(gpu, clock, Kernels::Serial, repeats).await?;
    }
    let workgroup = time(gpu, clock, Kernels::Workgroup, repeats).await?;
    gpu.0.kernels.set(if serial < workgroup { Kernels::Serial } else { Kernels::Workgroup });
    Ok(())
}

/// Seconds that `repeats` rounds take, pipelines made before.
async fn time(gpu: &Wgpu, clock: fn() -> f64, kernels: Kernels, repeats: usize) -> Result<f64> {
    gpu.0.kernels.set(kernels);
    let weight = create_weight(gpu, "tune", SIZE, &[WeightPart { rows: SIZE, encoding: Encoding::Q4_1 }])?;
    let many = tensor(gpu, [ROWS, SIZE], &[0.0; ROWS * SIZE])?;
    let one = tensor(gpu, [1, SIZE], &[0.0; SIZE])?;
    linear(gpu, &many, &weight, None)?;
    read(gpu, &linear(gpu, &one, &weight, None)?).await?;
    let start = clock();
    let mut last = one.clone();
    for _ in 0..repeats {
        linear(gpu, &many, &weight, None)?;
        for _ in 0..ROWS / 4 {
            last = linear(gpu, &last, &weight, None)?;
        }
    }
    read(gpu, &last).await?;
    Ok(clock() - start)
}
