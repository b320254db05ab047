//! Weights that training changes.

use paddock_engine::Result;
use paddock_engine::backend::Device;
use paddock_engine::weights::Encoding;

/// A device whose dense weights can be read and changed after they were loaded.
///
/// There is one kind of weight: what an optimiser updates is what [`Device::create_weight`] made and the operations read.
#[allow(async_fn_in_trait, reason = "one thread: a browser worker, or a native caller that blocks on it")]
pub trait Parameters: Device {
    /// The encoding in which a weight of `encoding`, f32 or bf16, is held: a device may compute in one format only.
    fn held_in(&self, encoding: Encoding) -> Encoding {
        encoding
    }

    /// Rows and columns.
    fn weight_shape(&self, weight: &Self::Weight) -> [usize; 2];

    /// Puts `values` at the row-major places from `first` on, rounded to nearest where the weight is held in bf16.
    ///
    /// # Errors
    /// When they do not fit, or the weight is packed or shared.
    fn write_values(&self, weight: &mut Self::Weight, first: usize, values: &[f32]) -> Result<()>;

    /// All values, row by row, as operations read them.
    ///
    /// # Errors
    /// When the device fails.
    async fn read_values(&self, weight: &Self::Weight) -> Result<Vec<f32>>;
}
