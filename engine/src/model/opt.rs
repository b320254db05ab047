//! The OPT trunk (arXiv 2205.01068; names as in transformers' `modeling_opt.py`): norms before the layers, learned
//! positions.

use super::adapters::Linear;
use super::{Attend, Loader};
use crate::backend::{HeadLayout, Operations, Segments};
use crate::config::POSITION_OFFSET;
use crate::weights::Source;
use crate::{ModelConfig, Result};

/// Everything below a model's head.
#[derive(Clone)]
pub(super) struct Opt<B: Operations> {
    pub embed_tokens: B::Weight,
    embed_positions: B::Weight,
    layers: Vec<Layer<B>>,
    final_layer_norm: Norm<B>,
}

/// A LayerNorm's gain and bias.
#[derive(Clone)]
struct Norm<B: Operations> {
    gain: B::Weight,
    bias: B::Weight,
}

/// One layer. q, k and v share a projection.
#[derive(Clone)]
struct Layer<B: Operations> {
    self_attn_layer_norm: Norm<B>,
    qkv_proj: Linear<B>,
    out_proj: Linear<B>,
    final_layer_norm: Norm<B>,
    fc1: Linear<B>,
    fc2: Linear<B>,
}

impl<B: Operations> Opt<B> {
    pub async fn load<S: Source>(loader: &mut Loader<'_, B, S>) -> Result<Self> {
        let config = loader.config().clone();
        let embed_tokens = loader.matrix(&["model.decoder.embed_tokens.weight"]).await?;
        let embed_positions = loader.matrix(&["model.decoder.embed_positions.weight"]).await?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(Layer::load(loader, index, &config).await?);
        }
        let final_layer_norm = Norm::load(loader, "model.decoder.final_layer_norm").await?;
        Ok(Self { embed_tokens, embed_positions, layers, final_layer_norm })
    }

    pub fn forward(
        &self,
        backend: &B,
        config: &ModelConfig,
        tokens: &B::Tokens,
        segments: &Segments,
        attend: &mut impl Attend<B>,
    ) -> Result<B::Tensor> {
        let (heads, eps) = (HeadLayout::of(config), config.rms_norm_eps);
        let positions: Vec<u32> =
            segments.positions().iter().map(|position| position + POSITION_OFFSET as u32).collect();
        let positions = backend.embed(&self.embed_positions, &backend.tokens(&positions)?)?;
        let mut x = backend.add(&backend.embed(&self.embed_tokens, tokens)?, &positions)?;
        for (index, layer) in self.layers.iter().enumerate() {
            backend.enter_block(index)?;
            let normed = layer.self_attn_layer_norm.forward(backend, &x, eps)?;
            let qkv = layer.qkv_proj.forward(backend, &normed)?;
            let attended = attend.attend(backend, index, &qkv, heads, segments, None)?;
            x = layer.out_proj.forward_add(backend, &attended, &x)?;
            let normed = layer.final_layer_norm.forward(backend, &x, eps)?;
            let hidden = backend.relu(&layer.fc1.forward(backend, &normed)?)?;
            x = layer.fc2.forward_add(backend, &hidden, &x)?;
        }
        backend.enter_block(self.layers.len())?;
        Ok(x)
    }

    /// The projections of all layers.
    pub fn projections(&mut self) -> impl Iterator<Item = &mut Linear<B>> {
        self.layers.iter_mut().flat_map(|Layer { qkv_proj, out_proj, fc1, fc2, .. }| [qkv_proj, out_proj, fc1, fc2])
    }

    pub fn norm(&self, backend: &B, eps: f32, x: &B::Tensor) -> Result<B::Tensor> {
        self.final_layer_norm.forward(backend, x, eps)
    }

    pub fn head(
        &self,
        backend: &B,
        eps: f32,
        x: &B::Tensor,
        weight: &B::Weight,
        bias: Option<&B::Weight>,
    ) -> Result<B::Tensor> {
        backend.linear(&self.final_layer_norm.forward(backend, x, eps)?, weight, bias)
    }
}

impl<B: Operations> Norm<B> {
    async fn load<S: Source>(loader: &mut Loader<'_, B, S>, name: &str) -> Result<Self> {
        let gain = loader.vector(&[format!("{name}.weight")]).await?;
        let bias = loader.vector(&[format!("{name}.bias")]).await?;
        Ok(Self { gain, bias })
    }

    fn forward(&self, backend: &B, x: &B::Tensor, eps: f32) -> Result<B::Tensor> {
        backend.layer_norm(x, &self.gain, &self.bias, eps)
    }
}

impl<B: Operations> Layer<B> {
    async fn load<S: Source>(loader: &mut Loader<'_, B, S>, index: usize, config: &ModelConfig) -> Result<Self> {
        let name = |part: &str| format!("model.decoder.layers.{index}.{part}");
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}")));
        Ok(Self {
            self_attn_layer_norm: Norm::load(loader, &name("self_attn_layer_norm")).await?,
            qkv_proj: Linear::load(loader, &qkv, config.attention_bias).await?,
            out_proj: Linear::load(loader, &[name("self_attn.out_proj")], config.attention_bias).await?,
            final_layer_norm: Norm::load(loader, &name("final_layer_norm")).await?,
            fc1: Linear::load(loader, &[name("fc1")], config.mlp_bias).await?,
            fc2: Linear::load(loader, &[name("fc2")], config.mlp_bias).await?,
        })
    }
}
