//! Hugging Face folders: the fixtures open and give their tensors' bytes; damaged ones are refused with a sentence.

use paddock_engine::tokenizer::{Beside, TokenizerFiles};
use paddock_engine::weights::{Checkpoint, Format, MemorySource};
use paddock_tests::{block_on, fixture_source};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const SHARDED: &str = "llama-gqa-tied-sharded";
const FOLDERS: [&str; 4] = ["llama-mha", SHARDED, "llama3-rope", "llama-odd"];
const INDEX: &str = "model.safetensors.index.json";

fn open(source: MemorySource) -> paddock_engine::Result<Checkpoint<MemorySource>> {
    block_on(Checkpoint::open(source))
}

/// The sentence with which the sharded fixture is refused after `damage`.
fn refused(name: &str, damage: impl FnOnce(&mut MemorySource)) -> String {
    let mut source = fixture_source(name);
    open(source.clone()).expect("the undamaged fixture opens");
    damage(&mut source);
    open(source).expect_err("the damage is noticed").to_string()
}

fn edit_json(source: &mut MemorySource, file: &str, edit: impl FnOnce(&mut Value)) {
    let bytes = source.files.get_mut(file).unwrap();
    let mut value = serde_json::from_slice(bytes).unwrap();
    edit(&mut value);
    *bytes = serde_json::to_vec(&value).unwrap();
}

#[test]
fn the_rows_are_those_of_the_safetensors_crate() {
    for name in FOLDERS {
        let source = fixture_source(name);
        let mut checkpoint = open(source.clone()).unwrap();
        assert_eq!(checkpoint.format(), Format::HuggingFace);
        let shards: Vec<_> = source
            .files
            .iter()
            .filter(|(file, _)| file.starts_with("model") && file.ends_with(".safetensors"))
            .map(|(_, bytes)| SafeTensors::deserialize(bytes).unwrap())
            .collect();
        let infos: Vec<_> = checkpoint.tensors().cloned().collect();
        assert_eq!(infos.len(), checkpoint.config().params().len(), "{name}");
        let mut total = 0;
        for info in infos {
            let expected = shards.iter().find_map(|shard| shard.tensor(&info.name).ok()).unwrap();
            let all = block_on(checkpoint.read_rows(&info.name, 0..info.shape[0])).unwrap();
            assert_eq!(all, expected.data(), "{name}: {}", info.name);
            let last = block_on(checkpoint.read_rows(&info.name, info.shape[0] - 1..info.shape[0])).unwrap();
            assert_eq!(last, all[all.len() - last.len()..]);
            assert!(block_on(checkpoint.read_rows(&info.name, 0..info.shape[0] + 1)).is_err());
            total += all.len() as u64;
        }
        assert_eq!(checkpoint.total_bytes(), total);
        assert!(checkpoint.tensor("model.layers.99.mlp.up_proj.weight").is_none());
        assert!(block_on(checkpoint.read_rows("nonsense", 0..1)).is_err());
        block_on(checkpoint.finish()).unwrap();
    }
}

#[test]
fn tokenizer_files_are_found_or_missed() {
    let mut source = fixture_source("llama-mha");
    let files = |source: &MemorySource| block_on(open(source.clone()).unwrap().tokenizer_files());
    assert!(matches!(
        files(&source),
        Ok(TokenizerFiles::Json { beside: Beside { config: Some(_), chat_template: None, .. }, .. })
    ));
    let model = source.files.remove("tokenizer.json").unwrap();
    assert!(files(&source).unwrap_err().to_string().starts_with("tokenizer.json was not found"));
    source.files.insert("tokenizer.model".into(), model);
    assert!(matches!(
        files(&source),
        Ok(TokenizerFiles::SentencePiece { beside: Beside { added_tokens: None, .. }, .. })
    ));
}

