//! The LLaMA trunk: embedding, blocks, and the gain of the final norm (arXiv 2302.13971; names as in transformers'
//! `modeling_llama.py`).

use super::adapters::Linear;
use super::{Attend, Loader};
use crate::backend::{HeadLayout, Operations, Segments};
use crate::weights::Source;
use crate::{ModelConfig, Result};

/// Everything below a model's head.
#[derive(Clone)]
pub(super) struct Llama<B: Operations> {
    pub embed_tokens: B::Weight,
    blocks: Vec<Block<B>>,
    norm: B::Weight,
    /// `[1, head_dim / 2]`, radians per position.
    frequencies: B::Tensor,
}

/// One block. q, k and v share a projection, gate and up another.
#[derive(Clone)]
struct Block<B: Operations> {
    input_layernorm: B::Weight,
    qkv_proj: Linear<B>,
    o_proj: Linear<B>,
    post_attention_layernorm: B::Weight,
    gate_up_proj: Linear<B>,
    down_proj: Linear<B>,
}

impl<B: Operations> Llama<B> {
    pub async fn load<S: Source>(backend: &B, loader: &mut Loader<'_, B, S>) -> Result<Self> {
        let config = loader.config().clone();
        let embed_tokens = loader.matrix(&["model.embed_tokens.weight"]).await?;
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            blocks.push(Block::load(loader, index, &config).await?);
        }
        let norm = loader.vector(&["model.norm.weight"]).await?;
        let frequencies = config.inverse_frequencies();
        let frequencies = backend.tensor([1, frequencies.len()], &frequencies)?;
        Ok(Self { embed_tokens, blocks, norm, frequencies })
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
        let mut x = backend.embed(&self.embed_tokens, tokens)?;
        for (index, block) in self.blocks.iter().enumerate() {
            backend.enter_block(index)?;
            let qkv = block.qkv_proj.forward_normed(backend, &x, &block.input_layernorm, eps)?;
            let attended = attend.attend(backend, index, &qkv, heads, segments, Some(&self.frequencies))?;
            x = block.o_proj.forward_add(backend, &attended, &x)?;
            let gated = block.gate_up_proj.forward_gated(backend, &x, &block.post_attention_layernorm, eps)?;
            x = block.down_proj.forward_add(backend, &gated, &x)?;
        }
        backend.enter_block(self.blocks.len())?;
        Ok(x)
    }

    /// The projections of all blocks.
    pub fn projections(&mut self) -> impl Iterator<Item = &mut Linear<B>> {
        self.blocks.iter_mut().flat_map(|Block { qkv_proj, o_proj, gate_up_proj, down_proj, .. }| {
            [qkv_proj, o_proj, gate_up_proj, down_proj]
        })
    }

    pub fn norm(&self, backend: &B, eps: f32, x: &B::Tensor) -> Result<B::Tensor> {
        backend.rms_norm(x, &self.norm, eps)
    }

    pub fn head(
        &self,
        backend: &B,
        eps: f32,
        x: &B::Tensor,
        weight: &B::Weight,
        bias: Option<&B::Weight>,
    ) -> Result<B::Tensor> {
        backend.rms_norm_linear(x, &self.norm, eps, weight, bias)
    }
}

impl<B: Operations> Block<B> {
    async fn load<S: Source>(loader: &mut Loader<'_, B, S>, index: usize, config: &ModelConfig) -> Result<Self> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}")));
        let gate_up = ["gate_proj", "up_proj"].map(|part| name(&format!("mlp.{part}")));
        Ok(Self {
            input_layernorm: loader.vector(&[name("input_layernorm.weight")]).await?,
            qkv_proj: Linear::load(loader, &qkv, config.attention_bias).await?,
            o_proj: Linear::load(loader, &[name("self_attn.o_proj")], config.attention_output_bias).await?,
            post_attention_layernorm: loader.vector(&[name("post_attention_layernorm.weight")]).await?,
            gate_up_proj: Linear::load(loader, &gate_up, config.mlp_bias).await?,
            down_proj: Linear::load(loader, &[name("mlp.down_proj")], config.mlp_bias).await?,
        })
    }
}
