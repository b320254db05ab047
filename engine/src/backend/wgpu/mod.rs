//! The GPU backend: WGSL from `shaders/` through wgpu, natively (Vulkan, Metal, DX12) and in the browser (WebGPU).
//!
//! Methods record dispatches; [`Device::enter_block`] and the two reads submit them. Plain WGSL suffices: no
//! shader-f16, no subgroups, bindings of 128 MiB; f16, subgroups and larger bindings are used when the adapter has them.
//! Whatever the operands, products are summed in f32.
//!
//! A decoding step is five dispatches a block (norm with q, k and v; rotary, cache and attention; o with its residual;
//! norm with gate, up and SwiGLU; down with its residual), one more where the keys are split, and four beside the
//! blocks (embedding, norm with head, two for a greedy choice) or six (a draw): 154 or 156 for SmolLM2-135M. It is one
//! submit, makes no bind group, and uploads its position.

mod attention;
mod buffers;
mod device;
mod frame;
mod kv_cache;
mod linear;
mod ops;
mod pack;
mod pipelines;
mod plan;
mod readback;
mod sample;
mod shaders;
mod tune;
mod weight;

pub use buffers::Purpose;
pub use device::{DEFAULT_BINDING, Kernels, Options, probe};
pub use kv_cache::{KvCache, KvEncoding};
pub use plan::{Plan, PlannedBuffer, plan};
pub use sample::Sampler;
pub use weight::{Kind, Weight};

use std::rc::Rc;

use self::buffers::Buffer;
use self::device::Context;
use super::{Cache, Device, DeviceInfo, DeviceKind, HeadLayout, Operations, Sample, Sampling, Segments, WeightPart};
use crate::Result;
use crate::generate::PREFILL_ROWS;

/// Computes on a GPU. Cloning clones the handle.
#[derive(Clone)]
pub struct Wgpu(Rc<Context>);

/// An activation `[tokens, features]` of f32 on the device. Cloning clones the handle.
#[derive(Clone)]
pub struct Tensor {
    buffer: Buffer,
    shape: [usize; 2],
}

/// Token ids on the device. Cloning clones the handle.
#[derive(Clone)]
pub struct Tokens {
    buffer: Buffer,
    len: usize,
}

/// What has been asked of the device since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Compute dispatches.
    pub dispatches: u64,
    /// Submits to the queue.
    pub submits: u64,
    /// Bind groups alive: constant while decoding.
    pub bind_groups: usize,
}

impl Wgpu {
    /// Opens the adapter that [`probe`] describes.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when there is no adapter or it refuses to open.
    pub async fn new(options: Options) -> Result<Self> {
        device::open(options).await
    }

    /// What has been asked of the device so far.
    pub fn work(&self) -> Work {
        let (dispatches, submits) = self.0.counts();
        Work { dispatches, submits, bind_groups: self.0.pipelines.borrow().bind_groups() }
    }

    /// Bytes allocated on the device for a purpose.
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.0.pool.bytes(purpose)
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.0.kernels.get()
    }

    /// Size of the subgroups that the kernels use; `None` when they use none.
    pub fn subgroup_size(&self) -> Option<u32> {
        self.0.subgroup
    }

    /// Whether the kernels use f16.
    pub fn uses_f16(&self) -> bool {
        self.0.half
    }

    fn take(&self, shape: [usize; 2]) -> Result<Tensor> {
        let buffer = self.0.pool.take(&self.0.device, 4 * shape[0] as u64 * shape[1] as u64);
        if buffer.raw().size() > self.0.max_binding {
            return Err(self.0.error(format!(
                "an activation of {} × {} values is more than it can bind; use a smaller batch",
                shape[0], shape[1]
            )));
        }
        Ok(Tensor { buffer, shape })
    }
}

impl Device for Wgpu {
    type Tensor = Tensor;
    type Weight = Weight;
    type Tokens = Tokens;

