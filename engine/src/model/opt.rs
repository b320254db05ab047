//! The OPT trunk (arXiv 2205.01068; names as in transformers' `modeling_opt.py`): norms before the layers, learned
//! positions.

use super::{Attend, Loader};
use crate::backend::{HeadLayout, Operations, Segments};
use crate::config::POSITION_OFFSET;
use crate::weights::Source;
use crate::{ModelConfig, Result};

/// Everything below a model's head.
pub(super) struct Opt<B: Operations> {
    pub embed_tokens: B::Weight,
    embed_positions: B::Weight,
    layers: Vec<Layer<B>>,
    final_layer_norm: Norm<B>,
}

/// A LayerNorm's gain and bias.
struct Norm<B: Operations> {
    gain: B::Weight,
    bias: B::Weight,
}

/// One layer. The fused weight keeps the rows of q, k and v together.
struct Layer<B: Operations> {
    self_attn_layer_norm: Norm<B>,
    qkv_proj: B::Weight,
    qkv_bias: Option<B::Weight>,
    out_proj: B::Weight,
    out_bias: Option<B::Weight>,
    final_layer_norm: Norm<B>,
    fc1: B::Weight,
    fc1_bias: Option<B::Weight>,
    fc2: B::Weight,
    fc2_bias: Option<B::Weight>,
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
            let qkv = backend.linear(&normed, &layer.qkv_proj, layer.qkv_bias.as_ref())?;
            let attended = attend.attend(backend, index, &qkv, heads, segments, None)?;
            x = backend.linear_add(&attended, &layer.out_proj, layer.out_bias.as_ref(), &x)?;
            let normed = layer.final_layer_norm.forward(backend, &x, eps)?;
            let hidden = backend.relu(&backend.linear(&normed, &layer.fc1, layer.fc1_bias.as_ref())?)?;
            x = backend.linear_add(&hidden, &layer.fc2, layer.fc2_bias.as_ref(), &x)?;
        }
        backend.enter_block(self.layers.len())?;
        Ok(x)
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
        let qkv = |kind: &str| ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj.{kind}")));
        Ok(Self {
            self_attn_layer_norm: Norm::load(loader, &name("self_attn_layer_norm")).await?,
            qkv_proj: loader.matrix(&qkv("weight")).await?,
            qkv_bias: loader.bias(config.attention_bias, &qkv("bias")).await?,
            out_proj: loader.matrix(&[name("self_attn.out_proj.weight")]).await?,
            out_bias: loader.bias(config.attention_bias, &[name("self_attn.out_proj.bias")]).await?,
            final_layer_norm: Norm::load(loader, &name("final_layer_norm")).await?,
            fc1: loader.matrix(&[name("fc1.weight")]).await?,
            fc1_bias: loader.bias(config.mlp_bias, &[name("fc1.bias")]).await?,
            fc2: loader.matrix(&[name("fc2.weight")]).await?,
            fc2_bias: loader.bias(config.mlp_bias, &[name("fc2.bias")]).await?,
        })
    }
}
