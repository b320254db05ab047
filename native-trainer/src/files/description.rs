//! What a Hugging Face folder holds besides its weights: `config.json` and the tokenizer's files.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::ModelConfig;
use paddock_engine::config::Param;
use paddock_engine::tokenizer::Tokenizer;
use serde_json::Value;

use super::config_json::config_json;
use super::{Dtype, write_file};
use crate::Result;

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
        let own = fs::read(source.join("config.json")).ok().and_then(|bytes| paddock_engine::json::parse(&bytes).ok());
        let mut description = config_json(own, config)?;
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

    /// Makes `template` the model's chat template.
    pub fn set_chat_template(&mut self, template: &str) {
        self.tokenizer_config["chat_template"] = template.into();
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

#[cfg(test)]
mod tests {
    use super::*;

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
