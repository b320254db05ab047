//! `paddock convert`: every format becomes the same Hugging Face folder, and bad input none.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use paddock::files::open_model;
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_engine::weights::{Encoding, dequantize, recode};
use paddock_tests::gguf::GgufFile;
use paddock_tests::program::{pack, paddock, python, refuses, run};
use paddock_tests::{block_on, fixtures_with, package_fixture};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Scripts, runs of whitespace, emoji, control characters and bytes beyond most vocabularies.
const TEXTS: [&str; 12] = [
    "Below is an instruction that describes a task.\n\n### Instruction:\nList three technologies.\n\n### Response:",
    "Ünïcödé, façade, Ærøskøbing, Łódź, İstanbul, ẞ, ﬁ",
    "Ελληνικά Кириллица עברית العربية हिन्दी বাংলা ไทย ქართული Հայերեն አማርኛ",
    "日本語の文章、中文的句子，한국어 문장. ｶﾀｶﾅ ﾊﾝｶｸ ＡＢＣ１２３",
    "  two  three   four    and\ttabs\t\tand\n\n\nnew lines \r\n carriage\r",
    "🦙🐑👩‍👩‍👧‍👦🏳️‍🌈 🇨🇭 e\u{301} \u{200b}zero\u{200d}width \u{feff}mark",
    "∑∫√∞≠ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ☃ ¯\\_(ツ)_/¯ \u{1}\u{7f}",
    "fn main() { println!(\"{:?}\", [1, 22, 333].iter()); } // 0x1F",
    "▁ is the sign for a space ▁▁",
    " ",
    "",
    "1234567890 3.14159 1e-5 １２３",
];

/// The folders of Meta's and of PyTorch's files, each with the model that it is.
fn torch_folders() -> Vec<(PathBuf, PathBuf)> {
    let found = [fixtures_with(&["params.json"]), fixtures_with(&["pytorch_model.bin.index.json"])].concat();
    found.into_iter().map(|folder| (folder.clone(), folder.with_file_name("llama-mha"))).collect()
}

/// Converts the model at `from` and gives its folder.
fn convert(from: &Path, arguments: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("model");
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"convert", &"--from", &from, &"--output", &output];
    all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>));
    run(&all);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left beside the folder");
    folder
}

