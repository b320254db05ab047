//! One model configuration, from any `config.json` or GGUF header, and the only list of parameter names and shapes.

mod llama;
mod mixture;
mod opt;
mod read;
mod score_head;
mod size;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};
pub(crate) use mixture::{GATE_SCALE, TRANSFORM};
pub use mixture::{GateLayer, Mixture, MixtureKind};
pub(crate) use opt::POSITION_OFFSET;
use read::Fields;
pub use score_head::{HeadLayer, HeadSpec, Normalization, Reduce, ScoreFamily, TrunkReference};
pub(crate) use score_head::{MEAN, VAR};
pub use size::DEFAULT_CONTEXT;
pub(crate) use size::check_context;

/// How rotary frequencies are stretched for long contexts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
pub enum RopeScaling {
    /// Plain rotary embedding.
    Default,
    /// Positions divided by `factor` (transformers `modeling_rope_utils.py`, `linear`).
    Linear {
        /// Divisor of the positions.
        factor: f32,
    },
    /// Llama 3's smooth blend between plain and divided frequencies (same file, `llama3`).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// Context length of the base model.
        original_max_position_embeddings: f32,
    },
}

/// What the final hidden state goes into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// A projection on the vocabulary with its own weight.
    Untied,
    /// A projection on the vocabulary that reuses the embedding.
    Tied,
    /// A score of each token.
    Score(HeadSpec),
}

/// Which file of `model/` runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// RMSNorm, rotary positions, SwiGLU.
    #[default]
    Llama,
    /// LayerNorm before each layer, learned positions, ReLU.
    Opt,
}

