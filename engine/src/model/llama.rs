//! The LLaMA trunk: embedding, blocks, and the gain of the final norm (arXiv 2302.13971; names as in transformers'
//! `modeling_llama.py`).

use super::{Attend, Loader};
use crate::backend::{HeadLayout, Operations, Segments};
use crate::weights::Source;
use crate::{ModelConfig, Result};

/// Everything below a model's head.
pub(super) struct Llama<B: Operations> {
    pub embed_tokens: B::Weight,
    blocks: Vec<Block<B>>,
    norm: B::Weight,
    /// `[1, head_dim / 2]`, radians per position.
    frequencies: B::Tensor,
}

/// One block. Fused weights keep the rows of q, k and v, and of gate and up, together.
struct Block<B: Operations> {
    input_layernorm: B::Weight,
    qkv_proj: B::Weight,
    qkv_bias: Option<B::Weight>,
    o_proj: B::Weight,
    o_bias: Option<B::Weight>,
    post_attention_layernorm: B::Weight,
    gate_up_proj: B::Weight,
    gate_up_bias: Option<B::Weight>,
    down_proj: B::Weight,
    down_bias: Option<B::Weight>,
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
            let qkv =
                backend.rms_norm_linear(&x, &block.input_layernorm, eps, &block.qkv_proj, block.qkv_bias.as_ref())?;
            let attended = attend.attend(backend, index, &qkv, heads, segments, Some(&self.frequencies))?;
            x = backend.linear_add(&attended, &block.o_proj, block.o_bias.as_ref(), &x)?;
            let gated = backend.rms_norm_gate_up(
                &x,
                &block.post_attention_layernorm,
                eps,
                &block.gate_up_proj,
                block.gate_up_bias.as_ref(),
            )?;
            x = backend.linear_add(&gated, &block.down_proj, block.down_bias.as_ref(), &x)?;
        }
        backend.enter_block(self.blocks.len())?;
        Ok(x)
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
        let qkv = |kind: &str| ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj.{kind}")));
        let gate_up = |kind: &str| ["gate", "up"].map(|part| name(&format!("mlp.{part}_proj.{kind}")));
        Ok(Self {
            input_layernorm: loader.vector(&[name("input_layernorm.weight")]).await?,
            qkv_proj: loader.matrix(&qkv("weight")).await?,
            qkv_bias: loader.bias(config.attention_bias, &qkv("bias")).await?,
            o_proj: loader.matrix(&[name("self_attn.o_proj.weight")]).await?,
            o_bias: loader.bias(config.attention_output_bias, &[name("self_attn.o_proj.bias")]).await?,
            post_attention_layernorm: loader.vector(&[name("post_attention_layernorm.weight")]).await?,
            gate_up_proj: loader.matrix(&gate_up("weight")).await?,
            gate_up_bias: loader.bias(config.mlp_bias, &gate_up("bias")).await?,
            down_proj: loader.matrix(&[name("mlp.down_proj.weight")]).await?,
            down_bias: loader.bias(config.mlp_bias, &[name("mlp.down_proj.bias")]).await?,
        })
    }
}
