//! What looks like a model's folder and holds something that is not read: weights quantised by other programs, blocks of
//! other architectures, adapters. Each is named, with what to do instead.

use serde_json::Value;

use super::source::Source;
use super::stored::StoredTensors;
use crate::config::Param;
use crate::{Error, ModelConfig, Result};

const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_LIMIT: u64 = 1 << 20;

/// The ends of names that only weights quantised by other programs have, and the program.
const QUANTIZED: [(&str, &str); 9] = [
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".SCB", "bitsandbytes"),
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_inv", "FP8"),
    (".weight_scale", "FP8"),
    (".scales", "MLX"),
];
/// Types of numbers that only quantised weights have.
const SMALL_TYPES: [&str; 6] = ["U8", "I8", "F8_E4M3", "F8_E5M2", "I32", "U32"];

/// Refuses weights that another program has quantised. `config` is the folder's `config.json`.
///
/// # Errors
/// [`Error::Unsupported`] with the program's name.
pub(super) fn check_quantization(config: &Value, stored: &StoredTensors) -> Result<()> {
    let by_name = QUANTIZED.iter().find(|(end, _)| stored.names().any(|name| name.ends_with(end)));
    let named = config["quantization_config"]["quant_method"].as_str();
    if by_name.is_none() && (named.is_none() || stored.of_dtype(&SMALL_TYPES).is_none()) {
        return Ok(());
    }
    let program = match (named, by_name) {
        (Some("gptq"), _) => "GPTQ",
        (Some("awq"), _) => "AWQ",
        (Some(other), _) => other,
        (None, Some((_, program))) => program,
        (None, None) => "another program",
    };
    Err(Error::Unsupported(format!(
        "this model is quantised by {program}, whose weights Paddock does not read; use the original model, or a GGUF \
         file of it"
    )))
}

/// Refuses blocks that have a part which neither LLaMA nor OPT has; without it the model would say something else.
///
/// # Errors
/// [`Error::Unsupported`] with the part's name.
pub(super) fn check_blocks(config: &ModelConfig, params: &[Param], stored: &StoredTensors) -> Result<()> {
    if config.is_head_alone() {
        return Ok(());
    }
    let Some(name) = stored.foreign(config, params) else { return Ok(()) };
    if name.contains("lora_") || name.contains("base_layer") {
        return Err(Error::Unsupported(format!(
            "the checkpoint holds {name}: it was saved with an adapter that is not merged; merge it with PEFT, or save \
             model and adapter on their own"
        )));
    }
    Err(foreign_tensor("the checkpoint holds", name))
}

/// The error for a tensor that no model of these architectures has. `holder` says who holds it.
pub(super) fn foreign_tensor(holder: &str, name: &str) -> Error {
    let owner = match name {
        _ if name.contains("q_norm") || name.contains("k_norm") => {
            ", a norm of queries and keys as in Qwen 3 and OLMo 2"
        }
        _ if name.contains("feedforward_layernorm") || name.contains("post_ffw_norm") => {
            ", a norm around the feed-forward layers as in Gemma 2 and OLMo 2"
        }
        _ if ["expert", "moe", "exps", "ffn_gate_inp"].iter().any(|part| name.contains(part)) => {
            ", a part of a mixture of experts"
        }
        _ if name.contains("qkv") || name.contains("W_pack") || name.contains("gate_up") => {
            ", several projections in one tensor"
        }
        _ => "",
    };
    Error::Unsupported(format!("{holder} {name}{owner}; LLaMA and OPT, which Paddock runs, do not have it"))
}

/// The error for a folder without weights: an adapter's is named as such.
pub(super) async fn no_weights<S: Source>(source: &S) -> Result<Error> {
    if let Some(bytes) = source.read_all(ADAPTER_CONFIG, ADAPTER_LIMIT).await? {
        let base = serde_json::from_slice::<Value>(&bytes).ok();
        let base = base.and_then(|json| json["base_model_name_or_path"].as_str().map(str::to_string));
        let of = base.filter(|base| !base.is_empty()).map_or_else(String::new, |base| format!(" for \"{base}\""));
        return Ok(Error::Request(format!(
            "this folder holds an adapter{of} and no model; give the model that it was trained on, and the adapter beside \
             it (--adapter), or merge both first (paddock merge)"
        )));
    }
    Ok(Error::Missing {
        file: "model.safetensors".to_string(),
        hint:
            "expected a folder with config.json and safetensors files, one GGUF file, or a web pack with manifest.json"
                .to_string(),
    })
}
