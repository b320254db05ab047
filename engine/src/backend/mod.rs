//! What a device can do, in four families: [`Device`] (memory), [`Operations`] (the operations of a block), [`Cache`] (the
//! KV cache) and [`Sample`] (the choice of a token). [`Backend`] is all of them; code asks for the families it needs.
//!
//! Every activation is a matrix `[tokens, features]` of f32. A batch is ragged: rows of several documents lie one
//! after the other, and [`Segments`] says which rows are which document's, so packing documents and batching prompts
//! are the same thing. There is no padding, no stride and no broadcasting.
//!
//! An operation has one name everywhere: the trait method here, `backend/cpu/<op>.rs` and the kernel that it calls
//! (`kernels/src/<op>.rs`), `shaders/<op>.wgsl`, its test.

mod cache;
pub mod check;
pub mod cpu;
mod device;
mod ops;
mod sample;
mod segments;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use cache::Cache;
pub use cpu::Cpu;
pub(crate) use device::PREFILL_ROWS;
pub use device::{Device, DeviceInfo, DeviceKind};
pub use ops::Operations;
pub use sample::{Sample, SampleRow, Sampling, pcg_hash, sampling_noise};
pub use segments::{Segment, Segments};
#[cfg(feature = "wgpu")]
pub use wgpu::Wgpu;

use crate::ModelConfig;
use crate::weights::Encoding;

/// Everything that generating text asks of a device.
pub trait Backend: Cache + Sample {}

impl<B: Cache + Sample> Backend for B {}

/// How the heads of a fused row `[q | k | v]` lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl HeadLayout {
    /// The heads of a model.
    pub fn of(config: &ModelConfig) -> Self {
        Self { heads: config.num_attention_heads, kv_heads: config.num_key_value_heads, head_dim: config.head_dim }
    }

    /// Columns of the queries.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the keys, and of the values.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Columns of a fused row.
    pub fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }
}

/// Rows of a weight that share an encoding. A fused weight (q, k and v; gate and up) has one part for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightPart {
    /// Output features.
    pub rows: usize,
    /// How the bytes of a row are to be read.
    pub encoding: Encoding,
}
