//! OPT's configuration and parameters (transformers `modeling_opt.py`; arXiv 2205.01068).

use serde_json::Value;

use super::read::Fields;
use super::{Architecture, Head, HeadSpec, ModelConfig, Param, RopeScaling};
use crate::{Error, Result};

/// Rows of the table of positions before the first position's.
pub(crate) const POSITION_OFFSET: usize = 2;
/// Of PyTorch's `LayerNorm`, which OPT leaves as it is.
const LAYER_NORM_EPS: f32 = 1e-5;

/// Reads OPT's `config.json`; end-of-sequence ids are left to the caller.
pub(super) fn from_json(config: &Value, file: &str) -> Result<ModelConfig> {
    let fields = Fields::new(config, file);
    let unsupported = |problem: &str| Err(Error::Unsupported(format!("{file}: {problem}")));
    let flag = |name: &str, default: bool| Ok::<_, Error>(fields.flag(name)?.unwrap_or(default));
    if !flag("do_layer_norm_before", true)? {
        return unsupported(
            "this OPT normalises after its layers (only OPT-350M does); Paddock runs those that do before",
        );
    }
    if flag("_remove_final_layer_norm", false)? || !flag("layer_norm_elementwise_affine", true)? {
        return unsupported("this OPT lacks norms that Paddock expects");
    }
    let activation = fields.text("activation_function").unwrap_or("relu");
    if activation != "relu" {
        return unsupported(&format!("activation \"{activation}\" is not OPT's \"relu\""));
    }
    let hidden_size = fields.required_size("hidden_size")?;
    if fields.size("word_embed_proj_dim")?.is_some_and(|width| width != hidden_size) {
        return unsupported("this OPT projects its embeddings (only OPT-350M does)");
    }
    let num_attention_heads = fields.required_size("num_attention_heads")?;
    let bias = flag("enable_bias", true)?;
    Ok(ModelConfig {
        architecture: Architecture::Opt,
        hidden_size,
        intermediate_size: fields.required_size("ffn_dim")?,
        num_hidden_layers: fields.required_size("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim: hidden_size.checked_div(num_attention_heads).unwrap_or(0),
        vocab_size: fields.required_size("vocab_size")?,
        max_position_embeddings: fields.size("max_position_embeddings")?.unwrap_or(2048),
        rms_norm_eps: LAYER_NORM_EPS,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        rope_factors: None,
        attention_bias: bias,
        attention_output_bias: bias,
        mlp_bias: bias,
        head: match HeadSpec::from_json(config, file)? {
            Some(score) => Head::Score(score),
            None if flag("tie_word_embeddings", true)? => Head::Tied,
            None => Head::Untied,
        },
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    })
}

/// Every parameter of the trunk, in loading order.
pub(super) fn trunk_params(config: &ModelConfig) -> Vec<Param> {
    let mut params = Vec::new();
    let mut push = |name: String, rows: usize, cols: usize| params.push(Param { name, shape: [rows, cols] });
    let hidden = config.hidden_size;
    push("model.decoder.embed_tokens.weight".into(), config.vocab_size, hidden);
    let positions = config.max_position_embeddings + POSITION_OFFSET;
    push("model.decoder.embed_positions.weight".into(), positions, hidden);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.decoder.layers.{layer}.{part}");
        push(name("self_attn_layer_norm.weight"), 1, hidden);
        push(name("self_attn_layer_norm.bias"), 1, hidden);
        for part in ["q_proj", "k_proj", "v_proj"] {
            push(name(&format!("self_attn.{part}.weight")), hidden, hidden);
        }
        if config.attention_bias {
            for part in ["q_proj", "k_proj", "v_proj"] {
                push(name(&format!("self_attn.{part}.bias")), 1, hidden);
            }
        }
        push(name("self_attn.out_proj.weight"), hidden, hidden);
        if config.attention_bias {
            push(name("self_attn.out_proj.bias"), 1, hidden);
        }
        push(name("final_layer_norm.weight"), 1, hidden);
        push(name("final_layer_norm.bias"), 1, hidden);
        for (part, rows, cols) in [("fc1", config.intermediate_size, hidden), ("fc2", hidden, config.intermediate_size)]
        {
            push(name(&format!("{part}.weight")), rows, cols);
            if config.mlp_bias {
                push(name(&format!("{part}.bias")), 1, rows);
            }
        }
    }
    push("model.decoder.final_layer_norm.weight".into(), 1, hidden);
    push("model.decoder.final_layer_norm.bias".into(), 1, hidden);
    params
}
