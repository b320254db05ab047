//! Folders as they are found: what the files hold goes before what config.json and an index say of them; what is not read
//! is named.

use std::collections::BTreeMap;

use paddock_engine::backend::{Cpu, Device, Segments};
use paddock_engine::config::{Head, RopeScaling};
use paddock_engine::generate::Chat;
use paddock_engine::model::CausalLm;
use paddock_engine::weights::{Checkpoint, MemorySource};
use paddock_tests::{block_on, fixture_source};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde_json::{Value, json};

const SINGLE: &str = "model.safetensors";
const TIED: &str = "llama-gqa-tied-sharded";

/// A tensor of a safetensors file.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// The fixture `name` in one safetensors file, whose tensors and configuration `change` may edit.
fn changed(name: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut Value)) -> MemorySource {
    let mut source = fixture_source(name);
    let mut tensors = BTreeMap::new();
    let weights: Vec<String> = source.files.keys().filter(|file| file.ends_with(".safetensors")).cloned().collect();
    for file in weights.iter().filter(|file| file.starts_with("model")) {
        let bytes = source.files.remove(file).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            tensors.insert(name.to_string(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    source.files.remove("model.safetensors.index.json");
    let mut config = serde_json::from_slice(&source.files["config.json"]).unwrap();
    change(&mut tensors, &mut config);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    source.files.insert(SINGLE.to_string(), serialize(views, None).unwrap());
    source.files.insert("config.json".to_string(), serde_json::to_vec(&config).unwrap());
    source
}

fn open(source: MemorySource) -> Checkpoint<MemorySource> {
    block_on(Checkpoint::open(source)).unwrap()
}

fn refused(source: MemorySource) -> String {
    block_on(Checkpoint::open(source)).expect_err("it is refused").to_string()
}

/// The logits after a short prompt.
fn logits(source: MemorySource) -> Vec<f32> {
    block_on(async {
        let cpu = Cpu::with_threads(1);
        let model = CausalLm::load(&cpu, &mut Checkpoint::open(source).await.unwrap(), &mut |_| {}).await.unwrap();
        let prompt = [1, 5, 7];
        let logits = model.forward(&cpu.tokens(&prompt).unwrap(), &Segments::documents(&[3])).unwrap();
        cpu.read(&logits).await.unwrap()
    })
}

fn rename(tensors: &mut BTreeMap<String, Tensor>, new: impl Fn(&str) -> String) {
    *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (new(&name), tensor)).collect();
}

#[test]
fn a_head_that_is_stored_is_used_where_it_differs() {
    let embedding = |tensors: &BTreeMap<String, Tensor>| tensors["model.embed_tokens.weight"].clone();
    let equal = open(changed(TIED, |tensors, _| drop(tensors.insert("lm_head.weight".into(), embedding(tensors)))));
    assert_eq!((&equal.config().head, equal.notes().len()), (&Head::Tied, 0));
    let other = |tensors: &mut BTreeMap<String, Tensor>| {
        let (dtype, shape, mut bytes) = embedding(tensors);
        bytes.rotate_right(4 * shape[1]);
        tensors.insert("lm_head.weight".into(), (dtype, shape, bytes));
    };
    let differs = open(changed(TIED, |tensors, _| other(tensors)));
    assert_eq!(differs.config().head, Head::Untied);
    assert!(differs.notes()[0].contains("tie_word_embeddings"), "{:?}", differs.notes());
    let source = changed(TIED, |tensors, _| other(tensors));
    let chat = block_on(Chat::load(&Cpu::with_threads(1), source, None, &mut |_| {})).unwrap();
    assert_eq!(chat.notes()[..differs.notes().len()], *differs.notes(), "a chat passes them on");
    let said = changed(TIED, |tensors, config| {
        other(tensors);
        config["tie_word_embeddings"] = false.into();
    });
    assert_eq!(logits(changed(TIED, |tensors, _| other(tensors))), logits(said));
}

#[test]
fn a_tied_table_may_be_stored_under_the_head_s_name() {
    for name in [TIED, "opt"] {
        let embedding = if name == "opt" { "model.decoder.embed_tokens.weight" } else { "model.embed_tokens.weight" };
        let source = changed(name, |tensors, _| {
            let table = tensors.remove(embedding).unwrap();
            tensors.insert("lm_head.weight".into(), table);
        });
        assert_eq!(logits(source), logits(fixture_source(name)), "{name}");
    }
}

#[test]
fn prefixes_of_trunks_and_wrappers_are_seen_through() {
    let expected = logits(fixture_source("llama-mha"));
    for prefix in ["module.", "_orig_mod.", "base_model.model."] {
        let source = changed("llama-mha", |tensors, _| rename(tensors, |name| format!("{prefix}{name}")));
        assert_eq!(logits(source), expected, "{prefix}");
    }
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_string();
    assert_eq!(logits(changed("llama-mha", |tensors, _| rename(tensors, bare))), expected);
    assert_eq!(logits(changed("opt", |tensors, _| rename(tensors, bare))), logits(fixture_source("opt")));
}

#[test]
fn a_single_file_goes_before_an_index_and_parts_need_none() {
    let mut source = changed("llama-mha", |_, _| {});
    let stale = json!({ "weight_map": { "model.norm.weight": "model-00001-of-00002.safetensors" } });
    source.files.insert("model.safetensors.index.json".into(), stale.to_string().into_bytes());
    assert_eq!(logits(source), logits(fixture_source("llama-mha")));
    let mut parts = fixture_source(TIED);
    parts.files.remove("model.safetensors.index.json");
    assert_eq!(logits(parts.clone()), logits(fixture_source(TIED)));
    parts.files.remove("model-00002-of-00005.safetensors");
    let error = refused(parts);
    assert!(error.contains("model-00002-of-00005.safetensors was not found"), "{error}");
}

#[test]
fn models_that_are_llama_in_shape_run() {
    let expected = logits(fixture_source("llama-mha"));
    for (model_type, class, further) in [
        ("mistral", "MistralForCausalLM", json!({ "sliding_window": null })),
        ("mistral", "MistralForCausalLM", json!({ "sliding_window": 1 << 20 })),
        ("Yi", "YiForCausalLM", json!({})),
        ("aquila", "AquilaForCausalLM", json!({})),
        ("skywork", "SkyworkForCausalLM", json!({ "rms_norm_eps": "1e-06", "num_hidden_layers": "2" })),
    ] {
        let source = changed("llama-mha", |_, config| {
            assert_eq!(config["rms_norm_eps"], 1e-6);
            (config["model_type"], config["architectures"]) = (model_type.into(), json!([class]));
            config.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        });
        assert_eq!(logits(source), expected, "{model_type} {further}");
    }
    // Up to the length of its window, a model with a window is one without.
    let windowed = changed("llama-mha", |_, config| {
        (config["model_type"], config["sliding_window"]) = ("mistral".into(), 16.into());
    });
    assert_eq!(open(windowed).config().max_position_embeddings, 16);
}

#[test]
fn biases_are_those_that_are_stored() {
    // `llama-odd` has all biases; those of q, k and v alone are Qwen 2's.
    let strip = |tensors: &mut BTreeMap<String, Tensor>| {
        tensors.retain(|name, _| {
            !name.ends_with(".bias") || ["q_proj", "k_proj", "v_proj"].iter().any(|p| name.contains(p))
        });
    };
    let qwen = changed("llama-odd", |tensors, config| {
        strip(tensors);
        (config["model_type"], config["architectures"]) = ("qwen2".into(), json!(["Qwen2ForCausalLM"]));
        config.as_object_mut().unwrap().retain(|key, _| key != "attention_bias" && key != "mlp_bias");
    });
    let checkpoint = open(qwen.clone());
    let config = checkpoint.config();
    assert_eq!((config.attention_bias, config.attention_output_bias, config.mlp_bias), (true, false, false));
    assert!(checkpoint.notes().is_empty(), "{:?}", checkpoint.notes());
    let silent = changed("llama-odd", |tensors, config| {
        strip(tensors);
        (config["attention_bias"], config["mlp_bias"]) = (false.into(), false.into());
    });
    assert!(open(silent.clone()).notes()[0].contains("biases on q, k and v"));
    assert_eq!(logits(silent), logits(qwen));
}

#[test]
fn what_is_not_read_is_named() {
    let extra = |name: &'static str, config: Value| {
        let source = changed("llama-mha", move |tensors, own| {
            let tensor = tensors["model.norm.weight"].clone();
            tensors.insert(name.to_string(), tensor);
            own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        });
        refused(source)
    };
    let quantised = |method: &str| json!({ "quantization_config": { "quant_method": method } });
    for (name, config, words) in [
        ("model.layers.0.self_attn.q_norm.weight", json!({}), &["q_norm", "Qwen 3"][..]),
        ("model.layers.1.post_feedforward_layernorm.weight", json!({}), &["post_feedforward_layernorm", "OLMo 2"]),
        ("model.layers.0.self_attn.q_proj.qweight", quantised("gptq"), &["GPTQ", "GGUF"]),
        ("model.layers.0.self_attn.q_proj.qweight", quantised("awq"), &["AWQ"]),
        ("model.layers.0.self_attn.q_proj.g_idx", json!({}), &["GPTQ"]),
        ("model.layers.0.mlp.up_proj.weight.absmax", json!({}), &["bitsandbytes"]),
        ("model.layers.0.mlp.up_proj.scales", json!({}), &["MLX"]),
        ("model.layers.0.self_attn.q_proj.lora_A.default.weight", json!({}), &["adapter that is not merged"]),
        ("model.layers.0.mlp.experts.0.w1.weight", json!({}), &["mixture of experts"]),
    ] {
        let error = extra(name, config);
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
    for (config, words) in [
        (json!({ "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"] }), "\"qwen3\""),
        (json!({ "model_type": "gemma" , "architectures": ["GemmaForCausalLM"] }), "\"gemma\""),
        (json!({ "logits_scaling": 8.0 }), "logits_scaling"),
        (json!({ "num_attention_heads": "four" }), "num_attention_heads"),
        (json!({ "rope_parameters": { "rope_theta": "much" } }), "rope_theta"),
        (json!({ "tie_word_embeddings": "maybe" }), "tie_word_embeddings"),
        (json!({ "rope_scaling": { "type": "yarn", "factor": 2.0 } }), "\"yarn\""),
        (
            json!({ "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4 }),
            "\"sliding_attention\"",
        ),
        (json!({ "layer_types": ["full_attention", "sliding_attention"] }), "layer_types"),
        (json!({ "layer_types": ["linear_attention"], "sliding_window": 512 }), "\"linear_attention\""),
    ] {
        let error = refused(changed("llama-mha", |_, own| {
            own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        }));
        assert!(error.starts_with("config.json: ") && error.contains(words), "{error}");
    }
}

/// Layers that attend to all tokens, or through a window that holds the whole context, are LLaMA's.
#[test]
fn layers_that_see_the_whole_context_are_read() {
    for config in [
        json!({ "layer_types": ["full_attention", "full_attention"], "sliding_window": 4 }),
        json!({ "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512 }),
        json!({ "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16, "model_type": "mistral" }),
    ] {
        let source =
            changed("llama-mha", |_, own| own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone()));
        let context = if config.get("model_type").is_some() { 16 } else { 512 };
        assert_eq!(open(source).config().max_position_embeddings, context, "{config}");
    }
}

/// transformers 5.24 (`convert_rope_params_to_dict`) takes `rope_scaling` as a whole where both are there, and the base of the
/// frequencies from it or from beside it. Its `dynamic` frequencies are plain up to `max_position_embeddings`.
#[test]
fn rope_scaling_goes_before_rope_parameters() {
    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64 });
    let scaled = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64.0,
    };
    for (older, expected, theta) in [
        (json!({ "type": "linear", "factor": 2.0 }), RopeScaling::Linear { factor: 2.0 }, 10_000.0),
        (json!({ "type": "linear", "factor": 2.0, "rope_theta": 100.0 }), RopeScaling::Linear { factor: 2.0 }, 100.0),
        (llama3, scaled, 10_000.0),
        (json!({ "rope_type": "dynamic", "factor": 2.0 }), RopeScaling::Default, 10_000.0),
        (json!({}), RopeScaling::Default, 500.0),
        (Value::Null, RopeScaling::Default, 500.0),
    ] {
        let checkpoint = open(changed("llama-mha", |_, own| {
            own["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 500.0 });
            own["rope_scaling"] = older.clone();
            own.as_object_mut().unwrap().remove("rope_theta");
        }));
        let config = checkpoint.config();
        assert_eq!((config.rope_scaling, config.rope_theta), (expected, theta), "{older}");
        let told = checkpoint.notes().iter().any(|note| note.contains("rope_parameters"));
        assert_eq!(told, theta != 500.0, "{older}: {:?}", checkpoint.notes());
    }
}

#[test]
fn an_adapter_and_a_download_that_failed_are_named() {
    let mut adapter = fixture_source("llama-mha");
    let weights = adapter.files.remove(SINGLE).unwrap();
    adapter.files.insert("adapter_model.safetensors".into(), weights);
    adapter.files.insert("adapter_config.json".into(), br#"{"base_model_name_or_path":"some/base"}"#.to_vec());
    let error = refused(adapter);
    assert!(error.contains("adapter for \"some/base\"") && error.contains("--adapter"), "{error}");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n".to_vec();
    for file in [SINGLE, "config.json", "generation_config.json"] {
        for (bytes, words) in [(pointer.clone(), "git lfs pull"), (b"<!doctype html><p>".to_vec(), "web page")] {
            let mut source = fixture_source("llama-mha");
            source.files.insert(file.into(), bytes);
            let error = refused(source);
            assert!(error.starts_with(file) && error.contains(words), "{error}");
        }
    }
    let mut gguf = fixture_source("llama-mha");
    gguf.files.insert(SINGLE.into(), b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    assert!(refused(gguf).contains("a GGUF file"));
}
