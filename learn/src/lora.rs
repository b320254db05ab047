//! Low-rank adapters (LoRA, arXiv 2106.09685) in the names and the format of PEFT.

use paddock_engine::ModelConfig;
use paddock_engine::backend::sampling_noise;
use paddock_engine::model::CausalLm;
use paddock_engine::weights::LowRank;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::optim::Precision;
use crate::store::Store;
use crate::tape::{ParameterId, ParameterInfo, Tape};
use crate::{Adjoint, Error, Result};

/// The file that says what they are.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// What stands before the name of a module in an adapter's file.
pub(crate) const PREFIX: &str = "base_model.model.";
/// The target that stands for all matrices of the blocks, as in PEFT.
pub const ALL_LINEAR: &str = "all-linear";
/// What of an adapter a matrix is, as the end of its name.
const SUFFIXES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// Which matrices get adapters, and of what size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lora {
    /// Rank of the products.
    pub rank: usize,
    /// The products are scaled by `alpha / rank`.
    pub alpha: f32,
    /// Names of the modules in every block, such as `q_proj`, or [`ALL_LINEAR`].
    pub targets: Vec<String>,
    /// The share of what an adapter reads that is dropped at random while it is trained.
    pub dropout: f32,
}

impl Default for Lora {
    /// As in PEFT for LLaMA.
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, targets: vec!["q_proj".to_string(), "v_proj".to_string()], dropout: 0.0 }
    }
}

impl Lora {
    /// Factor of the products.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank.max(1) as f32
    }

    /// The modules of `config`'s model that get an adapter, with the place of each in [`ModelConfig::params`].
    ///
    /// # Errors
    /// When a target is no matrix of the blocks.
    pub fn modules(&self, config: &ModelConfig) -> Result<Vec<(usize, String)>> {
        let mut known: Vec<String> = Vec::new();
        let mut modules = Vec::new();
        for (index, param) in config.params().into_iter().enumerate() {
            let Some(module) = param.name.strip_suffix(".weight") else { continue };
            let name = module.rsplit('.').next().unwrap_or_default();
            if !module.contains(".layers.") || name.contains("norm") {
                continue;
            }
            if !known.iter().any(|known| known == name) {
                known.push(name.to_string());
            }
            if self.targets.iter().any(|target| target == name || target == ALL_LINEAR) {
                modules.push((index, module.to_string()));
            }
        }
        match self.targets.iter().find(|target| *target != ALL_LINEAR && !known.contains(target)) {
            Some(unknown) => Err(Error::Request(format!(
                "the model has no module \"{unknown}\" for an adapter; it has {}",
                known.join(", ")
            ))),
            None => Ok(modules),
        }
    }

    /// The first values of the adapters of `config`'s model, by module. As in PEFT, `a` is uniform within `1/√inputs` and
    /// `b` is 0, so that nothing changes yet.
    ///
    /// # Errors
    /// When a target is no module of the model.
    pub fn products(&self, config: &ModelConfig, seed: u64) -> Result<Vec<(String, LowRank)>> {
        let params = config.params();
        let product = |(adapter, (index, module)): (usize, (usize, String))| {
            let [outputs, inputs] = params[index].shape;
            let bound = 1.0 / (inputs as f32).sqrt();
            let noise = |at: usize| (2.0 * sampling_noise(seed as u32, adapter as u32, at as u32) - 1.0) * bound;
            let a = (0..self.rank * inputs).map(noise).collect();
            (module, LowRank { scale: self.scale(), rank: self.rank, a, b: vec![0.0; outputs * self.rank] })
        };
        Ok(self.modules(config)?.into_iter().enumerate().map(product).collect())
    }

    /// Names of the two matrices of a module's adapter.
    pub fn labels(module: &str) -> [String; 2] {
        SUFFIXES.map(|suffix| format!("{PREFIX}{module}{suffix}"))
    }

    /// Gives `model` its adapters with their [`Lora::products`], whose matrices become the last parameters of its tape.
    ///
    /// # Errors
    /// When a target is no module of the model, or there is no room.
    pub fn attach<B: Adjoint, S: Store<B>>(&self, model: &mut CausalLm<Tape<B, S>>, seed: u64) -> Result<()> {
        let (tape, config) = (model.backend().clone(), model.config().clone());
        self.attach_with(&tape, &config, seed, &mut |module, scale, a, b| model.adapt(module, scale, a, b))
    }

    /// [`Lora::attach`] for any model: `adapt` gives a module of it the factor of the product, `a` and `b`.
    ///
    /// # Errors
    /// As [`Lora::attach`], and what `adapt` reports.
    pub fn attach_with<B: Adjoint, S: Store<B>>(
        &self,
        tape: &Tape<B, S>,
        config: &ModelConfig,
        seed: u64,
        adapt: &mut dyn FnMut(&str, f32, &ParameterId, &ParameterId) -> Result<()>,
    ) -> Result<()> {
        for (module, LowRank { scale, rank, a, b }) in self.products(config, seed)? {
            let [a_label, b_label] = Self::labels(&module);
            let first = tape.create_parameter(&a_label, [rank, a.len() / rank.max(1)], Precision::F32, true)?;
            let second = tape.create_parameter(&b_label, [b.len() / rank.max(1), rank], Precision::F32, true)?;
            tape.write_parameter(first, 0, &a)?;
            tape.drop_inputs(first, self.dropout)?;
            adapt(&module, scale, &first, &second)?;
        }
        Ok(())
    }

    /// Describes the adapter of the model at `base`, beside which `saved` modules are trained as a whole, such as a head.
    pub fn to_json(&self, base: &str, saved: &[String]) -> Value {
        let mut json = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            // As a text it stands for the modules; in a list it would be the name of one.
            "target_modules": match self.targets.iter().any(|target| target == ALL_LINEAR) {
                true => json!(ALL_LINEAR),
                false => json!(self.targets),
            },
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
        });
        if !saved.is_empty() {
            json["task_type"] = "SEQ_CLS".into();
            json["modules_to_save"] = saved.into();
        }
        json
    }
}

