//! What a Hugging Face folder holds besides its weights: `config.json` and the tokenizer's files.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::ModelConfig;
use paddock_engine::config::{Architecture, Head, Param, RopeScaling};
use paddock_engine::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{Dtype, write_file};
use crate::{Error, Result};

/// What a folder says about a model besides its weights.
#[derive(Debug, Clone)]
pub struct Description {
    source: PathBuf,
    dtype: Dtype,
    config: Value,
    tokenizer: String,
    tokenizer_config: Value,
}

impl Description {
    /// Describes a model that was read from `source`: its own `config.json` where it has one, else one made from
    /// `config`. Weights will be of `dtype`.
    ///
    /// # Errors
    /// When the model cannot be described in Hugging Face's terms.
    pub fn new(source: &Path, config: &ModelConfig, tokenizer: &Tokenizer, dtype: Dtype) -> Result<Self> {
        let own = fs::read(source.join("config.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut description = match own {
            Some(own) => own,
            None => described(config)?,
        };
        description["vocab_size"] = config.vocab_size.into();
        // Transformers 5 reads the first, transformers 4 the second.
        description["dtype"] = dtype.torch_name().into();
        description["torch_dtype"] = dtype.torch_name().into();
        let tokenizer_config = tokenizer.to_config();
        Ok(Self {
            source: source.to_path_buf(),
            dtype,
            config: description,
            tokenizer: tokenizer.to_json()?,
            tokenizer_config,
        })
    }

    /// The model that was described.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// How its weights are written.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Records special tokens that were added to the tokenizer, by their names in `tokenizer_config.json`, and the new
    /// `vocab_size`.
    pub fn add_tokens(&mut self, tokens: &[(&str, &str)], tokenizer: &Tokenizer, vocab_size: usize) {
        self.config["vocab_size"] = vocab_size.into();
        for (name, token) in tokens {
            self.tokenizer_config[name] = (*token).into();
            if let (Some(id), false) = (tokenizer.token_id(token), *name == "unk_token") {
                self.config[format!("{name}_id")] = id.into();
            }
        }
    }

    /// Writes the tokenizer's files and then `config.json`. It comes last because a folder without it is not a model.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.write_tokenizer(folder)?;
        write_file(&folder.join("config.json"), &format!("{:#}\n", self.config))
    }

    /// Writes the tokenizer's files.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_tokenizer(&self, folder: &Path) -> Result<()> {
        write_file(&folder.join("tokenizer.json"), &self.tokenizer)?;
        write_file(&folder.join("tokenizer_config.json"), &format!("{:#}\n", self.tokenizer_config))
    }
}

/// A parameter's dimensions in PyTorch: gains and biases have one.
pub(super) fn dimensions(param: &Param) -> Vec<usize> {
    let owner = param.name.rsplit('.').nth(1).unwrap_or_default();
    if param.name.ends_with(".bias") || owner.contains("norm") { vec![param.shape[1]] } else { param.shape.to_vec() }
}

/// A `config.json` for a model that came without one.
pub(super) fn described(config: &ModelConfig) -> Result<Value> {
    let unsupported = |what: &str| {
        Err(Error::Request(format!("a model with {what} cannot be written as a Hugging Face folder; train from one")))
    };
    if config.architecture != Architecture::Llama {
        return unsupported("this architecture");
    }
    if config.rope_factors.is_some() || config.attention_bias != config.attention_output_bias {
        return unsupported("a GGUF file's own rotary factors or biases");
    }
    let tied = match config.head {
        Head::Tied => true,
        Head::Untied => false,
        Head::Score(_) => return unsupported("a score head from a GGUF file"),
    };
    let theta = config.rope_theta;
    let (mut rope, scaling) = match config.rope_scaling {
        RopeScaling::Default => (json!({ "rope_type": "default" }), Value::Null),
        RopeScaling::Linear { factor } => {
            let rope = json!({ "rope_type": "linear", "factor": factor });
            (rope.clone(), rope)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let rope = json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings as u64,
            });
            (rope.clone(), rope)
        }
    };
    rope["rope_theta"] = theta.into();
    Ok(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope,
        "rope_theta": theta,
        "rope_scaling": scaling,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": tied,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_described_model_reads_back_as_itself() {
        let source = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 99, "tie_word_embeddings": true,
            "bos_token_id": 1, "eos_token_id": [2, 3], "rms_norm_eps": 1e-5, "rope_theta": 50000.0,
            "rope_scaling": { "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 512 },
        });
        let config = ModelConfig::from_json(&source, None).unwrap();
        let mut described = described(&config).unwrap();
        described["vocab_size"] = 99.into();
        assert_eq!(ModelConfig::from_json(&described, None).unwrap(), config);
    }

    #[test]
    fn gains_and_biases_have_one_dimension() {
        let dimensions = |name: &str| dimensions(&Param { name: name.to_string(), shape: [1, 8] });
        for name in ["model.norm.weight", "model.layers.0.input_layernorm.weight", "score_head.bias"] {
            assert_eq!(dimensions(name), [8], "{name}");
        }
        assert_eq!(dimensions("score_head.weight"), [1, 8]);
        assert_eq!(dimensions("model.layers.0.mlp.up_proj.weight"), [1, 8]);
    }
}
