//! Projections, and the low-rank adapters (LoRA, arXiv 2106.09685) that change them.

use std::ops::Range;

use super::Loader;
use crate::Result;
use crate::backend::{Device, Operations, check};
use crate::weights::Source;

/// A low-rank change to one module: `scale · b · a` is added to its weight. The module is some outputs of a projection,
/// whose weight may hold several modules (q, k and v; gate and up).
pub struct Adapter<B: Device> {
    /// The module's first column in the projection's result.
    pub first: usize,
    /// How many columns the module has there.
    pub outputs: usize,
    /// Factor of the product; PEFT's `lora_alpha / r`.
    pub scale: f32,
    /// `[rank, inputs]`.
    pub a: B::Weight,
    /// `[outputs, rank]`.
    pub b: B::Weight,
    /// The rows of a batch that it is for; all where it does not say.
    rows: Option<Range<usize>>,
}

/// A module of a projection: its name in the checkpoint, without ".weight", and its number of outputs.
#[derive(Clone)]
struct Module {
    name: String,
    outputs: usize,
}

/// A projection: one weight, the modules whose rows it holds, and their adapters. Without adapters each method is one
/// operation of the backend, fused where it can be.
#[derive(Clone)]
pub(super) struct Linear<B: Operations> {
    modules: Vec<Module>,
    weight: B::Weight,
    bias: Option<B::Weight>,
    adapters: Vec<Adapter<B>>,
}

impl<B: Device> Clone for Adapter<B> {
    fn clone(&self) -> Self {
        Self { a: self.a.clone(), b: self.b.clone(), rows: self.rows.clone(), ..*self }
    }
}

impl<B: Operations> Linear<B> {
    /// Loads the modules' weights into one, then their biases where they have any.
    pub async fn load<S: Source>(loader: &mut Loader<'_, B, S>, modules: &[String], bias: bool) -> Result<Self> {
        let named = |kind: &str| modules.iter().map(|module| format!("{module}.{kind}")).collect::<Vec<_>>();
        let (weights, biases) = (named("weight"), named("bias"));
        let outputs = weights.iter().map(|name| loader.info(name).map(|info| info.shape[0]));
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        let modules = modules.iter().zip(outputs).map(|(name, outputs)| Module { name: name.clone(), outputs });
        Ok(Self {
            modules: modules.collect(),
            weight: loader.matrix(&weights).await?,
            bias: loader.bias(bias, &biases).await?,
            adapters: Vec::new(),
        })
    }

    /// Names of the modules.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|module| module.name.as_str())
    }

    /// Adds an adapter to `module`; false when this projection does not hold it.
    pub fn adapt(&mut self, module: &str, scale: f32, a: &B::Weight, b: &B::Weight) -> bool {
        let Some(index) = self.modules.iter().position(|held| held.name == module) else { return false };
        let first = self.modules[..index].iter().map(|module| module.outputs).sum();
        let outputs = self.modules[index].outputs;
        self.adapters.push(Adapter { first, outputs, scale, a: a.clone(), b: b.clone(), rows: None });
        true
    }

    /// Takes off all adapters.
    pub fn unadapt(&mut self) {
        self.adapters.clear();
    }

    /// Adds the adapters that `other`, a projection of the same modules, has, for these rows of a batch.
    pub fn adapt_rows(&mut self, other: &Self, rows: &Range<usize>) {
        let own = other.adapters.iter().map(|adapter| Adapter { rows: Some(rows.clone()), ..adapter.clone() });
        self.adapters.extend(own);
    }

    /// `x · weightᵀ + bias`.
    pub fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let mut out = backend.linear(x, &self.weight, self.bias.as_ref())?;
        for Adapter { first, outputs, scale, a, b, rows } in &self.adapters {
            let rows = rows.clone().unwrap_or(0..backend.shape(x)[0]);
            let own = match rows.len() < backend.shape(x)[0] {
                true => &backend.select_rows(x, &rows.clone().collect::<Vec<_>>())?,
                false => x,
            };
            let delta = backend.linear(&backend.linear(own, a, None)?, b, None)?;
            check::shape("linear", "the product of an adapter", backend.shape(&delta), [rows.len(), *outputs])?;
            out = backend.add_columns(out, &delta, [rows.start, *first], *scale)?;
        }
        Ok(out)
    }

    /// [`Linear::forward`] on `x` after RMSNorm.
    pub fn forward_normed(&self, backend: &B, x: &B::Tensor, gain: &B::Weight, eps: f32) -> Result<B::Tensor> {
        if self.adapters.is_empty() {
            return backend.rms_norm_linear(x, gain, eps, &self.weight, self.bias.as_ref());
        }
        self.forward(backend, &backend.rms_norm(x, gain, eps)?)
    }

    /// `silu(gate) · up` of [`Linear::forward_normed`], whose modules are gate and up.
    pub fn forward_gated(&self, backend: &B, x: &B::Tensor, gain: &B::Weight, eps: f32) -> Result<B::Tensor> {
        if self.adapters.is_empty() {
            return backend.rms_norm_gate_up(x, gain, eps, &self.weight, self.bias.as_ref());
        }
        backend.silu_mul(&self.forward_normed(backend, x, gain, eps)?)
    }

    /// `residual +` [`Linear::forward`].
    pub fn forward_add(&self, backend: &B, x: &B::Tensor, residual: &B::Tensor) -> Result<B::Tensor> {
        if self.adapters.is_empty() {
            return backend.linear_add(x, &self.weight, self.bias.as_ref(), residual);
        }
        backend.add(residual, &self.forward(backend, x)?)
    }
}
