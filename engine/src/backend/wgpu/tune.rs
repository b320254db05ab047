//! Choosing the kernels by timing them once, when the device is opened.

use super::{Kernels, Wgpu};
use crate::Result;
use crate::backend::{Device, Operations, WeightPart};
use crate::weights::Encoding;

/// A product that takes an emulated adapter some 30 ms and a graphics processor next to nothing.
const ROWS: usize = 64;
const SIZE: usize = 512;

impl Wgpu {
    /// Times a prompt's and a decoding step's product with either kernels and keeps the faster ones.
    pub(super) async fn tune(&self, clock: fn() -> f64) -> Result<()> {
        /// Seconds that make a measurement, and where to stop looking for them.
        const ENOUGH: f64 = 0.01;
        const MOST: usize = 256;
        let mut repeats = 1;
        let mut serial = self.time(clock, Kernels::Serial, repeats).await?;
        while serial < ENOUGH && repeats < MOST {
            repeats *= 4;
            serial = self.time(clock, Kernels::Serial, repeats).await?;
        }
        let workgroup = self.time(clock, Kernels::Workgroup, repeats).await?;
        self.0.kernels.set(if serial < workgroup { Kernels::Serial } else { Kernels::Workgroup });
        Ok(())
    }

    /// Seconds that `repeats` rounds take, pipelines made before.
    async fn time(&self, clock: fn() -> f64, kernels: Kernels, repeats: usize) -> Result<f64> {
        self.0.kernels.set(kernels);
        let weight = self.create_weight("tune", SIZE, &[WeightPart { rows: SIZE, encoding: Encoding::Q4_1 }])?;
        let many = self.tensor([ROWS, SIZE], &[0.0; ROWS * SIZE])?;
        let one = self.tensor([1, SIZE], &[0.0; SIZE])?;
        self.linear(&many, &weight, None)?;
        self.read(&self.linear(&one, &weight, None)?).await?;
        let start = clock();
        let mut last = one.clone();
        for _ in 0..repeats {
            self.linear(&many, &weight, None)?;
            for _ in 0..ROWS / 4 {
                last = self.linear(&last, &weight, None)?;
            }
        }
        self.read(&last).await?;
        Ok(clock() - start)
    }
}
