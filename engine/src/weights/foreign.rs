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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use serde_json::json;

    use crate::config::Architecture;
    use crate::weights::safetensors::FileEntry;

    /// What is said of a folder with one tensor of type `dtype`, whose configuration names `method`.
    fn checked(name: &str, dtype: &str, method: Option<&str>) -> Result<()> {
        let entry = FileEntry { name: name.to_string(), dtype: dtype.to_string(), shape: vec![1], offset: 0, bytes: 1 };
        let stored = StoredTensors::new(HashMap::from([(name.to_string(), (0, entry))]), Architecture::Llama);
        check_quantization(&json!({ "quantization_config": { "quant_method": method } }), &stored)
    }

    #[test]
    fn quantised_weights_are_known_by_name_or_by_configuration_and_type() {
        assert!(checked("a.weight", "F16", None).is_ok());
        // Other tables may be of small numbers, and merged models keep the configuration they were trained with.
        assert!(checked("a.table", "U8", None).is_ok());
        assert!(checked("a.weight", "F16", Some("awq")).is_ok());
        assert!(checked("a.weight", "U8", Some("awq")).unwrap_err().to_string().contains("by AWQ"));
        assert!(checked("a.absmax", "F32", None).unwrap_err().to_string().contains("by bitsandbytes"));
    }

    #[test]
    fn an_unknown_tensor_is_given_no_owner() {
        let said = |name| foreign_tensor("m holds", name).to_string();
        assert!(said("a.odd").starts_with("m holds a.odd; LLaMA"));
        assert!(said("a.qkv").contains("several projections"));
    }
}
