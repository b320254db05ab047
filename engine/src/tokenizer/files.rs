//! The files of a model that describe its tokenizer.

use serde_json::Value;

/// The contents of the files that a tokenizer is made from.
#[derive(Debug, Clone)]
pub enum TokenizerFiles {
    /// `tokenizer.json` of a Hugging Face folder or a web pack.
    Json {
        /// `tokenizer.json`.
        tokenizer: Vec<u8>,
        /// What lies beside it.
        beside: Beside,
    },
    /// SentencePiece's `tokenizer.model` of an older folder.
    SentencePiece {
        /// `tokenizer.model`.
        model: Vec<u8>,
        /// What lies beside it.
        beside: Beside,
    },
    /// The two files of GPT-2's own tokenizer, which OPT was published with.
    Gpt2 {
        /// `vocab.json`: token to id.
        vocabulary: Vec<u8>,
        /// `merges.txt`: a pair a line, the first to be merged first.
        merges: Vec<u8>,
        /// What lies beside them.
        beside: Beside,
    },
    /// The vocabulary in a GGUF header.
    Gguf(GgufVocabulary),
}

/// What lies beside a vocabulary in a Hugging Face folder. Each of them may be missing.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// `tokenizer_config.json`.
    pub config: Option<Value>,
    /// `special_tokens_map.json`: special tokens by their names.
    pub special_tokens: Option<Value>,
    /// `added_tokens.json`: text to id.
    pub added_tokens: Option<Value>,
    /// `chat_template.jinja`; in older folders the chat template is in `tokenizer_config.json`.
    pub chat_template: Option<String>,
    /// `model_type` of `config.json`: names the class of tokenizer where `tokenizer_config.json` does not.
    pub model_type: Option<String>,
}

impl From<Value> for Beside {
    /// A folder that only has this `tokenizer_config.json`.
    fn from(config: Value) -> Self {
        Self { config: Some(config), ..Self::default() }
    }
}

/// The keys `tokenizer.*` of a GGUF header, with their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `llama` (SentencePiece) or `gpt2` (byte-level BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`: which splitting pattern a byte-level BPE uses.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}
