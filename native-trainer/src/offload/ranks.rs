//! Ranks whose optimiser's state lies on their hosts: parameters go from rank to rank through the host.

use std::rc::Rc;

use paddock_engine::Result;

use super::Offload;
use paddock_learn::Adjoint;
use paddock_learn::collective::Collective;

/// The ranks of a device, for its [`Offload`].
pub struct OffloadedRanks<B: Adjoint>(pub Rc<dyn Collective<B>>);

impl<B: Adjoint> Collective<Offload<B>> for OffloadedRanks<B> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn world_size(&self) -> usize {
        self.0.world_size()
    }

    fn gather(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        self.0.gather(values)
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.0.sum(values)
    }
}