#[test]
fn end_of_sequence_ids_come_from_both_configurations() {
    let mut source = fixture_source("llama-mha");
    edit_json(&mut source, "generation_config.json", |g| g["eos_token_id"] = json!([2, 7]));
    assert_eq!(open(source).unwrap().config().eos_token_ids, [2, 7]);
}

#[test]
fn missing_config() {
    let error = refused("llama-mha", |source| drop(source.files.remove("config.json")));
    assert!(error.contains("config.json was not found"), "{error}");
}

#[test]
fn missing_shard() {
    let error = refused(SHARDED, |source| drop(source.files.remove("model-00003-of-00005.safetensors")));
    assert!(error.contains("model-00003-of-00005.safetensors was not found"), "{error}");
}

#[test]
fn truncated_shard() {
    let error = refused(SHARDED, |source| {
        source.files.get_mut("model-00002-of-00005.safetensors").unwrap().pop();
    });
    assert!(error.contains("truncated"), "{error}");
    for length in [0, 7, 8, 100] {
        let error = refused("llama-mha", |source| source.files.get_mut("model.safetensors").unwrap().truncate(length));
        assert!(error.starts_with("model.safetensors"), "{error}");
    }
}

#[test]
fn absurd_header_length() {
    let error = refused("llama-mha", |source| {
        source.files.get_mut("model.safetensors").unwrap()[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    });
    assert!(error.contains("its header claims 18446744073709551615 bytes"), "{error}");
}

#[test]
fn index_naming_a_file_outside_the_folder() {
    for path in ["../secret", "/etc/passwd", "sub/model.safetensors", "..\\secret", "C:secret", ""] {
        let error = refused(SHARDED, |source| {
            edit_json(source, INDEX, |index| index["weight_map"]["model.norm.weight"] = json!(path));
        });
        assert!(error.contains("not a file of this folder"), "{path}: {error}");
    }
}

#[test]
fn index_naming_the_wrong_shard() {
    let error = refused(SHARDED, |source| {
        edit_json(source, INDEX, |index| {
            index["weight_map"]["model.norm.weight"] = json!("model-00001-of-00005.safetensors");
        });
    });
    assert!(error.contains("tensor model.norm.weight: expected shape [96], found nothing"), "{error}");
}

#[test]
fn index_that_is_no_index() {
    let error = refused(SHARDED, |source| drop(source.files.insert(INDEX.into(), b"[]".to_vec())));
    assert!(error.contains("weight_map"), "{error}");
}

#[test]
fn missing_tensor() {
    let error = refused("llama-mha", |source| edit_json(source, "config.json", |c| c["num_hidden_layers"] = json!(3)));
    assert!(error.contains("model.layers.2.input_layernorm.weight: expected shape [64], found nothing"), "{error}");
}

#[test]
fn untied_without_a_head() {
    let error =
        refused(SHARDED, |source| edit_json(source, "config.json", |c| c["tie_word_embeddings"] = json!(false)));
    assert!(error.contains("lm_head.weight") && error.contains("tied"), "{error}");
}

#[test]
fn mis_shaped_tensor() {
    let error =
        refused("llama-mha", |source| edit_json(source, "config.json", |c| c["intermediate_size"] = json!(175)));
    assert!(error.contains("gate_proj.weight: expected shape [175, 64], found [176, 64]"), "{error}");
}

#[test]
fn unknown_architecture() {
    let error = refused("llama-mha", |source| edit_json(source, "config.json", |c| c["model_type"] = json!("gpt2")));
    assert!(error.contains("\"gpt2\""), "{error}");
}

#[test]
fn absurd_sizes() {
    for (key, value) in [
        ("hidden_size", u64::MAX),
        ("vocab_size", 1 << 40),
        ("num_hidden_layers", 1 << 20),
        ("num_attention_heads", 1 << 23),
        ("intermediate_size", 0),
    ] {
        let error = refused("llama-mha", |source| edit_json(source, "config.json", |c| c[key] = json!(value)));
        assert!(error.starts_with("config.json: ") && error.contains(key), "{key} {value}: {error}");
    }
}
