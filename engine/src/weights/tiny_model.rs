//! A model of one block with two heads of eight, for the tests of this folder.

use serde_json::{Map, Value, json};

use super::manifest::{FileRecord, Manifest, PieceRecord, TensorRecord, VERSION, shard_name};
use super::{Encoding, MemorySource};
use crate::ModelConfig;
use crate::config::Param;
use crate::prompt::TemplateKind;

pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(super) const Q: &str = "model.layers.0.self_attn.q_proj.weight";
pub(super) const NORM: &str = "model.norm.weight";

/// `config.json`.
pub(super) fn json(vocab: usize) -> Value {
    json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": vocab, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    })
}

pub(super) fn config(vocab: usize) -> ModelConfig {
    ModelConfig::from_json(&json(vocab), None).unwrap()
}

/// A Hugging Face folder whose tensors hold `value(name, index)`, in f32.
pub(super) fn folder(vocab: usize, value: impl Fn(&str, usize) -> f32) -> MemorySource {
    let (mut entries, mut data) = (Map::new(), Vec::new());
    for Param { name, shape: [rows, columns] } in config(vocab).params() {
        let begin = data.len();
        (0..rows * columns).for_each(|index| data.extend(value(&name, index).to_le_bytes()));
        let shape = if rows == 1 { json!([columns]) } else { json!([rows, columns]) };
        entries.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let header = serde_json::to_vec(&entries).unwrap();
    let weights = [(header.len() as u64).to_le_bytes().as_slice(), &header, &data].concat();
    let config = serde_json::to_vec(&json(vocab)).unwrap();
    MemorySource { files: [("config.json".to_string(), config), ("model.safetensors".to_string(), weights)].into() }
}

/// The manifest of a pack of one shard of zeros, whose digest is wrong.
pub(super) fn manifest() -> Manifest {
    let config = config(3);
    let mut bytes = 0;
    let mut tensors = Vec::new();
    for Param { name, shape } in config.params() {
        let pieces = vec![PieceRecord { shard: 0, offset: bytes, rows: shape[0] }];
        bytes += 4 * (shape[0] * shape[1]) as u64;
        tensors.push(TensorRecord { name, shape, encoding: Encoding::F32, pieces });
    }
    Manifest {
        version: VERSION,
        name: String::new(),
        quantization: String::new(),
        config,
        template: TemplateKind::Alpaca,
        weight_diff: None,
        license: None,
        source: None,
        tokenizer: None,
        shards: vec![FileRecord { file: shard_name(0), bytes, sha256: "0".repeat(64) }],
        tensors,
    }
}

/// The pack of [`manifest`].
pub(super) fn pack() -> MemorySource {
    let manifest = manifest();
    let shard = vec![0; manifest.shards[0].bytes as usize];
    let json = serde_json::to_vec(&manifest).unwrap();
    MemorySource { files: [("manifest.json".to_string(), json), (shard_name(0), shard)].into() }
}
