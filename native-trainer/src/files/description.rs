//! What a Hugging Face folder holds besides its weights: `config.json`, the tokenizer's files, the settings of generation.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::ModelConfig;
use paddock_engine::config::Param;
use paddock_engine::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::atomic::write_bytes;
use super::config_json::config_json;
use super::export::{GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, describe_tokenizer, kept_files};
use super::model_source::has_tokenizer;
use super::{Dtype, FolderSource, ModelSource, write_file};
use crate::Result;

/// What a folder says about a model besides its weights.
#[derive(Debug, Clone)]
pub struct Description {
    source: PathBuf,
    dtype: Dtype,
    config: Value,
    /// All other files, by name.
    files: Vec<(String, Vec<u8>)>,
}

impl Description {
    /// Describes a model that was read from `source`: with its own files where it has them, so that other programs find in
    /// the new folder what they found there; else with those made from `config` and `tokenizer`. Weights will be of `dtype`.
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
        let mut files = kept_files(&ModelSource::open(source)?)?;
        if !files.iter().any(|(name, _)| name == TOKENIZER) {
            describe_tokenizer(&mut files, tokenizer)?;
        } else if !files.iter().any(|(name, _)| name == TOKENIZER_CONFIG) {
            files.push((TOKENIZER_CONFIG.to_string(), format!("{:#}\n", tokenizer.to_config()).into_bytes()));
        }
        Ok(Self { source: source.to_path_buf(), dtype, config: description, files })
    }

    /// What `config.json` will say.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// This, for a model whose class ends in `class`, as in `ForScore`, with further `fields` of `config.json`; a `null`
    /// removes one.
    #[must_use]
    pub fn with_class(&self, class: &str, fields: &Map<String, Value>) -> Self {
        let mut described = self.clone();
        let own = self.config["architectures"][0].as_str().unwrap_or("Llama");
        let model = own.split_once("For").map_or(own, |(model, _)| model);
        described.config["architectures"] = json!([format!("{model}{class}")]);
        if let Some(config) = described.config.as_object_mut() {
            for (name, value) in fields {
                match value {
                    Value::Null => config.remove(name),
                    value => config.insert(name.clone(), value.clone()),
                };
            }
        }
        described
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
    ///
    /// # Errors
    /// When the vocabulary cannot be written as JSON.
    pub fn add_tokens(&mut self, tokens: &[(&str, &str)], tokenizer: &Tokenizer, vocab_size: usize) -> Result<()> {
        self.config["vocab_size"] = vocab_size.into();
        if tokens.is_empty() {
            return Ok(());
        }
        for (name, token) in tokens {
            if let (Some(id), false) = (tokenizer.token_id(token), *name == "unk_token") {
                self.config[format!("{name}_id")] = id.into();
            }
        }
        // It does not know them.
        self.files.retain(|(name, _)| name != "tokenizer.model");
        let json = tokenizer.to_json()?;
        for (_, bytes) in self.files.iter_mut().filter(|(name, _)| name == TOKENIZER) {
            *bytes = json.clone().into_bytes();
        }
        for file in [TOKENIZER_CONFIG, "special_tokens_map.json"] {
            self.change(file, |json| {
                for (name, token) in tokens {
                    json[*name] = (*token).into();
                    if let (Some(listed), Some(id)) = (json.get_mut("added_tokens_decoder"), tokenizer.token_id(token)) {
                        listed[id.to_string()] = json!({
                            "content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                            "special": true,
                        });
                    }
                }
            });
        }
        Ok(())
    }

    /// Takes the tokenizer of the adapter in `folder`, if it has one: the adapter was trained with its chat template.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn take_tokenizer(&mut self, folder: &Path) -> Result<()> {
        let source = FolderSource::open(folder)?;
        if has_tokenizer(&source) {
            let is_tokenizers = |name: &str| name != GENERATION_CONFIG;
            self.files.retain(|(name, _)| !is_tokenizers(name));
            self.files.extend(kept_files(&source)?.into_iter().filter(|(name, _)| is_tokenizers(name)));
        }
        Ok(())
    }

    /// Makes `template` the model's chat template.
    pub fn set_chat_template(&mut self, template: &str) {
        // It would go before the one in tokenizer_config.json.
        self.files.retain(|(name, _)| name != "chat_template.jinja");
        self.change(TOKENIZER_CONFIG, |config| config["chat_template"] = template.into());
    }

    /// Changes the JSON object in a file, if it is there.
    fn change(&mut self, file: &str, change: impl Fn(&mut Value)) {
        for (_, bytes) in self.files.iter_mut().filter(|(name, _)| name == file) {
            if let Ok(mut json @ Value::Object(_)) = serde_json::from_slice(bytes) {
                change(&mut json);
                *bytes = format!("{json:#}\n").into_bytes();
            }
        }
    }

    /// Writes the files beside the weights, `config.json` last, because a folder without it is not a model.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, bytes)| write_bytes(&folder.join(name), bytes))?;
        write_file(&folder.join("config.json"), &format!("{:#}\n", self.config))
    }

    /// Writes the tokenizer's files.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_tokenizer(&self, folder: &Path) -> Result<()> {
        let mut files = self.files.iter().filter(|(name, _)| name != GENERATION_CONFIG);
        files.try_for_each(|(name, bytes)| write_bytes(&folder.join(name), bytes))
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
