//! The real `paddock` program on good and bad input.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::fixtures;
use paddock_tests::program::{pack, refuses, run};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::TempDir;

/// A copy of the tiny model that a test may damage.
struct Model {
    folder: TempDir,
}

impl Model {
    fn new() -> Self {
        Self::copy(&fixture())
    }

    /// The tiny model as a web pack.
    fn packed() -> Self {
        let folder = TempDir::new().unwrap();
        pack(&fixture(), &folder.path().join("pack"), &[]);
        Self::copy(&folder.path().join("pack"))
    }

    fn copy(source: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the bytes of a file.
    fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file(name)).unwrap();
        change(&mut bytes);
        fs::write(self.file(name), bytes).unwrap();
    }

    /// Changes a JSON file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.damage(name, |bytes| {
            let mut value = serde_json::from_slice(bytes).unwrap();
            change(&mut value);
            *bytes = value.to_string().into_bytes();
        });
    }

    /// Writes model.safetensors anew, with the name and shape that `change` gives each tensor; `None` drops it.
    fn reshape(&self, change: impl Fn(&str, &[usize]) -> Option<(String, Vec<usize>)>) {
        self.damage("model.safetensors", |bytes| {
            let tensors = SafeTensors::deserialize(bytes).unwrap();
            let views: Vec<(String, TensorView<'_>)> = tensors
                .iter()
                .filter_map(|(name, view)| {
                    let (name, shape) = change(name, view.shape())?;
                    Some((name, TensorView::new(view.dtype(), shape, view.data()).unwrap()))
                })
                .collect();
            *bytes = safetensors::serialize(views, None).unwrap();
        });
    }

    /// The first shard of a web pack.
    fn shard(&self) -> String {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut shards: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        shards.retain(|name| name.ends_with(".safetensors"));
        shards.sort();
        shards.swap_remove(0)
    }

    /// Generating with this model must be refused, with a sentence that has these words.
    fn is_refused(&self, words: &[&str]) {
        generate_is_refused(self.folder.path(), "Hello", words);
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

fn generate_is_refused(model: &Path, prompt: &str, words: &[&str]) {
    let arguments: [&dyn AsRef<OsStr>; 9] =
        [&"generate", &"--model", &model, &"--prompt", &prompt, &"--device", &"cpu", &"--max-tokens", &"4"];
    refuses(&arguments, words);
}

#[test]
fn generate_reports_one_json_object() {
    let expected: Value = serde_json::from_slice(&fs::read(fixture().join("expected.json")).unwrap()).unwrap();
    let case = &expected["cases"][0];
    let count = case["greedy_ids"].as_array().unwrap().len().to_string();
    let text = run(&[
        &"generate",
        &"--model",
        &fixture(),
        &"--prompt",
        &case["prompt_text"].as_str().unwrap(),
        &"--template",
        &"none",
        &"--max-tokens",
        &count,
        &"--temperature",
        &"0",
        &"--device",
        &"cpu",
        &"--json",
    ]);
    let report: Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(report["prompt_ids"], case["prompt_ids"]);
    assert_eq!(report["token_ids"], case["greedy_ids"]);
    assert_eq!(report["finish_reason"], "length");
    assert!(report["text"].is_string() && report["device"].is_string(), "{report}");
    for timing in ["load_s", "prefill_tokens_per_s", "decode_tokens_per_s"] {
        assert!(report["timings"][timing].as_f64().is_some_and(|value| value > 0.0), "{timing}: {report}");
    }
}

#[test]
fn a_pack_generates_what_its_model_does() {
    let answer = |model: &Path| -> Value {
        let text = run(&[
            &"generate",
            &"--model",
            &model,
            &"--prompt",
            &"Name the three primary colours of light.",
            &"--template",
            &"none",
            &"--max-tokens",
            &"16",
            &"--device",
            &"cpu",
            &"--json",
        ]);
        serde_json::from_str(&text).unwrap()
    };
    let (packed, original) = (answer(Model::packed().folder.path()), answer(&fixture()));
    assert_eq!(packed["token_ids"], original["token_ids"]);
    assert_eq!(packed["text"], original["text"]);
}

#[test]
fn a_model_that_is_not_there_is_refused() {
    generate_is_refused(Path::new("no-such-model"), "Hello", &["no-such-model"]);
}

#[test]
fn an_empty_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    generate_is_refused(folder.path(), "Hello", &[]);
}

#[test]
fn a_truncated_shard_is_refused() {
    let model = Model::new();
    model.damage("model.safetensors", |bytes| bytes.truncate(bytes.len() - 100));
    model.is_refused(&["model.safetensors"]);
}

#[test]
fn a_shard_shorter_than_its_header_is_refused() {
    for length in [0, 4, 8, 100] {
        let model = Model::new();
        model.damage("model.safetensors", |bytes| bytes.truncate(length));
        model.is_refused(&["model.safetensors"]);
    }
}

#[test]
fn an_absurd_header_size_is_refused() {
    for size in [u64::MAX, 1 << 40, 0] {
        let model = Model::new();
        model.damage("model.safetensors", |bytes| bytes[..8].copy_from_slice(&size.to_le_bytes()));
        model.is_refused(&["model.safetensors"]);
    }
}

#[test]
fn a_corrupt_header_is_refused() {
    let model = Model::new();
    model.damage("model.safetensors", |bytes| bytes[8..24].fill(b'x'));
    model.is_refused(&["model.safetensors"]);
}

#[test]
fn a_missing_tensor_is_refused_by_name() {
    let model = Model::new();
    model.reshape(|name, shape| (name != "model.norm.weight").then(|| (name.to_string(), shape.to_vec())));
    model.is_refused(&["model.norm.weight"]);
}

#[test]
fn a_mis_shaped_tensor_is_refused_by_name() {
    const NAME: &str = "model.layers.0.self_attn.q_proj.weight";
    let model = Model::new();
    model.reshape(|name, shape| Some((name.to_string(), if name == NAME { vec![32, 128] } else { shape.to_vec() })));
    model.is_refused(&[NAME, "32", "128"]);
}

#[test]
fn an_unknown_architecture_is_refused_by_name() {
    let model = Model::new();
    model.edit("config.json", |config| config["model_type"] = "mamba".into());
    model.is_refused(&["mamba"]);
}

#[test]
fn absurd_sizes_in_the_configuration_are_refused() {
    for (name, value) in [
        ("hidden_size", u64::MAX),
        ("num_hidden_layers", 1 << 60),
        ("num_attention_heads", 0),
        ("vocab_size", 1 << 62),
        ("head_dim", 0),
        ("num_key_value_heads", 3),
    ] {
        let model = Model::new();
        model.edit("config.json", |config| config[name] = value.into());
        model.is_refused(&[]);
    }
}

#[test]
fn a_configuration_that_is_not_json_is_refused() {
    let model = Model::new();
    model.damage("config.json", |bytes| bytes.truncate(20));
    model.is_refused(&["config.json"]);
}

#[test]
fn a_missing_or_damaged_tokenizer_is_refused() {
    let model = Model::new();
    fs::remove_file(model.file("tokenizer.json")).unwrap();
    model.is_refused(&["tokenizer"]);
    let model = Model::new();
    model.damage("tokenizer.json", |bytes| bytes.truncate(1000));
    model.is_refused(&["tokenizer.json"]);
}

#[test]
fn a_corrupt_shard_of_a_pack_is_refused() {
    let model = Model::packed();
    let shard = model.shard();
    model.damage(&shard, |bytes| *bytes.last_mut().unwrap() ^= 0x55);
    model.is_refused(&[&shard, "SHA-256"]);
}

#[test]
fn a_truncated_shard_of_a_pack_is_refused() {
    let model = Model::packed();
    let shard = model.shard();
    model.damage(&shard, |bytes| bytes.truncate(bytes.len() / 2));
    model.is_refused(&[&shard]);
}

#[test]
fn a_pack_with_a_missing_shard_is_refused() {
    let model = Model::packed();
    let shard = model.shard();
    fs::remove_file(model.file(&shard)).unwrap();
    model.is_refused(&[&shard]);
}

#[test]
fn a_token_the_model_has_no_row_for_is_refused() {
    let model = Model::new();
    model.edit("tokenizer.json", |tokenizer| {
        let mut odd = tokenizer["added_tokens"][0].clone();
        odd["id"] = 900.into();
        odd["content"] = "<odd>".into();
        tokenizer["added_tokens"].as_array_mut().unwrap().push(odd);
    });
    let (folder, prompt) = (model.folder.path(), "Hello <odd>");
    let generate: [&dyn AsRef<OsStr>; 8] =
        [&"generate", &"--model", &folder, &"--prompt", &prompt, &"--device", &"cpu", &"--allow-special"];
    refuses(&generate, &["token"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    generate_is_refused(&fixture(), &"Hello there. ".repeat(1000), &["512"]);
}

#[test]
fn a_gguf_file_that_lies_about_its_counts_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lie.gguf");
    let counts = [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40), (0, 0)];
    for (tensors, values) in counts {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(values.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        generate_is_refused(&path, "Hello", &["lie.gguf"]);
    }
    fs::write(&path, "<!doctype html>").unwrap();
    generate_is_refused(&path, "Hello", &["lie.gguf"]);
}

#[test]
fn packing_a_broken_model_leaves_nothing_behind() {
    let model = Model::new();
    model.damage("model.safetensors", |bytes| bytes.truncate(bytes.len() - 100));
    let output = TempDir::new().unwrap();
    let target = output.path().join("pack");
    refuses(&[&"pack", &"--model", &model.folder.path(), &"--output", &target], &["model.safetensors"]);
    let left: Vec<_> = fs::read_dir(output.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn the_list_of_packs_tells_what_each_does_and_needs() {
    let models = TempDir::new().unwrap();
    let made = TempDir::new().unwrap();
    let (raw, tuned) = (fixtures().join("weight-diff/raw"), fixtures().join("weight-diff/tuned"));
    let diff = made.path().join("diff");
    run(&[&"diff", &"make", &"--raw", &raw, &"--tuned", &tuned, &"--output", &diff]);
    let (score, chat) = (fixtures().join("score"), fixtures().join("llama-mha"));
    let kinds = [("a-diff", diff, "diff"), ("b-score", score, "score"), ("c-chat", chat, "chat")];
    for (name, source, _) in &kinds {
        pack(source, &models.path().join(name), &[]);
    }
    fs::create_dir(models.path().join("no pack")).unwrap();
    run(&[&"index", &models.path(), &"--first", &"c-chat"]);
    let index = fs::read(models.path().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let names: Vec<&str> =
        index["models"].as_array().unwrap().iter().map(|pack| pack["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c-chat", "a-diff", "b-score"]);
    for pack in index["models"].as_array().unwrap() {
        let (name, _, kind) = kinds.iter().find(|kind| pack["name"] == kind.0).unwrap();
        assert_eq!(pack["kind"], *kind);
        let files = fs::read_dir(models.path().join(name)).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(pack["bytes"], bytes);
    }
    let config = fs::read(fixtures().join("llama-mha/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let size = |name: &str| config[name].as_u64().unwrap();
    let head_dim = size("hidden_size") / size("num_attention_heads");
    let token = 2 * 4 * size("num_hidden_layers") * size("num_key_value_heads") * head_dim;
    assert_eq!(index["models"][0]["cache_bytes"], token * size("max_position_embeddings").min(4096));
    refuses(&[&"index", &models.path(), &"--first", &"d"], &["has no pack \"d\""]);
}
