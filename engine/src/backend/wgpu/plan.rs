//! The memory that a model needs on the device, buffer by buffer, before anything is loaded.
//!
//! Weights and cache are laid out by the functions that the device uses, so the plan and the device agree to the byte;
//! for activations the plan is what a prompt's largest batch can need.

use super::buffers::{Purpose, exact_size, pooled_size};
use super::encoding::KvEncoding;
use super::frame::{PARAMS_SLOTS, TABLE_WORDS};
use super::shaders::PARAMS;
use super::weight::layout;
use crate::backend::{HeadLayout, PREFILL_ROWS, WeightPart};
use crate::config::Param;
use crate::weights::Encoding;
use crate::{ModelConfig, Result};

/// A buffer, which is bound whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBuffer {
    /// The tensor, or the first of those that are fused, and which piece of it.
    pub label: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its size, which is also that of its binding.
    pub bytes: u64,
}

/// Every buffer that a model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are made.
    pub buffers: Vec<PlannedBuffer>,
    /// Encoding of the key-value cache.
    pub kv: KvEncoding,
}

impl Plan {
    /// Bytes for one purpose.
    pub fn total(&self, purpose: Purpose) -> u64 {
        self.buffers.iter().filter(|buffer| buffer.purpose == purpose).map(|buffer| buffer.bytes).sum()
    }

    /// Bytes for all.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.bytes).sum()
    }

    /// The largest binding: what the adapter's limit must allow.
    pub fn largest_binding(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.bytes).max().unwrap_or(0)
    }

    fn push(&mut self, label: impl Into<String>, purpose: Purpose, bytes: u64) {
        self.buffers.push(PlannedBuffer { label: label.into(), purpose, bytes });
    }

    /// One weight: its pieces, each with its scales if it is quantised.
    fn push_weight(&mut self, label: &str, cols: usize, parts: &[WeightPart], max_binding: u64) -> Result<()> {
        let layout = layout(label, cols, parts, max_binding)?;
        let count = layout.pieces.len();
        for (index, piece) in layout.pieces.iter().enumerate() {
            let of = if count > 1 { format!(" ({} of {count})", index + 1) } else { String::new() };
            self.push(format!("{label}{of}"), Purpose::Weights, exact_size(piece.quant_bytes));
            if piece.scale_bytes > 0 {
                self.push(format!("{label}{of} scales"), Purpose::Weights, exact_size(piece.scale_bytes));
            }
        }
        Ok(())
    }
}

/// The plan of a model with room for `context` tokens, on a device that binds up to `max_binding` bytes
/// ([`super::DEFAULT_BINDING`] is what WebGPU promises). `encoding` tells how the checkpoint holds a matrix.
///
/// # Errors
/// When a matrix cannot lie on the device.
pub fn plan(
    config: &ModelConfig,
    encoding: impl Fn(&Param) -> Encoding,
    context: usize,
    max_binding: u64,
) -> Result<Plan> {
    let heads = HeadLayout::of(config);
    let kv = KvEncoding::for_cache(config.num_hidden_layers, heads, context);
    let mut plan = Plan { buffers: Vec::new(), kv };
    plan_weights(&mut plan, config, encoding, max_binding)?;
    for layer in 0..config.num_hidden_layers {
        for kind in ["keys", "values"] {
            let bytes = exact_size(kv.layer_bytes(heads, context));
            plan.push(format!("{kind} of layer {layer}"), Purpose::KvCache, bytes);
        }
    }
    plan_activations(&mut plan, config, heads);
    Ok(plan)
}

/// The weights as [`crate::model`] fuses them.
fn plan_weights(
    plan: &mut Plan,
    config: &ModelConfig,
    encoding: impl Fn(&Param) -> Encoding,
    max_binding: u64,
) -> Result<()> {
    let params = config.params();
    let fused = |name: &str| {
        let joins = |ends: [&str; 2]| ends.iter().any(|end| name.ends_with(end));
        joins(["k_proj.weight", "v_proj.weight"])
            || joins(["k_proj.bias", "v_proj.bias"])
            || joins(["up_proj.weight", "up_proj.bias"])
    };
    let mut rest = params.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let others = after.iter().take_while(|param| fused(&param.name)).count();
        let group = &rest[..=others];
        let vector = group.iter().all(|param| param.shape[0] == 1);
        if vector {
            let cols = group.iter().map(|param| param.shape[1]).sum();
            let part = WeightPart { rows: 1, encoding: Encoding::F32 };
            plan.push_weight(&first.name, cols, &[part], max_binding)?;
        } else {
            let parts: Vec<_> =
                group.iter().map(|param| WeightPart { rows: param.shape[0], encoding: encoding(param) }).collect();
            plan.push_weight(&first.name, first.shape[1], &parts, max_binding)?;
        }
        rest = &rest[others + 1..];
    }
    Ok(())
}

/// The most that is alive at a time while a full batch of a prompt passes, and what a token takes.
fn plan_activations(plan: &mut Plan, config: &ModelConfig, heads: HeadLayout) {
    let rows = [
        ("residual stream", config.hidden_size),
        ("residual stream, next", config.hidden_size),
        ("normalised rows", config.hidden_size),
        ("block output", config.hidden_size),
        ("q, k and v", heads.qkv_dim()),
        ("q, k and v, rotated", heads.qkv_dim()),
        ("attention", heads.q_dim()),
        ("gate and up", 2 * config.intermediate_size),
        ("gated", config.intermediate_size),
    ];
    for (label, width) in rows {
        plan.push(label, Purpose::Activations, pooled_size(4 * (PREFILL_ROWS * width) as u64));
        plan.push(format!("{label}, one row"), Purpose::Activations, pooled_size(4 * width as u64));
    }
    for label in ["logits", "scores"] {
        plan.push(label, Purpose::Activations, pooled_size(4 * config.vocab_size as u64));
    }
    plan.push("seen tokens", Purpose::Activations, exact_size(4 * config.vocab_size.div_ceil(32) as u64));
    // 256 bytes is the alignment of parameters on most devices.
    plan.push("parameters of dispatches", Purpose::Activations, PARAMS_SLOTS * 256.max(4 * PARAMS as u64));
    plan.push("row tables", Purpose::Activations, 4 * TABLE_WORDS as u64);
    plan.push("tokens read back", Purpose::Staging, 256);
}