/// A model of the LLaMA or OPT architecture. Field names are those of transformers' `LlamaConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The architecture.
    #[serde(default)]
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward network.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm, to the variance in LayerNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Frequency divisors that a GGUF file carries (`rope_freqs.weight`), applied instead of `rope_scaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_factors: Option<Vec<f32>>,
    /// Biases on q, k and v.
    pub attention_bias: bool,
    /// A bias on o. A `config.json` has one flag for both; GGUF files may lack this one.
    #[serde(default)]
    pub attention_output_bias: bool,
    /// Biases on gate, up and down.
    pub mlp_bias: bool,
    /// The model's head.
    pub head: Head,
    /// Beginning-of-sequence id.
    pub bos_token_id: Option<u32>,
    /// Every id that ends an answer.
    pub eos_token_ids: Vec<u32>,
}

/// The architecture of a `config.json`; without one, that of its class.
fn model_type(fields: Fields<'_>) -> &str {
    let classes = fields.get("architectures").and_then(Value::as_array);
    let is_of =
        |class: &str| classes.into_iter().flatten().any(|name| name.as_str().is_some_and(|n| n.starts_with(class)));
    match fields.text("model_type") {
        Some(named) => named,
        None if is_of("OPT") => "opt",
        None if is_of("Mistral") => "mistral",
        None if is_of("Qwen2For") => "qwen2",
        None => "llama",
    }
}

/// The projection on the vocabulary of a model with [`Head::Untied`].
pub const LM_HEAD: &str = "lm_head.weight";

/// One tensor of a checkpoint, by the name Hugging Face gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Name in the checkpoint.
    pub name: String,
    /// Rows and columns; one-dimensional tensors have one row.
    pub shape: [usize; 2],
}

impl ModelConfig {
    /// Reads a Hugging Face `config.json`, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`) or 5
    /// (`rope_parameters`). `generation` is `generation_config.json`, whose end-of-sequence ids are added.
    ///
    /// # Errors
    /// When a field is missing, absurd, or names another architecture.
    pub fn from_json(config: &Value, generation: Option<&Value>) -> Result<Self> {
        const FILE: &str = "config.json";
        let fields = Fields::new(config, FILE);
        let mut model = match model_type(fields) {
            "opt" => opt::from_json(config, FILE)?,
            kin if llama::is_kin(kin) => llama::from_json(config, FILE, kin)?,
            other => {
                return Err(Error::Unsupported(format!(
                    "{FILE}: this model is of type \"{other}\"; Paddock runs the architectures LLaMA (model_type \
                     \"llama\", and \"mistral\", \"qwen2\", \"yi\" and others that are the same) and OPT (\"opt\")"
                )));
            }
        };
        model.bos_token_id = fields.token_ids("bos_token_id")?.first().copied();
        model.eos_token_ids = fields.token_ids("eos_token_id")?;
        if let Some(generation) = generation {
            for id in Fields::new(generation, "generation_config.json").token_ids("eos_token_id")? {
                if !model.eos_token_ids.contains(&id) {
                    model.eos_token_ids.push(id);
                }
            }
        }
        model.validate(FILE)?;
        Ok(model)
    }

    /// Where the fields of a `config.json` contradict each other, and which of them is believed: a sentence each.
    pub(crate) fn contradictions(config: &Value) -> Vec<String> {
        llama::rope_note(config).into_iter().collect()
    }

    /// Checks that the sizes make a model; `file` names their origin in errors.
    ///
    /// # Errors
    /// When a size is zero, absurdly large, or does not divide what it must.
    pub fn validate(&self, file: &str) -> Result<()> {
        // Larger than any published LLaMA by two orders of magnitude; keeps every product far below overflow.
        const LIMIT: usize = 1 << 24;
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("num_attention_heads × head_dim", self.num_attention_heads.saturating_mul(self.head_dim)),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, value) in sizes {
            if value == 0 || value > LIMIT {
                return Err(Error::format(file, format!("\"{name}\" is {value}; expected 1 to {LIMIT}")));
            }
        }
        if self.num_hidden_layers > 4096 {
            return Err(Error::format(
                file,
                format!("\"num_hidden_layers\" is {}; expected at most 4096", self.num_hidden_layers),
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(Error::format(
                file,
                format!(
                    "{} attention heads cannot share {} key-value heads evenly",
                    self.num_attention_heads, self.num_key_value_heads
                ),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::format(
                file,
                format!("\"head_dim\" is {}; rotary embedding needs an even width", self.head_dim),
            ));
        }
        if !(self.rms_norm_eps >= 0.0 && self.rope_theta > 0.0) {
            return Err(Error::format(file, "\"rms_norm_eps\" or \"rope_theta\" is not a positive number"));
        }
        self.score_head().map_or(Ok(()), |head| head.validate(file))
    }

    /// Takes note of which optional tensors a checkpoint has, by Hugging Face's names.
    pub(crate) fn detect(&mut self, has: impl Fn(&str) -> bool) {
        if let Head::Score(head) = &mut self.head {
            head.detect(has);
        }
    }

    /// The head of a score model.
    pub fn score_head(&self) -> Option<&HeadSpec> {
        match &self.head {
            Head::Score(head) => Some(head),
            Head::Tied | Head::Untied => None,
        }
    }

    /// True for a checkpoint that holds a score head and no trunk.
    pub fn is_head_alone(&self) -> bool {
        self.score_head().is_some_and(|head| head.trunk.is_some())
    }

    /// The name of the table of tokens, without which no model begins.
    pub fn embedding(&self) -> &'static str {
        match self.architecture {
            Architecture::Llama => "model.embed_tokens.weight",
            Architecture::Opt => "model.decoder.embed_tokens.weight",
        }
    }

    /// Columns of q: heads × head width.
    pub fn q_dim(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Columns of k, and of v.
    pub fn kv_dim(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Inverse rotary frequencies, one for each pair of a head: `[head_dim / 2]`, radians per position.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let half = self.head_dim / 2;
        (0..half)
            .map(|i| {
                let frequency = 1.0 / f64::from(self.rope_theta).powf(2.0 * i as f64 / self.head_dim as f64);
                if let Some(divisor) = self.rope_factors.as_ref().and_then(|f| f.get(i)) {
                    return (frequency / f64::from(*divisor)) as f32;
                }
                match self.rope_scaling {
                    RopeScaling::Default => frequency as f32,
                    RopeScaling::Linear { factor } => (frequency / f64::from(factor)) as f32,
                    RopeScaling::Llama3 {
                        factor,
                        low_freq_factor,
                        high_freq_factor,
                        original_max_position_embeddings,
                    } => {
                        let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
                        let original = f64::from(original_max_position_embeddings);
                        let wavelength = 2.0 * std::f64::consts::PI / frequency;
                        let divided = frequency / f64::from(factor);
                        if wavelength > original / low {
                            divided as f32
                        } else if wavelength < original / high {
                            frequency as f32
                        } else {
                            let smooth = (original / wavelength - low) / (high - low);
                            ((1.0 - smooth) * divided + smooth * frequency) as f32
                        }
                    }
                }
            })
            .collect()
    }

    /// Every parameter of the model, in the order in which loading, saving and packing walk them.
    /// A checkpoint of a score head alone has no others.
    pub fn params(&self) -> Vec<Param> {
        let hidden = self.hidden_size;
        let head = self.score_head().map(|head| head.params(hidden)).unwrap_or_default();
        if self.is_head_alone() {
            return head;
        }
        let mut params = match self.architecture {
            Architecture::Llama => llama::trunk_params(self),
            Architecture::Opt => opt::trunk_params(self),
        };
        if self.head == Head::Untied {
            params.push(Param { name: LM_HEAD.to_string(), shape: [self.vocab_size, hidden] });
        }
        params.extend(head);
        params
    }
}
