//! Ranks that exchange everything through the memory of their hosts.

use paddock_engine::Result;
use paddock_learn::Adjoint;
use paddock_learn::collective::{Collective, Exchange, PendingGather, PendingSum, part};
use pollster::block_on;

/// Ranks that can bring bytes together.
pub trait HostRanks {
    /// This rank's number, from 0 on.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world_size(&self) -> usize;

    /// What every rank brings, one after the other. Waits for all of them.
    ///
    /// # Errors
    /// When a rank has ended.
    fn exchange(&self, mine: &[u8]) -> Result<Vec<u8>>;

    /// The values of all ranks, one after the other.
    ///
    /// # Errors
    /// When a rank has ended.
    fn gather_values(&self, values: &[f32]) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.exchange(bytemuck::cast_slice(values))?))
    }

    /// Replaces every value by its sum over the ranks, added up in their order.
    ///
    /// # Errors
    /// When a rank has ended.
    fn sum_values(&self, values: &mut [f64]) -> Result<()> {
        let all = self.exchange(bytemuck::cast_slice(values))?;
        let brought: Vec<f64> = bytemuck::pod_collect_to_vec(&all);
        let count = values.len().max(1);
        values.fill(0.0);
        for of_rank in brought.chunks_exact(count) {
            values.iter_mut().zip(of_rank).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }
}

/// The collective of host ranks, for any device.
pub struct ThroughHost<H>(pub H);

impl<B: Adjoint, H: HostRanks> Collective<B> for ThroughHost<H> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn world_size(&self) -> usize {
        self.0.world_size()
    }

    fn gather(&self, values: Vec<f32>) -> Exchange<'_, Vec<f32>> {
        Box::pin(async move { self.0.gather_values(&values) })
    }

    fn sum<'a>(&'a self, values: &'a mut [f64]) -> Exchange<'a, ()> {
        Box::pin(async move { self.0.sum_values(values) })
    }

    fn begin_gather(&self, backend: &B, shard: &B::Weight) -> Result<PendingGather<B>> {
        let mut values = self.0.gather_values(&block_on(backend.read_values(shard))?)?;
        Ok(Box::new(move |backend, whole| {
            let [rows, cols] = backend.weight_shape(whole);
            values.truncate(rows * cols);
            backend.write_values(whole, 0, &values)
        }))
    }

    fn begin_sum(&self, backend: &B, whole: &B::Gradient) -> Result<PendingSum<B>> {
        let values = block_on(backend.read_gradient(whole))?;
        let part = part(values.len(), self.0.rank(), self.0.world_size());
        let size = values.len().max(1);
        let all = self.0.gather_values(&values)?;
        let parts: Vec<f32> = all.chunks_exact(size).flat_map(|whole| &whole[part.clone()]).copied().collect();
        Ok(Box::new(move |backend, shard| {
            let mut sums = block_on(backend.read_gradient(shard))?;
            for part in parts.chunks_exact(part.len().max(1)) {
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
            backend.write_gradient(shard, &sums)
        }))
    }
}
