//! Everything below a model's head, whatever its architecture.

use super::adapters::Linear;
use super::{Attend, Llama, Loader, Opt};
use crate::backend::{HeadLayout, Operations, Segments};
use crate::config::Architecture;
use crate::weights::Source;
use crate::{Error, ModelConfig, Result};

/// A trunk: tokens in, the residual stream out. A clone shares the weights; its adapters are its own.
#[derive(Clone)]
pub struct Trunk<B: Operations> {
    backend: B,
    config: ModelConfig,
    layers: Layers<B>,
    fingerprint: String,
}

#[derive(Clone)]
enum Layers<B: Operations> {
    Llama(Llama<B>),
    Opt(Opt<B>),
}

impl<B: Operations> Trunk<B> {
    /// Reads the trunk's parameters in the order of [`ModelConfig::params`].
    ///
    /// # Errors
    /// What the source, the checkpoint or the device report.
    pub async fn load<S: Source>(backend: &B, loader: &mut Loader<'_, B, S>) -> Result<Self> {
        let config = loader.config().clone();
        let layers = match config.architecture {
            Architecture::Llama => Layers::Llama(Llama::load(backend, loader).await?),
            Architecture::Opt => Layers::Opt(Opt::load(loader).await?),
        };
        Ok(Self { backend: backend.clone(), config, layers, fingerprint: loader.fingerprint() })
    }

    /// Identifies the trunk that a score head was trained on: the SHA-256 of all norm gains and biases as f32, in the
    /// order of [`ModelConfig::params`]. Quantising the matrices does not change it; training does.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The model's sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The backend that holds the model.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The layout of the heads in a fused row.
    pub fn heads(&self) -> HeadLayout {
        HeadLayout::of(&self.config)
    }

    /// The embedding, which a tied head reuses.
    pub fn embed_tokens(&self) -> &B::Weight {
        match &self.layers {
            Layers::Llama(llama) => &llama.embed_tokens,
            Layers::Opt(opt) => &opt.embed_tokens,
        }
    }

    /// Gives `module` a low-rank adapter: from now on `scale · b · a` is added to its weight, beside what adapters it
    /// has. `module` is a parameter's name in [`ModelConfig::params`] without ".weight", such as
    /// "model.layers.3.self_attn.q_proj"; `a` is `[rank, inputs]` and `b` `[outputs, rank]`. Matrices of other shapes
    /// are reported by the first forward pass.
    ///
    /// # Errors
    /// When the trunk has no such module.
    pub fn adapt(&mut self, module: &str, scale: f32, a: &B::Weight, b: &B::Weight) -> Result<()> {
        let layers = self.config.num_hidden_layers;
        let mut projections = self.projections_mut();
        if projections.iter_mut().any(|projection| projection.adapt(module, scale, a, b)) {
            return Ok(());
        }
        let names: Vec<&str> = projections.iter().flat_map(|projection| projection.modules()).collect();
        let first = names[..names.len() / layers.max(1)].join(", ");
        Err(Error::Request(format!(
            "the model has no module \"{module}\" for an adapter; it has {first}, and so on in all {layers} layers"
        )))
    }

    /// One trunk for several that share its weights and differ in adapters: the first rows of a batch run as by the first
    /// of `parts`, with this many rows, and so on. What the weights are read for once, all parts have.
    ///
    /// # Errors
    /// When there are no parts, or they are not of one model.
    pub fn together(parts: &[(&Self, usize)]) -> Result<Self> {
        let Some((first, _)) = parts.first() else {
            return Err(Error::Request("there is no trunk to run".to_string()));
        };
        let mut all = (*first).clone();
        all.projections_mut().into_iter().for_each(Linear::unadapt);
        let mut start = 0;
        for (part, rows) in parts {
            if part.fingerprint != all.fingerprint || part.config != all.config {
                return Err(Error::Request("models that run together need one trunk; these have several".to_string()));
            }
            let mut own = (*part).clone();
            let range = start..start + rows;
            let pairs = all.projections_mut().into_iter().zip(own.projections_mut());
            pairs.for_each(|(all, own)| all.adapt_rows(own, &range));
            start = range.end;
        }
        Ok(all)
    }

    fn projections_mut(&mut self) -> Vec<&mut Linear<B>> {
        match &mut self.layers {
            Layers::Llama(llama) => llama.projections().collect(),
            Layers::Opt(opt) => opt.projections().collect(),
        }
    }

    /// The residual stream after the last block, before the final norm: `[tokens, hidden_size]`.
    ///
    /// `attend` says what rows attend to.
    ///
    /// # Errors
    /// When the batch does not fit a cache, or the device fails.
    pub fn forward(&self, tokens: &B::Tokens, segments: &Segments, attend: &mut impl Attend<B>) -> Result<B::Tensor> {
        match &self.layers {
            Layers::Llama(llama) => llama.forward(&self.backend, &self.config, tokens, segments, attend),
            Layers::Opt(opt) => opt.forward(&self.backend, &self.config, tokens, segments, attend),
        }
    }

    /// The final norm alone: `[tokens, hidden_size]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn final_norm(&self, x: &B::Tensor) -> Result<B::Tensor> {
        let eps = self.config.rms_norm_eps;
        match &self.layers {
            Layers::Llama(llama) => llama.norm(&self.backend, eps, x),
            Layers::Opt(opt) => opt.norm(&self.backend, eps, x),
        }
    }

    /// The final norm and a head's projection: `[tokens, head rows]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn head(&self, x: &B::Tensor, weight: &B::Weight, bias: Option<&B::Weight>) -> Result<B::Tensor> {
        let eps = self.config.rms_norm_eps;
        match &self.layers {
            Layers::Llama(llama) => llama.head(&self.backend, eps, x, weight, bias),
            Layers::Opt(opt) => opt.head(&self.backend, eps, x, weight, bias),
        }
    }
}
