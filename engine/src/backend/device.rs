//! Memory of a device: weights, activations and token ids, how they get there and how they are read back.

use super::WeightPart;
use crate::Result;

/// Most rows of prompts that go through a model at a time; bounds the memory of activations.
pub(crate) const PREFILL_ROWS: usize = 256;

/// Where a backend computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// For people: "CPU, 2 threads" or "NVIDIA H100 (Vulkan)".
    pub name: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
}

/// Kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// This process's own processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A graphics interface that is emulated on the processor: correct, but slower than [`DeviceKind::Cpu`].
    SoftwareGpu,
}

/// Where weights and activations live. Shapes are `[rows, columns]`; every method reports operands that do not fit as
/// [`crate::Error::Shape`].
///
/// Nothing waits except [`Device::read`] and [`Device::read_tokens`]; everything else only queues work.
#[allow(async_fn_in_trait)] // one thread: a browser worker, or a native caller that blocks on it
pub trait Device: Clone + 'static {
    /// An activation `[tokens, features]`, f32. Cloning clones the handle.
    type Tensor: Clone;
    /// A matrix `[output features, input features]` in its file's encoding, or a vector `[1, n]`. Cloning clones the
    /// handle.
    type Weight: Clone;
    /// Token ids `[n]` on the device. Cloning clones the handle.
    type Tokens: Clone;

    /// Where this backend computes.
    fn device(&self) -> DeviceInfo;

    /// Storage for a matrix of `cols` columns whose rows are `parts`, in order. `label` names it in errors.
    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Self::Weight>;

    /// Fills whole rows from `first_row` on with `bytes` in the encoding of their part (they lie within one part).
    /// Only between [`Device::create_weight`] and the first use or clone of the weight.
    fn write_rows(&self, weight: &mut Self::Weight, first_row: usize, bytes: &[u8]) -> Result<()>;

    /// Puts `values`, row by row, on the device.
    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Self::Tensor>;

    /// Puts token ids on the device.
    fn tokens(&self, ids: &[u32]) -> Result<Self::Tokens>;

    /// Rows and columns of `x`.
    fn shape(&self, x: &Self::Tensor) -> [usize; 2];

    /// The values of `x`, row by row.
    async fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>>;

    /// The ids of several handles, one after the other, in one round trip.
    async fn read_tokens(&self, tokens: &[Self::Tokens]) -> Result<Vec<u32>>;

    /// Tokens that should be decoded between two [`Device::read_tokens`]: 1 where a round trip costs nothing.
    fn tokens_per_round_trip(&self) -> usize {
        1
    }

    /// Rows of a prompt that should pass through the model between two waits: enough to keep the device busy, few
    /// enough for a person who wants to stop to wait for.
    fn rows_per_round_trip(&self) -> usize {
        64
    }

    /// Called by the model before each block (`index` from 0) and once more after the last. A backend may submit the
    /// work encoded so far, or keep no more of a finished block than the tensor that was computed last in it: nothing
    /// else of a block is used after it.
    fn enter_block(&self, _index: usize) -> Result<()> {
        Ok(())
    }
}
