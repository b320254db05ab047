//! LLaMA's configuration and parameters (transformers `configuration_llama.py`).

use serde_json::Value;

use super::{Architecture, Head, ModelConfig, Param, RopeScaling, ScoreHead, read};
use crate::{Error, Result};

/// Reads LLaMA's `config.json`; end-of-sequence ids are left to the caller.
pub(super) fn from_json(config: &Value, file: &str) -> Result<ModelConfig> {
    let activation = config.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
    if activation != "silu" {
        return Err(Error::Unsupported(format!("{file}: activation \"{activation}\" is not LLaMA's \"silu\"")));
    }
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_f64).map(|v| v as f32);
    let flag = |name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
    let size = |name: &str| read::size(config, file, name);
    let required = |name: &str| read::required_size(config, file, name);

    let hidden_size = required("hidden_size")?;
    let num_attention_heads = required("num_attention_heads")?;
    let rope = config
        .get("rope_parameters")
        .filter(|v| v.is_object())
        .or(config.get("rope_scaling").filter(|v| v.is_object()));
    let rope_theta =
        rope.and_then(|r| number(r, "rope_theta")).or_else(|| number(config, "rope_theta")).unwrap_or(10_000.0);
    let rope_scaling = match rope {
        None => RopeScaling::Default,
        Some(rope) => {
            let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str).unwrap_or("default");
            let need = |name: &str| {
                number(rope, name)
                    .filter(|v| *v > 0.0)
                    .ok_or_else(|| Error::format(file, format!("rope scaling \"{kind}\" needs a positive \"{name}\"")))
            };
            match kind {
                "default" => RopeScaling::Default,
                "linear" => RopeScaling::Linear { factor: need("factor")? },
                "llama3" => RopeScaling::Llama3 {
                    factor: need("factor")?,
                    low_freq_factor: need("low_freq_factor")?,
                    high_freq_factor: need("high_freq_factor")?,
                    original_max_position_embeddings: need("original_max_position_embeddings")?,
                },
                other => {
                    return Err(Error::Unsupported(format!(
                        "{file}: rope scaling \"{other}\" is not supported; known are default, linear and llama3"
                    )));
                }
            }
        }
    };
    Ok(ModelConfig {
        architecture: Architecture::Llama,
        hidden_size,
        intermediate_size: required("intermediate_size")?,
        num_hidden_layers: required("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: size("num_key_value_heads")?.unwrap_or(num_attention_heads),
        head_dim: match size("head_dim")? {
            Some(head_dim) => head_dim,
            None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
        },
        vocab_size: required("vocab_size")?,
        max_position_embeddings: size("max_position_embeddings")?.unwrap_or(2048),
        rms_norm_eps: number(config, "rms_norm_eps").unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        rope_factors: None,
        attention_bias: flag("attention_bias"),
        attention_output_bias: flag("attention_bias"),
        mlp_bias: flag("mlp_bias"),
        head: match ScoreHead::from_json(config, file)? {
            Some(score) => Head::Score(score),
            None if flag("tie_word_embeddings") => Head::Tied,
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
    push("model.embed_tokens.weight".into(), config.vocab_size, hidden);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        push(name("input_layernorm.weight"), 1, hidden);
        let attention = [("q_proj", config.q_dim()), ("k_proj", config.kv_dim()), ("v_proj", config.kv_dim())];
        for (part, rows) in attention {
            push(name(&format!("self_attn.{part}.weight")), rows, hidden);
        }
        if config.attention_bias {
            for (part, rows) in attention {
                push(name(&format!("self_attn.{part}.bias")), 1, rows);
            }
        }
        push(name("self_attn.o_proj.weight"), hidden, config.q_dim());
        if config.attention_output_bias {
            push(name("self_attn.o_proj.bias"), 1, hidden);
        }
        push(name("post_attention_layernorm.weight"), 1, hidden);
        let mlp = [("gate_proj", config.intermediate_size), ("up_proj", config.intermediate_size)];
        for (part, rows) in mlp {
            push(name(&format!("mlp.{part}.weight")), rows, hidden);
        }
        if config.mlp_bias {
            for (part, rows) in mlp {
                push(name(&format!("mlp.{part}.bias")), 1, rows);
            }
        }
        push(name("mlp.down_proj.weight"), hidden, config.intermediate_size);
        if config.mlp_bias {
            push(name("mlp.down_proj.bias"), 1, hidden);
        }
    }
    push("model.norm.weight".into(), 1, hidden);
    params
}
