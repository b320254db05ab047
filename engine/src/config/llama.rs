//! LLaMA's configuration and parameters (transformers `configuration_llama.py`), and those of models that are LLaMA
//! under another name: Mistral, Qwen 2 and others.

use serde_json::{Map, Value};

use super::read::Fields;
use super::{Architecture, Head, HeadSpec, ModelConfig, Param, RopeScaling};
use crate::{Error, Result};

/// An architecture that is LLaMA's in all but name, with what its configuration leaves out (transformers'
/// `configuration_*.py`).
struct Kin {
    /// The `model_type`.
    model_type: &'static str,
    max_position_embeddings: usize,
    /// Heads of keys and values; `None` for as many as there are of queries.
    num_key_value_heads: Option<usize>,
}

const KIN: [Kin; 8] = [
    Kin { model_type: "llama", max_position_embeddings: 2048, num_key_value_heads: None },
    Kin { model_type: "mistral", max_position_embeddings: 131_072, num_key_value_heads: Some(8) },
    Kin { model_type: "qwen2", max_position_embeddings: 32_768, num_key_value_heads: Some(32) },
    Kin { model_type: "yi", max_position_embeddings: 4096, num_key_value_heads: None },
    Kin { model_type: "aquila", max_position_embeddings: 2048, num_key_value_heads: None },
    Kin { model_type: "internlm", max_position_embeddings: 2048, num_key_value_heads: None },
    Kin { model_type: "skywork", max_position_embeddings: 4096, num_key_value_heads: None },
    Kin { model_type: "xverse", max_position_embeddings: 2048, num_key_value_heads: None },
];

/// Fields that change what a model computes, of architectures that otherwise look like LLaMA (Granite, MiniCPM, Cohere,
/// Gemma 2, SmolLM 3, OLMo, Mixtral), with the value that changes nothing.
const FOREIGN: [(&str, f64); 13] = [
    ("embedding_multiplier", 1.0),
    ("residual_multiplier", 1.0),
    ("logits_scaling", 1.0),
    ("logit_scale", 1.0),
    ("scale_emb", 1.0),
    ("scale_depth", 1.0),
    ("final_logit_softcapping", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("partial_rotary_factor", 1.0),
    ("clip_qkv", 0.0),
    ("use_qk_norm", 0.0),
    ("num_local_experts", 0.0),
    ("num_experts", 0.0),
];

/// Whether `model_type` is LLaMA or LLaMA under another name.
pub(super) fn is_kin(model_type: &str) -> bool {
    kin(model_type).is_some()
}

fn kin(model_type: &str) -> Option<&'static Kin> {
    KIN.iter().find(|kin| kin.model_type.eq_ignore_ascii_case(model_type))
}

/// Reads the `config.json` of an architecture that [`is_kin`]; end-of-sequence ids are left to the caller.
pub(super) fn from_json(config: &Value, file: &str, model_type: &str) -> Result<ModelConfig> {
    let fields = Fields::new(config, file);
    let kin = kin(model_type).unwrap_or(&KIN[0]);
    let activation = fields.text("hidden_act").unwrap_or("silu");
    // transformers has two names for it.
    if !["silu", "swish"].contains(&activation) {
        return Err(Error::Unsupported(format!("{file}: activation \"{activation}\" is not LLaMA's \"silu\"")));
    }
    for (name, neutral) in FOREIGN {
        let changes = |found: &Value| match found {
            Value::Bool(flag) => *flag,
            number => number.as_f64() != Some(neutral),
        };
        if let Some(found) = fields.get(name).filter(|found| changes(found)) {
            return Err(Error::Unsupported(format!(
                "{file}: \"{name}\" is {found}, which LLaMA does not have; Paddock would compute something else"
            )));
        }
    }
    let hidden_size = fields.required_size("hidden_size")?;
    let num_attention_heads = fields.required_size("num_attention_heads")?;
    let (rope_theta, rope_scaling) = rope(fields)?;
    let (attention_bias, attention_output_bias) = match kin.model_type {
        "qwen2" => (true, false),
        "internlm" => {
            let bias = fields.flag("bias")?.unwrap_or(true);
            (bias, bias)
        }
        _ => {
            let bias = fields.flag("attention_bias")?.unwrap_or(false);
            (bias, bias)
        }
    };
    let named = fields.size("max_position_embeddings")?.unwrap_or(kin.max_position_embeddings);
    let window = window(fields, kin)?;
    check_layers(fields, named, window)?;
    Ok(ModelConfig {
        architecture: Architecture::Llama,
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        num_hidden_layers: fields.required_size("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: match fields.size("num_key_value_heads")? {
            Some(heads) => heads,
            None if fields.has_null("num_key_value_heads") => num_attention_heads,
            None => kin.num_key_value_heads.unwrap_or(num_attention_heads),
        },
        head_dim: match fields.size("head_dim")? {
            Some(head_dim) => head_dim,
            None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
        },
        vocab_size: fields.required_size("vocab_size")?,
        max_position_embeddings: named.min(window.unwrap_or(usize::MAX)),
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        rope_factors: None,
        attention_bias,
        attention_output_bias,
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        head: match HeadSpec::from_json(config, file)? {
            Some(score) => Head::Score(score),
            None if fields.flag("tie_word_embeddings")?.unwrap_or(false) => Head::Tied,
            None => Head::Untied,
        },
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    })
}

