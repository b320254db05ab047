//! A safetensors file and an index, each from the whole input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paddock_engine::weights::{Checkpoint, Index, MemorySource};
use pollster::block_on;

/// The model that `seeds/safetensors` holds.
const CONFIG: &str = r#"{"hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1,
    "vocab_size": 3, "tie_word_embeddings": true}"#;

fuzz_target!(|data: &[u8]| {
    if let Ok(index) = Index::parse(data) {
        assert!(index.weight_map.values().all(|file| !file.contains('/')), "{index:?}");
    }
    let files = [("config.json".to_string(), CONFIG.into()), ("model.safetensors".to_string(), data.to_vec())];
    let Ok(mut checkpoint) = block_on(Checkpoint::open(MemorySource { files: files.into() })) else { return };
    let infos: Vec<_> = checkpoint.tensors().cloned().collect();
    for info in infos {
        block_on(checkpoint.read_rows(&info.name, 0..info.shape[0])).expect("an opened file holds its rows");
    }
});