/// The tensors of `folder`, which must be those of the model at `expected`, each through `change`.
fn assert_tensors(folder: &Path, expected: &Path, dtype: Dtype, change: impl Fn(&[f32]) -> Vec<u8>) {
    let found = fs::read(folder.join("model.safetensors")).unwrap();
    let found = SafeTensors::deserialize(&found).unwrap();
    let expected = fs::read(expected.join("model.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    assert_eq!(found.len(), expected.len());
    for (name, tensor) in expected.tensors() {
        let view = found.tensor(&name).unwrap();
        assert_eq!((view.dtype(), view.shape()), (dtype, tensor.shape()), "{name}");
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert!(view.data() == change(&values), "{name} differs");
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn every_format_becomes_the_same_folder() {
    let expected = package_fixture("llama-mha");
    let scratch = TempDir::new().unwrap();
    let gguf = scratch.path().join("model.gguf");
    fs::write(&gguf, GgufFile::from_fixture("llama-mha", |_| Encoding::F32).bytes()).unwrap();
    let packed = scratch.path().join("pack");
    pack(&expected, &packed, &[]);
    let own = [expected.clone(), gguf, packed].map(|from| (from, expected.clone()));
    let all = [torch_folders(), own.to_vec()].concat();
    assert!(all.len() >= 5);
    for (from, expected) in all {
        let folder = convert(&from, &["--threads", "3"]);
        let model = folder.path().join("model");
        assert_tensors(&model, &expected, Dtype::F32, f32_bytes);
        let config: Value = serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap();
        assert_eq!((&config["dtype"], &config["intermediate_size"]), (&"float32".into(), &176.into()));
    }
}

#[test]
fn numbers_are_rounded_as_asked() {
    let meta = package_fixture("meta-2");
    let expected = package_fixture("llama-mha");
    let half = |values: &[f32]| values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let brain = |values: &[f32]| values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    assert_tensors(&convert(&meta, &["--dtype", "f16"]).path().join("model"), &expected, Dtype::F16, half);
    assert_tensors(&convert(&meta, &["--dtype", "bf16"]).path().join("model"), &expected, Dtype::BF16, brain);
}

#[test]
fn block_encodings_become_f32() {
    let scratch = TempDir::new().unwrap();
    let path = scratch.path().join("model.gguf");
    let matrices = |info: &paddock_engine::weights::TensorInfo| match info.shape {
        [1, _] => Encoding::F32,
        [_, columns] if columns.is_multiple_of(32) => Encoding::Q8_0,
        _ => Encoding::F16,
    };
    let mut file = GgufFile::from_fixture("llama-mha", matrices);
    fs::write(&path, file.bytes()).unwrap();
    let folder = convert(&path, &[]);
    let bytes = fs::read(folder.path().join("model/model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut values = vec![0.0; 176 * 64];
    dequantize(Encoding::Q8_0, &file.tensor_mut("blk.1.ffn_up.weight").bytes, &mut values).unwrap();
    assert!(tensors.tensor("model.layers.1.mlp.up_proj.weight").unwrap().data() == f32_bytes(&values));
    let down = tensors.tensor("model.layers.1.mlp.down_proj.weight").unwrap();
    assert!(down.data() == file.tensor_mut("blk.1.ffn_down.weight").bytes);
}

/// A Meta folder with this `tokenizer.model` in the folder above, where Meta keeps it.
fn meta_with(tokenizer: &Path) -> (TempDir, PathBuf) {
    let scratch = TempDir::new().unwrap();
    let model = scratch.path().join("7B");
    fs::create_dir(&model).unwrap();
    for name in ["consolidated.00.pth", "params.json"] {
        fs::copy(package_fixture("meta-1").join(name), model.join(name)).unwrap();
    }
    fs::copy(tokenizer, scratch.path().join("tokenizer.model")).unwrap();
    (scratch, model)
}

/// The tokenizer of a converted folder; "</s>" in a text is text, as for the SentencePiece library.
fn tokenizer(folder: &Path) -> Tokenizer {
    let tokenizer = fs::read(folder.join("tokenizer.json")).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(folder.join("tokenizer_config.json")).unwrap()).unwrap();
    let files = TokenizerFiles::Json { tokenizer, beside: Beside::from(config) };
    let mut tokenizer = Tokenizer::from_files(&files).unwrap();
    tokenizer.read_special_as_text(true);
    tokenizer
}

#[test]
fn a_sentencepiece_model_becomes_a_tokenizer_json_of_equal_ids() {
    let found = fixtures_with(&["tokenizer.model", "expected.json"]);
    assert!(!found.is_empty());
    for fixture in found {
        let (_scratch, model) = meta_with(&fixture.join("tokenizer.model"));
        let folder = convert(&model, &[]);
        let tokenizer = tokenizer(&folder.path().join("model"));
        let expected: Value = serde_json::from_slice(&fs::read(fixture.join("expected.json")).unwrap()).unwrap();
        for case in expected["cases"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
        }
    }
}

/// Against the library itself; `PADDOCK_TOKENIZER_MODEL` names another model than the fixture's, such as LLaMA's own.
#[test]
fn converted_tokenizers_equal_the_sentencepiece_library() {
    const SCRIPT: &str = "
import json, sys, sentencepiece
model = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
print(json.dumps([model.encode(text) for text in json.loads(sys.argv[2])]))
";
    let path = std::env::var_os("PADDOCK_TOKENIZER_MODEL")
        .map_or_else(|| package_fixture("sentencepiece/tokenizer.model"), PathBuf::from);
    let texts = serde_json::to_string(&TEXTS).unwrap();
    let Some(expected) = python("sentencepiece", SCRIPT, &[&path, &texts]) else { return };
    let expected: Vec<Vec<u32>> = serde_json::from_value(expected).unwrap();
    let (_scratch, model) = meta_with(&path);
    let folder = convert(&model, &[]);
    let tokenizer = tokenizer(&folder.path().join("model"));
    for (text, ids) in TEXTS.iter().zip(expected) {
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
    }
}

/// What transformers makes of converted folders: the logits and the ids that Paddock has.
#[test]
fn transformers_loads_what_was_converted() {
    const SCRIPT: &str = "
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model, info = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
assert not any(info.values()), info
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2]).input_ids
golden = json.load(open(sys.argv[3]))['cases'][0]
logits = model(torch.tensor([golden['prompt_ids']])).logits[0].flatten()
print(json.dumps({ 'ids': ids, 'logits': logits.tolist(), 'dtype': str(model.dtype) }))
";
    const TEXT: &str = "Hello world, naïve  café 🦙";
    let golden = package_fixture("llama-mha");
    let scratch = TempDir::new().unwrap();
    let gguf = scratch.path().join("model.gguf");
    fs::write(&gguf, GgufFile::from_fixture("llama-mha", |_| Encoding::F32).bytes()).unwrap();
    let (_meta_scratch, meta) = meta_with(&package_fixture("sentencepiece/tokenizer.model"));
    let expected = paddock_tests::expected_tensor(&golden, "logits.0");
    for from in [meta, package_fixture("pytorch-bin"), gguf] {
        let folder = convert(&from, &[]);
        let model = folder.path().join("model");
        let Some(theirs) = python("torch, transformers", SCRIPT, &[&model, &TEXT, &golden.join("expected.json")])
        else {
            return;
        };
        let logits: Vec<f32> = serde_json::from_value(theirs["logits"].clone()).unwrap();
        assert!(paddock_tests::largest_difference(&logits, &expected) < 1e-4, "{}", from.display());
        assert_eq!(theirs["dtype"], "torch.float32");
        let ids: Vec<u32> = serde_json::from_value(theirs["ids"].clone()).unwrap();
        assert_eq!(tokenizer(&model).encode(TEXT, true).unwrap(), ids, "{}", from.display());
    }
}

/// What is done to a model's folder, and the words of the refusal.
type Case<'a> = (&'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn bad_input_is_refused_by_name_and_leaves_nothing() {
    let meta = |change: &dyn Fn(&Path)| {
        let scratch = TempDir::new().unwrap();
        for entry in fs::read_dir(package_fixture("meta-4")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, scratch.path().join(path.file_name().unwrap())).unwrap();
        }
        change(scratch.path());
        scratch
    };
    let shard = |number: usize| format!("consolidated.0{number}.pth");
    let cut = |folder: &Path| {
        let bytes = fs::read(folder.join(shard(1))).unwrap();
        fs::write(folder.join(shard(1)), &bytes[..bytes.len() / 2]).unwrap();
    };
    let other = |folder: &Path| {
        fs::copy(package_fixture("meta-2").join(shard(1)), folder.join(shard(3))).unwrap();
    };
    let hostile = |folder: &Path| {
        fs::copy(package_fixture("pytorch-bin/hostile.pt"), folder.join(shard(2))).unwrap();
    };
    let params = |folder: &Path| {
        fs::write(folder.join("params.json"), r#"{"dim":96,"n_heads":4,"n_layers":2,"norm_eps":1e-6}"#).unwrap();
    };
    let cases: [Case; 6] = [
        (&|folder| fs::remove_file(folder.join(shard(2))).unwrap(), &["consolidated.02.pth", "missing"]),
        (&|folder| fs::remove_file(folder.join("params.json")).unwrap(), &["params.json"]),
        (&cut, &["consolidated.01.pth", "truncated"]),
        (&other, &["consolidated.03.pth", "different models"]),
        (&hostile, &["consolidated.02.pth", "nothing was run"]),
        (&params, &["tok_embeddings.weight", "96 wide"]),
    ];
    for (change, words) in cases {
        let folder = meta(change);
        let target = TempDir::new().unwrap();
        let output = target.path().join("model");
        refuses(&[&"convert", &"--from", &folder.path(), &"--output", &output], words);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }
    // An output that is there stays as it is.
    let target = TempDir::new().unwrap();
    fs::write(target.path().join("diary.txt"), "dear").unwrap();
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&"convert", &"--from", &package_fixture("meta-1"), &"--output", &target.path()];
    refuses(&arguments, &["name another output"]);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
}

/// Every tensor of a GGUF file is the folder's, rounded by the engine's own quantiser and bit for bit, and the tokenizer cuts
/// texts in the same way. The quantisers themselves are ggml's: unit tests of the engine.
#[test]
fn a_gguf_file_reads_back_bit_for_bit() {
    for name in ["llama-mha", "llama-gqa-tied-sharded", "llama3-rope", "llama-odd"] {
        for dtype in ["keep", "f16", "bf16", "q8_0", "q4_0"] {
            let from = package_fixture(name);
            let folder = TempDir::new().unwrap();
            let output = folder.path().join("model.gguf");
            run(&[&"convert", &"--from", &from, &"--output", &output, &"--to", &"gguf", &"--dtype", &dtype]);
            let open = |path: &Path| open_model(path, None).unwrap();
            let (mut theirs, mut ours) = (open(&from), open(&output));
            let (expected, found) = (theirs.config().clone(), ours.config().clone());
            assert_eq!((&found.head, found.vocab_size), (&expected.head, expected.vocab_size), "{name}");
            let frequencies = found.inverse_frequencies().into_iter().zip(expected.inverse_frequencies());
            for (a, b) in frequencies {
                assert!((a - b).abs() <= 1e-6 * b, "{name}: {a} and {b}");
            }
            for info in ours.tensors().cloned().collect::<Vec<_>>() {
                let rows = 0..info.shape[0];
                let stored = theirs.tensor(&info.name).unwrap().encoding;
                let bytes = block_on(theirs.read_rows(&info.name, rows.clone())).unwrap();
                let bytes = recode(bytes, stored, info.encoding).unwrap();
                assert!(block_on(ours.read_rows(&info.name, rows)).unwrap() == bytes, "{name} {dtype}: {}", info.name);
                if dtype == "q8_0" && info.shape[0] > 1 && info.shape[1] % 32 == 0 {
                    assert_eq!(info.encoding, Encoding::Q8_0, "{name}: {}", info.name);
                }
            }
            let Ok(files) = block_on(theirs.tokenizer_files()) else { continue };
            let theirs = Tokenizer::from_files(&files).unwrap();
            let ours = Tokenizer::from_files(&block_on(ours.tokenizer_files()).unwrap()).unwrap();
            for text in TEXTS {
                assert_eq!(ours.encode(text, true).unwrap(), theirs.encode(text, true).unwrap(), "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn a_gguf_file_that_cannot_be_written_is_refused() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("model.gguf");
    let convert = |from: &Path, words: &[&str]| {
        refuses(&[&"convert", &"--from", &from, &"--output", &output, &"--to", &"gguf"], words);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), usize::from(output.exists()));
    };
    convert(&package_fixture("opt"), &["OPT"]);
    convert(&package_fixture("score"), &["score model"]);
    fs::write(&output, "mine").unwrap();
    convert(&package_fixture("llama-mha"), &["is there already"]);
    assert_eq!(fs::read(&output).unwrap(), b"mine");
}

/// Nobody who names a file ".gguf" wants a folder.
#[test]
fn an_output_s_name_says_what_is_written() {
    let folder = TempDir::new().unwrap();
    let (named, asked) = (folder.path().join("named.GGUF"), folder.path().join("asked"));
    let from = package_fixture("llama-mha");
    run(&[&"convert", &"--from", &from, &"--output", &named]);
    run(&[&"convert", &"--from", &from, &"--output", &asked, &"--to", &"gguf"]);
    assert!(fs::read(&named).unwrap() == fs::read(&asked).unwrap());
    let output = folder.path().join("other.gguf");
    for (flags, words) in [(["--to", "hf"], "a folder would be written"), (["--dtype", "q9"], "--dtype q9")] {
        let mut convert = paddock();
        convert.args(["convert", "--from"]).arg(&from).arg("--output").arg(&output).args(flags);
        let refused = convert.output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "as wrong usage");
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains(words) && !output.exists(), "{error}");
    }
}

/// The factors in the file of a Llama 3.1 become the rule that they were computed by.
#[test]
fn a_llama_3_1_keeps_its_rotary_scaling() {
    let folder = TempDir::new().unwrap();
    let (file, output) = (folder.path().join("m.gguf"), folder.path().join("model"));
    fs::write(&file, GgufFile::from_fixture("llama3-rope", |_| Encoding::F32).bytes()).unwrap();
    run(&[&"convert", &"--from", &file, &"--output", &output]);
    let config = |path: &Path| open_model(path, None).unwrap().config().clone();
    let (written, original) = (config(&output), config(&package_fixture("llama3-rope")));
    assert_eq!(written.rope_scaling, original.rope_scaling);
    assert!(written.rope_factors.is_none());
}

/// What the checkpoint decided is what transformers reads in the folder that is written.
#[test]
fn a_head_that_differs_from_a_tied_embedding_is_written_as_its_own() {
    let folder = TempDir::new().unwrap();
    let (model, output) = (folder.path().join("tied"), folder.path().join("model"));
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(package_fixture("llama-mha")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let config = model.join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["tie_word_embeddings"] = true.into();
    fs::remove_file(&config).unwrap();
    fs::write(&config, json.to_string()).unwrap();
    run(&[&"convert", &"--from", &model, &"--output", &output]);
    let written: Value = serde_json::from_slice(&fs::read(output.join("config.json")).unwrap()).unwrap();
    assert_eq!(written["tie_word_embeddings"], false);
    assert_tensors(&output, &package_fixture("llama-mha"), Dtype::F32, f32_bytes);
}