/// The tokens that a token attends to where that is fewer than all before it. Up to as many, such a model is LLaMA, so
/// they become its context.
fn window(fields: Fields, kin: &Kin) -> Result<Option<usize>> {
    let used = match kin.model_type {
        "mistral" => true,
        "qwen2" => fields.flag("use_sliding_window")?.unwrap_or(false),
        _ => false,
    };
    Ok(fields.size("sliding_window")?.filter(|window| used && *window > 0))
}

/// Refuses layers that attend in other ways than to all tokens before (`layer_types`). A sliding window that holds `context`
/// tokens changes nothing, nor does one that bounds the context (`used`).
fn check_layers(fields: Fields, context: usize, used: Option<usize>) -> Result<()> {
    let sliding = used.is_some() || fields.size("sliding_window")?.is_some_and(|window| window >= context);
    let mut kinds = fields.get("layer_types").and_then(Value::as_array).into_iter().flatten();
    let other = kinds.find(|kind| match kind.as_str() {
        Some("full_attention") => false,
        Some("sliding_attention") => !sliding,
        _ => true,
    });
    match other {
        None => Ok(()),
        Some(kind) => Err(Error::Unsupported(format!(
            "{}: \"layer_types\" has {kind}, which LLaMA does not have; Paddock would compute something else",
            fields.file()
        ))),
    }
}

/// The base of the rotary frequencies, and how they are stretched.
fn rope(fields: Fields) -> Result<(f32, RopeScaling)> {
    let file = fields.file();
    // As in transformers, the older field goes before the newer one as a whole: a base in the latter is not read then.
    let rope = match fields.object("rope_scaling")?.filter(|rope| !rope.is_empty()) {
        Some(rope) => Some(rope),
        None => fields.object("rope_parameters")?,
    };
    let theta = match rope.map(|rope| rope.number("rope_theta")).transpose()?.flatten() {
        Some(theta) => Some(theta),
        None => fields.number("rope_theta")?,
    };
    let theta = theta.unwrap_or(10_000.0);
    let Some(rope) = rope else { return Ok((theta, RopeScaling::Default)) };
    let kind = rope.text("rope_type").or(rope.text("type")).unwrap_or("default");
    if rope.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(Error::Unsupported(format!(
            "{file}: only a part of each head is rotated (\"partial_rotary_factor\"), which LLaMA does not do"
        )));
    }
    let need = |name: &str| {
        rope.number(name)?
            .filter(|value| *value > 0.0)
            .ok_or_else(|| Error::format(file, format!("rope scaling \"{kind}\" needs a positive \"{name}\"")))
    };
    let scaling = match kind {
        "default" => RopeScaling::Default,
        // Frequencies that only change beyond `max_position_embeddings`, which bounds the context.
        "dynamic" => need("factor").map(|_| RopeScaling::Default)?,
        "linear" => RopeScaling::Linear { factor: need("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: need("factor")?,
            low_freq_factor: need("low_freq_factor")?,
            high_freq_factor: need("high_freq_factor")?,
            original_max_position_embeddings: need("original_max_position_embeddings")?,
        },
        other => {
            return Err(Error::Unsupported(format!(
                "{file}: rope scaling \"{other}\" is not supported; known are default, linear, dynamic and llama3"
            )));
        }
    };
    Ok((theta, scaling))
}

/// A sentence for the user where a `config.json` has both fields for the rotary frequencies, and they say different things.
pub(super) fn rope_note(config: &Value) -> Option<String> {
    let field = |name: &str| config.get(name).and_then(Value::as_object).filter(|rope| !rope.is_empty()).cloned();
    let spelled = |mut rope: Map<String, Value>| {
        let kind = rope.remove("type");
        if let Some(kind) = kind {
            rope.entry("rope_type").or_insert(kind);
        }
        let theta = config.get("rope_theta").cloned().unwrap_or_else(|| 10_000.0.into());
        rope.entry("rope_theta").or_insert(theta);
        rope
    };
    let (older, newer) = (spelled(field("rope_scaling")?), spelled(field("rope_parameters")?));
    (older != newer).then(|| {
        "config.json has \"rope_scaling\" beside \"rope_parameters\", which says otherwise; as in transformers, the former holds"
            .to_owned()
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
