//! `adapter_config.json` (PEFT `tuners/lora/config.py`).

use std::path::Path;

use paddock_engine::ModelConfig;
use paddock_engine::weights::Source;
use paddock_learn::lora::ADAPTER_CONFIG;
use serde_json::{Map, Value};

use super::TRUNK;
use super::targets::{Targets, matches_pattern};
use super::tensors::{AdapterTensors, Part};
use crate::files::FolderSource;
use crate::{Error, Result};

/// Size limit of the file.
const LIMIT: u64 = 1 << 20;

/// What the initialisation took out of the base's weights. It is not in the adapter's file, and is taken out again when the
/// adapter is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Initial {
    /// Nothing.
    Unchanged,
    /// The best approximation of the adapter's rank (PiSSA, arXiv 2404.02948).
    Pissa,
    /// The part within the span of the first columns (OLoRA, arXiv 2406.01775).
    Olora,
}

/// How an adapter is applied.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    rank: usize,
    alpha: f64,
    ranks: Vec<(String, f64)>,
    alphas: Vec<(String, f64)>,
    rank_stabilised: bool,
    dora: bool,
    targets: Targets,
    pub initial: Initial,
}

/// Fields that have no effect on what a trained adapter computes.
const WITHOUT_EFFECT: [&str; 20] = [
    "task_type",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "auto_mapping",
    "peft_version",
    "parent_library",
    // Settings of initialisations that leave the base as it is, or are refused by their name.
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "megatron_config",
    "megatron_core",
    "runtime_config",
    // Ignored for linear layers by PEFT itself.
    "fan_in_fan_out",
    // Both are found in the adapter's tensors.
    "bias",
    "modules_to_save",
    "ensure_weight_tying",
];

/// Fields that are read.
const READ: [&str; 14] = [
    "peft_type",
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "init_lora_weights",
    "lora_bias",
    "trainable_token_indices",
];

fn wrong(problem: impl std::fmt::Display) -> Error {
    Error::Request(format!("{ADAPTER_CONFIG}: {problem}"))
}

impl AdapterConfig {
    /// Reads the configuration in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is of a kind that is not read; the error names the field.
    pub fn read(folder: &Path) -> Result<Self> {
        let bytes = pollster::block_on(FolderSource::open(folder)?.read_all(ADAPTER_CONFIG, LIMIT))?;
        let bytes = bytes.ok_or_else(|| {
            Error::Request(format!("{} holds no {ADAPTER_CONFIG}; give the folder of an adapter", folder.display()))
        })?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("it is not valid JSON: {error}")))?;
        let fields = json.as_object().ok_or_else(|| wrong("expected an object"))?;
        Self::parse(fields)
    }

    fn parse(fields: &Map<String, Value>) -> Result<Self> {
        let get = |name: &str| fields.get(name).unwrap_or(&Value::Null);
        if get("peft_type") != "LORA" {
            return Err(wrong(format!("expected an adapter of type LORA, found {}", get("peft_type"))));
        }
        for (name, value) in fields {
            let known = READ.contains(&name.as_str()) || WITHOUT_EFFECT.contains(&name.as_str());
            let refused = ["lora_bias", "trainable_token_indices"].contains(&name.as_str());
            if (!known || refused) && is_set(value) {
                return Err(wrong(format!(
                    "\"{name}\" is {value}, which Paddock does not apply; merge this adapter with PEFT"
                )));
            }
        }
        let initial = match get("init_lora_weights") {
            Value::Null | Value::Bool(_) => Initial::Unchanged,
            Value::String(name) => match name.as_str() {
                "gaussian" | "eva" | "orthogonal" | "true" | "false" => Initial::Unchanged,
                "pissa" => Initial::Pissa,
                "olora" => Initial::Olora,
                other => {
                    return Err(wrong(format!(
                        "\"init_lora_weights\" is \"{other}\", which changed the base in a way that cannot be repeated; save \
                         the adapter anew with PEFT's path_initial_model_for_weight_conversion"
                    )));
                }
            },
            other => return Err(wrong(format!("\"init_lora_weights\": expected a name, found {other}"))),
        };
        let number = |name: &str, default: f64| match get(name) {
            Value::Null => Ok(default),
            value => {
                positive(value).ok_or_else(|| wrong(format!("\"{name}\": expected a number above 0, found {value}")))
            }
        };
        let pattern = |name: &str| match get(name) {
            Value::Null => Ok(Vec::new()),
            Value::Object(patterns) => patterns
                .iter()
                .map(|(pattern, value)| {
                    let value = positive(value)
                        .ok_or_else(|| wrong(format!("\"{name}\": expected numbers above 0, found {value}")))?;
                    Ok((pattern.clone(), value))
                })
                .collect::<Result<Vec<_>>>(),
            other => Err(wrong(format!("\"{name}\": expected an object of numbers, found {other}"))),
        };
        Ok(Self {
            rank: number("r", 8.0)? as usize,
            alpha: number("lora_alpha", 8.0)?,
            ranks: pattern("rank_pattern")?,
            alphas: pattern("alpha_pattern")?,
            rank_stabilised: is_set(get("use_rslora")),
            dora: is_set(get("use_dora")),
            targets: Targets::parse(fields).map_err(wrong)?,
            initial,
        })
    }

    /// Rank of the adapter of `module`.
    ///
    /// # Errors
    /// When patterns contradict each other.
    pub fn rank(&self, module: &str) -> Result<usize> {
        Ok(by_pattern(&self.ranks, module)?.map_or(self.rank, |rank| rank as usize))
    }

    /// Factor of the product of `module`: `alpha / rank`, or rank-stabilised `alpha / √rank` (arXiv 2312.03732).
    ///
    /// # Errors
    /// When patterns contradict each other.
    pub fn scale(&self, module: &str) -> Result<f32> {
        let rank = self.rank(module)?.max(1) as f64;
        let alpha = by_pattern(&self.alphas, module)?.unwrap_or(self.alpha);
        Ok((alpha / if self.rank_stabilised { rank.sqrt() } else { rank }) as f32)
    }

    /// Checks that the modules with adapters in the file are those that the configuration targets in `model`.
    ///
    /// # Errors
    /// The first module that only one of both has.
    pub fn check_modules(&self, model: &ModelConfig, adapted: &[String], tensors: &AdapterTensors) -> Result<()> {
        for module in adapted {
            if !self.targets.contains(module).map_err(wrong)? {
                return Err(tensors.wrong(module, &format!("is not targeted by {ADAPTER_CONFIG}")));
            }
            if self.dora != tensors.has(module, Part::Magnitude) || self.dora && tensors.is_embedding(module) {
                return Err(
                    tensors.wrong(module, "has not the magnitudes that \"use_dora\" asks for; merge it with PEFT")
                );
            }
        }
        let bare = adapted.iter().all(|module| !module.starts_with(TRUNK));
        for param in model.params().iter().filter(|param| param.shape[0] > 1) {
            let Some(module) = param.name.strip_suffix(".weight") else { continue };
            let module = if bare { module.strip_prefix(TRUNK).unwrap_or(module) } else { module };
            if self.targets.contains(module).map_err(wrong)? && !adapted.iter().any(|adapted| adapted == module) {
                return Err(tensors.wrong(module, "is missing; the adapter is of another model, or incomplete"));
            }
        }
        Ok(())
    }
}