/// The matrices of the adapters among the parameters of a tape, and what is saved with them.
pub fn adapter_parameters<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>) -> Vec<ParameterInfo> {
    tape.parameters().into_iter().filter(|info| info.label.starts_with(PREFIX)).collect()
}

/// The modules among `parameters` of adapters that are trained as a whole.
pub fn saved_modules(parameters: &[ParameterInfo]) -> Vec<String> {
    let whole = |label: &&str| !SUFFIXES.iter().any(|suffix| label.ends_with(suffix));
    let labels = parameters.iter().filter_map(|info| info.label.strip_prefix(PREFIX)).filter(whole);
    let mut modules: Vec<String> = labels.filter_map(|label| Some(label.rsplit_once('.')?.0.to_string())).collect();
    modules.dedup();
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_scaled_by_alpha_over_the_rank() {
        assert_eq!(Lora { rank: 8, alpha: 16.0, ..Lora::default() }.scale(), 2.0);
        assert_eq!(Lora { rank: 8, alpha: 4.0, ..Lora::default() }.scale(), 0.5);
    }

    #[test]
    fn modules_beside_the_adapters_are_saved_whole() {
        let tape = Tape::new(paddock_engine::backend::Cpu::with_threads(1), crate::TapeOptions::default());
        let [a, b] = Lora::labels("model.layers.0.self_attn.q_proj");
        for label in [a, b, format!("{PREFIX}score.weight"), format!("{PREFIX}score.bias"), "lm_head.weight".into()] {
            tape.create_parameter(&label, [1, 1], Precision::F32, true).unwrap();
        }
        let saved = saved_modules(&tape.parameters());
        assert_eq!(saved, ["score"]);
        let lora = Lora::default();
        let of_a_score_model = lora.to_json("base", &saved);
        assert_eq!(of_a_score_model["modules_to_save"], json!(["score"]));
        assert_eq!(of_a_score_model["task_type"], "SEQ_CLS");
        let of_a_chat_model = lora.to_json("base", &[]);
        assert_eq!(of_a_chat_model["task_type"], "CAUSAL_LM");
        assert!(of_a_chat_model.get("modules_to_save").is_none());
    }
}
