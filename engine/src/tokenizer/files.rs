//! The files of a model that describe its tokenizer.

use serde_json::Value;

/// The contents of the files that a tokenizer is made from.
#[derive(Debug, Clone)]
pub enum TokenizerFiles {
    /// `tokenizer.json` of a Hugging Face folder or a web pack.
    Json {
        /// `tokenizer.json`.
        tokenizer: Vec<u8>,
        /// `tokenizer_config.json`; older folders have the chat template in it.
        config: Option<Value>,
        /// `chat_template.jinja`; newer folders have the chat template there.
        chat_template: Option<String>,
    },
    /// SentencePiece's `tokenizer.model` of an older folder.
    SentencePiece {
        /// `tokenizer.model`.
        model: Vec<u8>,
        /// `added_tokens.json`: text to id.
        added_tokens: Option<Value>,
        /// `tokenizer_config.json`.
        config: Option<Value>,
    },
    /// The vocabulary in a GGUF header.
    Gguf(GgufVocabulary),
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
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}
