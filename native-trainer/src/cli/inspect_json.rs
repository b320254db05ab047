//! `paddock inspect --json`: the same for programs.

use paddock_engine::ModelConfig;
use paddock_engine::prompt::TemplateKind;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::{Format, TensorInfo};
use serde_json::{Value, json};

use crate::Result;

/// What is told of a model; sizes are in bytes, `context` is in tokens.
pub(super) struct Inspected<'a> {
    pub format: Format,
    pub config: &'a ModelConfig,
    pub tokenizer: &'a Tokenizer,
    pub template: TemplateKind,
    pub weights: u64,
    pub context: usize,
    pub tensors: Vec<&'a TensorInfo>,
}

impl Inspected<'_> {
    /// One JSON object.
    ///
    /// # Errors
    /// When a tensor's size cannot be told.
    pub fn to_json(&self) -> Result<Value> {
        let Self { config, tokenizer, .. } = self;
        let tensor = |tensor: &&TensorInfo| -> Result<Value> {
            let encoding = format!("{:?}", tensor.encoding);
            Ok(json!({ "name": tensor.name, "shape": tensor.shape, "encoding": encoding, "bytes": tensor.bytes()? }))
        };
        let mut ends: Vec<u32> = config.eos_token_ids.clone();
        ends.extend(tokenizer.eos().filter(|id| !config.eos_token_ids.contains(id)));
        let cache = config.kv_bytes(self.context);
        Ok(json!({
            "format": match self.format {
                Format::HuggingFace => "hugging-face",
                Format::Gguf => "gguf",
                Format::WebPack => "web-pack",
            },
            "config": config,
            "parameters": config.parameter_count(),
            "tokenizer": {
                "kind": tokenizer.kind().to_string(),
                "tokens": tokenizer.vocab_size(),
                "bos": tokenizer.bos(),
                "eos": ends,
                "chat_template": tokenizer.chat_template(),
            },
            "template": self.template.to_string(),
            "memory": { "weights": self.weights, "cache": cache, "context": self.context },
            "tensors": self.tensors.iter().map(tensor).collect::<Result<Vec<_>>>()?,
        }))
    }
}