/// The value of the pattern that matches `module`.
fn by_pattern(patterns: &[(String, f64)], module: &str) -> Result<Option<f64>> {
    let mut found: Option<(&str, f64)> = None;
    for (pattern, value) in patterns {
        if !matches_pattern(pattern, module).map_err(wrong)? {
            continue;
        }
        match found {
            Some((other, first)) if first != *value => {
                return Err(wrong(format!(
                    "the patterns \"{other}\" and \"{pattern}\" both match {module}, with different values; leave one out"
                )));
            }
            _ => found = Some((pattern, *value)),
        }
    }
    Ok(found.map(|(_, value)| value))
}

fn positive(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number > 0.0 && number.is_finite()).then_some(number)
}

/// Whether a field says anything.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(further: Value) -> Result<AdapterConfig> {
        let mut json = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"] });
        json.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        AdapterConfig::parse(json.as_object().unwrap())
    }

    #[test]
    fn patterns_decide_rank_and_scale() {
        let config = parse(json!({
            "rank_pattern": { "v_proj": 2, "^model.layers.1.self_attn.q_proj": 16 }, "alpha_pattern": { ".*v_proj": 32 },
        }));
        let config = config.unwrap();
        let of = |module: &str| (config.rank(module).unwrap(), config.scale(module).unwrap());
        assert_eq!(of("model.layers.0.self_attn.q_proj"), (4, 2.0));
        assert_eq!(of("model.layers.0.self_attn.v_proj"), (2, 16.0));
        assert_eq!(of("model.layers.1.self_attn.q_proj"), (16, 0.5));
        let rooted = parse(json!({ "use_rslora": true })).unwrap();
        assert_eq!(rooted.scale("q_proj").unwrap(), 4.0);
        let both = parse(json!({ "alpha_pattern": { "v_proj": 1, "self_attn.v_proj": 2 } })).unwrap();
        assert!(both.scale("model.layers.0.self_attn.v_proj").is_err());
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        for (further, words) in [
            (json!({ "lora_bias": true }), "lora_bias"),
            (json!({ "trainable_token_indices": [1, 2] }), "trainable_token_indices"),
            (json!({ "target_parameters": ["mlp.experts"] }), "target_parameters"),
            (json!({ "use_qalora": true }), "use_qalora"),
            (json!({ "layer_replication": [[0, 4], [2, 5]] }), "layer_replication"),
            (json!({ "of_the_future": 7 }), "of_the_future"),
            (json!({ "init_lora_weights": "pissa_niter_16" }), "pissa_niter_16"),
            (json!({ "init_lora_weights": "loftq" }), "loftq"),
            (json!({ "peft_type": "IA3" }), "IA3"),
            (json!({ "r": 0 }), "\"r\""),
            (json!({ "target_modules": 7 }), "target_modules"),
        ] {
            let error = parse(further).unwrap_err().to_string();
            assert!(error.starts_with("adapter_config.json: ") && error.contains(words), "{error}");
        }
        let harmless = json!({ "lora_dropout": 0.1, "use_qalora": false, "of_the_future": null, "bias": "none" });
        assert!(parse(harmless).is_ok());
    }
}