    fn device(&self) -> DeviceInfo {
        self.0.info.clone()
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight> {
        self.new_weight(label, cols, parts)
    }

    fn write_rows(&self, weight: &mut Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
        self.write_weight(weight, first_row, bytes)
    }

    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Tensor> {
        self.upload(shape, values)
    }

    fn tokens(&self, ids: &[u32]) -> Result<Tokens> {
        self.upload_tokens(ids)
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        x.shape
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.read_values(x).await
    }

    async fn read_tokens(&self, tokens: &[Tokens]) -> Result<Vec<u32>> {
        self.read_ids(tokens).await
    }

    fn tokens_per_round_trip(&self) -> usize {
        match self.0.info.kind {
            DeviceKind::Gpu => 8,
            _ => 1,
        }
    }

    fn rows_per_round_trip(&self) -> usize {
        match self.0.info.kind {
            DeviceKind::Gpu => PREFILL_ROWS,
            _ => PREFILL_ROWS / 4,
        }
    }

    fn enter_block(&self, index: usize) -> Result<()> {
        self.submit_between_blocks(index)
    }
}

impl Operations for Wgpu {
    fn embed(&self, table: &Weight, ids: &Tokens) -> Result<Tensor> {
        self.embed_rows(table, ids)
    }

    fn rms_norm(&self, x: &Tensor, gain: &Weight, eps: f32) -> Result<Tensor> {
        self.normalize(x, gain, eps)
    }

    fn layer_norm(&self, x: &Tensor, gain: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        self.centre(x, gain, bias, eps)
    }

    fn linear(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        self.project(x, weight, bias)
    }

    fn rope(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments, frequencies: &Tensor) -> Result<Tensor> {
        self.rotate(qkv, heads, segments, frequencies)
    }

    fn attention(&self, qkv: &Tensor, heads: HeadLayout, segments: &Segments) -> Result<Tensor> {
        self.attend(qkv, heads, segments)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor> {
        self.rectify(x)
    }

    fn silu_mul(&self, gate_up: &Tensor) -> Result<Tensor> {
        self.gate(gate_up)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.sum(a, b)
    }

    fn add_columns(&self, x: &Tensor, delta: &Tensor, first: usize, scale: f32) -> Result<Tensor> {
        self.add_to_columns(x, delta, first, scale)
    }

    fn select_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        self.pick_rows(x, rows)
    }

    fn rms_norm_linear(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        weight: &Weight,
        bias: Option<&Weight>,
    ) -> Result<Tensor> {
        self.normalize_project(x, gain, eps, weight, bias)
    }

    fn rms_norm_gate_up(
        &self,
        x: &Tensor,
        gain: &Weight,
        eps: f32,
        gate_up: &Weight,
        bias: Option<&Weight>,
    ) -> Result<Tensor> {
        self.normalize_gate_up(x, gain, eps, gate_up, bias)
    }

    fn linear_add(&self, x: &Tensor, weight: &Weight, bias: Option<&Weight>, residual: &Tensor) -> Result<Tensor> {
        self.project_add(x, weight, bias, residual)
    }
}

impl Cache for Wgpu {
    type KvCache = KvCache;

    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<KvCache> {
        self.new_cache(layers, heads, sequences, capacity)
    }

    fn cache_append(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        self.append(cache, layer, qkv, heads, segments)
    }

    fn cache_fork(&self, cache: &mut KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.fork(cache, from, to, tokens)
    }

    fn attention_cached(
        &self,
        cache: &KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Tensor> {
        self.attend_cached(cache, layer, qkv, heads, segments)
    }

    fn rope_attention_cached(
        &self,
        cache: &mut KvCache,
        layer: usize,
        qkv: &Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Tensor,
    ) -> Result<Tensor> {
        self.rotate_append_attend(cache, layer, qkv, heads, segments, frequencies)
    }
}

impl Sample for Wgpu {
    type Sampler = Sampler;

    fn sampler(&self, vocab: usize) -> Result<Sampler> {
        self.new_sampler(vocab)
    }

    fn mark_seen(&self, sampler: &mut Sampler, ids: &[u32]) -> Result<()> {
        self.mark(sampler, ids)
    }

    fn sample(&self, logits: &Tensor, sampler: &mut Sampler, sampling: &Sampling, position: u32) -> Result<Tokens> {
        self.choose(logits, sampler, sampling, position)
    }
}
