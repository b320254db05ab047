//! GGUF files: the fixtures, written as llama.cpp's converter would, read back as the same model; damaged ones are
//! refused with a sentence.

use paddock_engine::backend::{Cpu, Device, Segments};
use paddock_engine::config::RopeScaling;
use paddock_engine::model::CausalLm;
use paddock_engine::tokenizer::TokenizerFiles;
use paddock_engine::weights::{Checkpoint, Encoding, Format, MemorySource, TensorInfo, dequantize, quantize};
use paddock_tests::gguf::{GgufFile, GgufTensor, Meta};
use paddock_tests::{block_on, fixture_source, folder_source, smollm2};

const MODEL: &str = "llama-gqa-tied-sharded";
const FOLDERS: [&str; 4] = ["llama-mha", MODEL, "llama3-rope", "llama-odd"];

fn open(source: MemorySource) -> paddock_engine::Result<Checkpoint<MemorySource>> {
    block_on(Checkpoint::open(source))
}

fn in_f32(_: &TensorInfo) -> Encoding {
    Encoding::F32
}

/// Matrices in `encoding` where their columns allow it, vectors in F32.
fn matrices_in(encoding: Encoding) -> impl Fn(&TensorInfo) -> Encoding {
    move |info| match encoding.row_bytes(info.shape[1]) {
        Some(_) if info.shape[0] > 1 => encoding,
        _ => Encoding::F32,
    }
}

/// The sentence with which a GGUF file is refused.
fn refused(bytes: Vec<u8>) -> String {
    let source = MemorySource { files: [("model.gguf".to_string(), bytes)].into() };
    open(source).expect_err("the damage is noticed").to_string()
}

/// The sentence after `damage` to a good file.
fn refused_after(damage: impl FnOnce(&mut GgufFile)) -> String {
    let mut file = GgufFile::from_fixture(MODEL, in_f32);
    open(file.source()).expect("the undamaged file opens");
    damage(&mut file);
    refused(file.bytes())
}

#[test]
fn a_gguf_file_is_the_same_model_as_its_folder() {
    for name in FOLDERS {
        let folder = open(fixture_source(name)).unwrap();
        let gguf = open(GgufFile::from_fixture(name, in_f32).source()).unwrap();
        assert_eq!(gguf.format(), Format::Gguf);
        let (ours, theirs) = (gguf.config().inverse_frequencies(), folder.config().inverse_frequencies());
        for (a, b) in ours.iter().zip(&theirs) {
            // The factors pass through f32 on their way: two roundings of 2^-24 each, and the powers'.
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{name}: {a} and {b}");
        }
        let mut config = gguf.config().clone();
        if config.rope_factors.take().is_some() {
            assert!(matches!(folder.config().rope_scaling, RopeScaling::Llama3 { .. }), "{name}");
            config.rope_scaling = folder.config().rope_scaling;
        }
        assert_eq!(&config, folder.config(), "{name}");
    }
}

#[test]
fn rows_come_in_the_folder_s_order() {
    for name in FOLDERS {
        for encoding in [Encoding::F32, Encoding::F16, Encoding::Q8_0, Encoding::Q4_1] {
            let mut folder = open(fixture_source(name)).unwrap();
            let mut gguf = open(GgufFile::from_fixture(name, matrices_in(encoding)).source()).unwrap();
            let infos: Vec<_> = folder.tensors().cloned().collect();
            for info in infos {
                let stored = gguf.tensor(&info.name).unwrap().encoding;
                let mut values = vec![0.0; info.shape[0] * info.shape[1]];
                let bytes = block_on(folder.read_rows(&info.name, 0..info.shape[0])).unwrap();
                dequantize(info.encoding, &bytes, &mut values).unwrap();
                let expected = quantize(stored, &values).unwrap();
                let found = block_on(gguf.read_rows(&info.name, 0..info.shape[0])).unwrap();
                assert!(found == expected, "{name}: {} in {stored:?}", info.name);
                // A range that begins and ends within heads.
                let (first, last) = (info.shape[0] / 5, info.shape[0] - info.shape[0] / 7);
                let row = expected.len() / info.shape[0];
                let found = block_on(gguf.read_rows(&info.name, first..last)).unwrap();
                assert!(found == expected[first * row..last * row], "{name}: rows {first}..{last} of {}", info.name);
            }
        }
    }
}

/// Qwen's and others' files have biases on q, k and v alone; that is the model whose other biases are zero.
#[test]
fn the_bias_of_o_may_be_absent() {
    const BIASED: &str = "llama-odd";
    const O_BIAS: &str = ".attn_output.bias";
    let full = GgufFile::from_fixture(BIASED, in_f32);
    let (mut zeroed, mut without) = (full.clone(), full.clone());
    for tensor in zeroed.tensors.iter_mut().filter(|tensor| tensor.name.ends_with(O_BIAS)) {
        tensor.bytes.fill(0);
    }
    without.tensors.retain(|tensor| !tensor.name.ends_with(O_BIAS));
    assert!(without.tensors.len() < full.tensors.len());
    let logits = |file: &GgufFile| {
        let backend = Cpu::with_threads(1);
        let model = block_on(CausalLm::load(&backend, &mut open(file.source()).unwrap(), &mut |_| {})).unwrap();
        let logits = model.forward(&backend.tokens(&[1, 2, 3]).unwrap(), &Segments::documents(&[3])).unwrap();
        block_on(backend.read(&logits)).unwrap()
    };
    assert!(logits(&without) == logits(&zeroed));
    assert!(logits(&without) != logits(&full), "the comparison cannot fail");

    // One block's alone is a damaged file, as is any other bias.
    for name in ["blk.1.attn_output.bias", "blk.0.attn_k.bias", "blk.1.attn_q.bias"] {
        let mut damaged = full.clone();
        damaged.tensors.retain(|tensor| tensor.name != name);
        let error = refused(damaged.bytes());
        assert!(error.contains(&format!("the file has no tensor {name}")), "{error}");
    }
}

#[test]
fn the_vocabulary_is_read() {
    let mut file = GgufFile::from_fixture(MODEL, in_f32);
    file.set("tokenizer.chat_template", Meta::Text("{{ messages }}".into()));
    let TokenizerFiles::Gguf(vocabulary) = block_on(open(file.source()).unwrap().tokenizer_files()).unwrap() else {
        panic!("a GGUF file holds its vocabulary");
    };
    assert_eq!((vocabulary.model.as_str(), vocabulary.tokens.len()), ("llama", 512));
    assert_eq!(vocabulary.tokens[..3], ["<unk>", "<s>", "</s>"]);
    assert_eq!(vocabulary.token_types[..4], [2, 3, 3, 6]);
    assert_eq!((vocabulary.scores.len(), vocabulary.bos, vocabulary.eos), (512, Some(1), Some(2)));
    assert_eq!((vocabulary.add_bos, vocabulary.add_space_prefix), (Some(true), None));
    assert_eq!(vocabulary.chat_template.as_deref(), Some("{{ messages }}"));
}

#[test]
fn every_token_that_ends_an_answer_is_found() {
    let mut file = GgufFile::from_fixture(MODEL, in_f32);
    let mut tokens: Vec<String> = (0..512).map(|id| format!("token{id}")).collect();
    tokens[7] = "<|im_end|>".into();
    tokens[9] = "<|endoftext|>".into();
    file.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    file.set("tokenizer.ggml.eot_token_id", Meta::U32(5));
    assert_eq!(open(file.source()).unwrap().config().eos_token_ids, [2, 5, 7, 9]);
}

#[test]
fn the_default_model_opens() {
    let Some(path) = smollm2() else { return };
    let mut files = folder_source(path.parent().unwrap());
    files.files.retain(|name, _| name.ends_with(".gguf"));
    let mut checkpoint = open(files).unwrap();
    let config = checkpoint.config().clone();
    assert_eq!((config.num_hidden_layers, config.hidden_size, config.intermediate_size), (30, 576, 1536));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.max_position_embeddings, config.rope_theta), (49152, 8192, 100_000.0));
    assert_eq!((config.bos_token_id, config.eos_token_ids.first()), (Some(1), Some(&2)));
    let embedding = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    assert_eq!(embedding.encoding, Encoding::Q8_0);
    let last = block_on(checkpoint.read_rows("model.layers.29.mlp.down_proj.weight", 575..576)).unwrap();
    assert_eq!(last.len(), 1536 / 32 * 20);
}

#[test]
fn truncated() {
    let bytes = GgufFile::from_fixture(MODEL, in_f32).bytes();
    for length in [0, 3, 4, 8, 23, 24, 40, 500, 10_000, 30_000, bytes.len() / 2, bytes.len() - 1] {
        let error = refused(bytes[..length].to_vec());
        assert!(error.starts_with("model.gguf: "), "{length}: {error}");
        if length < 24 {
            assert!(error.contains(&format!("only {length} bytes and is cut off")), "{length}: {error}");
        }
    }
    assert!(refused(b"GGML".to_vec()).contains("does not begin with \"GGUF\""));
}

#[test]
fn absurd_counts_and_lengths() {
    let bytes = GgufFile::from_fixture(MODEL, in_f32).bytes();
    // Tensor count, key count, length of the first key.
    for at in [8, 16, 24] {
        for absurd in [u64::MAX, u64::MAX / 24, 1 << 40, 1 << 22] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&absurd.to_le_bytes());
            let error = refused(bytes);
            assert!(error.starts_with("model.gguf: "), "{at}, {absurd}: {error}");
        }
    }
    let key = b"tokenizer.ggml.tokens";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 8;
    let mut bytes = bytes;
    bytes[at..at + 8].copy_from_slice(&(u64::MAX / 8).to_le_bytes());
    assert!(refused(bytes).contains("list items"));
}

#[test]
fn overflowing_offsets_and_shapes() {
    let error = refused_after(|file| file.tensor_mut("token_embd.weight").dimensions = vec![u64::MAX, u64::MAX]);
    assert!(error.contains("token_embd.weight does not lie within the file"), "{error}");
    let bytes = GgufFile::from_fixture(MODEL, in_f32).bytes();
    let name = b"output_norm.weight";
    // Name, rank, one dimension, type, then the offset.
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 8 + 4;
    for (offset, problem) in [(u64::MAX - 31, "within the file"), (1 << 50, "within the file"), (7, "aligned")] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        let error = refused(bytes);
        assert!(error.contains(problem), "{error}");
    }
    let mut bytes = bytes;
    bytes[at..at + 8].copy_from_slice(&0u64.to_le_bytes());
    assert!(refused(bytes).contains("overlap"));
}

#[test]
fn a_name_listed_twice() {
    let error = refused_after(|file| file.tensors.push(file.tensors[3].clone()));
    assert!(error.contains("listed twice"), "{error}");
    let error = refused_after(|file| file.metadata.push(file.metadata[3].clone()));
    assert!(error.contains("listed twice"), "{error}");
}

#[test]
fn not_gguf_and_other_versions() {
    let bytes = GgufFile::from_fixture(MODEL, in_f32).bytes();
    let with_version = |version: [u8; 4]| [b"GGUF", version.as_slice(), &bytes[8..]].concat();
    assert!(refused(vec![0x80; 4096]).contains("does not begin with \"GGUF\""));
    assert!(refused(with_version(1u32.to_le_bytes())).contains("GGUF version 1"));
    assert!(refused(with_version(9u32.to_le_bytes())).contains("GGUF version 9"));
    assert!(refused(with_version(3u32.to_be_bytes())).contains("big-endian"));
}

#[test]
fn missing_tensor() {
    let error = refused_after(|file| file.tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight"));
    assert!(error.contains("model.layers.1.mlp.up_proj.weight: expected shape [256, 96], found nothing"), "{error}");
}

/// Without them the model would say something else; llama.cpp refuses such a file, too.
#[test]
fn tensors_that_llama_does_not_have_are_refused_by_name() {
    let with = |name: &str| {
        let mut file = GgufFile::from_fixture(MODEL, in_f32);
        let tensor = GgufTensor { name: name.to_string(), ..file.tensor_mut("output_norm.weight").clone() };
        file.tensors.push(tensor);
        file
    };
    for (name, words) in [
        ("blk.0.attn_q_norm.weight", "a norm of queries and keys"),
        ("blk.1.attn_k_norm.weight", "a norm of queries and keys"),
        ("blk.1.post_ffw_norm.weight", "a norm around the feed-forward layers"),
        ("blk.0.ffn_gate_inp.weight", "a mixture of experts"),
        ("blk.0.ffn_up_exps.weight", "a mixture of experts"),
        ("blk.0.attn_qkv.weight", "several projections"),
        ("blk.0.ffn_up.bias", "do not have it"),
        ("blk.0.attn_k.bias", "do not have it"),
        ("blk.0.attn_q.scale", "do not have it"),
        ("output.bias", "do not have it"),
        ("output_norm.bias", "do not have it"),
        ("cls.output.bias", "do not have it"),
        ("mm.0.weight", "do not have it"),
    ] {
        let error = refused(with(name).bytes());
        assert!(error.contains(name) && error.contains(words), "{name}: {error}");
    }
    for name in ["blk.0.attn_rot_embd.weight", "rope_factors_long.weight", "blk.0.rope_freqs.weight"] {
        assert!(open(with(name).source()).unwrap().notes().is_empty(), "{name}");
    }
    let deeper = open(with("blk.77.attn_norm.weight").source()).unwrap();
    assert!(deeper.notes()[0].contains("more blocks than"), "{:?}", deeper.notes());
}

#[test]
fn a_value_that_has_to_be_guessed_is_told() {
    for (key, words) in [("context_length", "2048 is taken"), ("attention.layer_norm_rms_epsilon", "1e-5 is taken")] {
        let mut file = GgufFile::from_fixture(MODEL, in_f32);
        assert!(open(file.source()).unwrap().notes().is_empty());
        file.metadata.retain(|(known, _)| *known != format!("llama.{key}"));
        let notes = open(file.source()).unwrap().notes().join("\n");
        assert!(notes.contains(key) && notes.contains(words), "{notes}");
    }
}

#[test]
fn mis_shaped_tensor() {
    let error = refused_after(|file| file.tensor_mut("blk.0.attn_k.weight").dimensions = vec![32, 96]);
    assert!(error.contains("k_proj.weight: expected shape [32, 96], found [96, 32]"), "{error}");
}

#[test]
fn unknown_tensor_type() {
    let error = refused_after(|file| file.tensor_mut("blk.0.attn_k.weight").kind = 10);
    assert!(error.contains("blk.0.attn_k.weight is stored as Q2_K"), "{error}");
}

#[test]
fn unknown_architecture() {
    let error = refused_after(|file| file.set("general.architecture", Meta::Text("mamba".into())));
    assert!(error.contains("\"mamba\""), "{error}");
    let error = refused_after(|file| file.set("llama.expert_count", Meta::U32(8)));
    assert!(error.contains("mixture of experts"), "{error}");
    let error = refused_after(|file| file.set("llama.rope.scaling.type", Meta::Text("yarn".into())));
    assert!(error.contains("\"yarn\""), "{error}");
    let error = refused_after(|file| file.set("llama.rope.dimension_count", Meta::U32(8)));
    assert!(error.contains("rope.dimension_count\" is 8"), "{error}");
}

#[test]
fn metadata_of_the_wrong_type() {
    let error = refused_after(|file| file.set("llama.block_count", Meta::Text("three".into())));
    assert!(error.contains("llama.block_count"), "{error}");
    let error = refused_after(|file| file.set("llama.block_count", Meta::U32(0)));
    assert!(error.contains("num_hidden_layers"), "{error}");
    let error = refused_after(|file| file.set("tokenizer.ggml.scores", Meta::Texts(vec!["x".into()])));
    assert!(error.contains("tokenizer.ggml.scores"), "{error}");
    let error = refused_after(|file| file.metadata.retain(|(key, _)| key != "llama.embedding_length"));
    assert!(error.contains("llama.embedding_length\" is missing"), "{error}");
}

#[test]
fn several_files_and_none() {
    let bytes = GgufFile::from_fixture(MODEL, in_f32).bytes();
    let files = [("a.gguf".to_string(), bytes.clone()), ("b.gguf".to_string(), bytes)].into();
    assert!(open(MemorySource { files }).unwrap_err().to_string().contains("2 GGUF files (a.gguf, b.gguf)"));
    assert!(open(MemorySource::default()).unwrap_err().to_string().contains("expected a folder with config.json"));
}

#[test]
fn a_split_model_is_the_whole_one() {
    let file = GgufFile::from_fixture(MODEL, in_f32);
    let (mut whole, mut parts) = (open(file.source()).unwrap(), open(file.split(3)).unwrap());
    assert_eq!(whole.config(), parts.config());
    for info in whole.tensors().cloned().collect::<Vec<_>>() {
        let rows = 0..info.shape[0];
        let read = |checkpoint: &mut Checkpoint<MemorySource>| block_on(checkpoint.read_rows(&info.name, rows.clone()));
        assert_eq!(read(&mut whole).unwrap(), read(&mut parts).unwrap(), "{}", info.name);
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let file = GgufFile::from_fixture(MODEL, in_f32);
    let good = file.split(3);
    let refused = |change: &dyn Fn(&mut MemorySource)| {
        let mut source = good.clone();
        change(&mut source);
        open(source).unwrap_err().to_string()
    };
    let missing = refused(&|source| drop(source.files.remove("m-00002-of-00003.gguf")));
    assert!(missing.contains("m-00002-of-00003.gguf was not found"), "{missing}");
    let alone = refused(&|source| source.files.retain(|name, _| name.starts_with("m-00003")));
    assert!(alone.contains("m-00001-of-00003.gguf was not found"), "{alone}");
    let renamed = refused(&|source| {
        let bytes = source.files["m-00001-of-00003.gguf"].clone();
        source.files = [("model.gguf".to_string(), bytes)].into();
    });
    assert!(renamed.contains("part 1 of 3"), "{renamed}");
    let swapped = refused(&|source| {
        let bytes = source.files["m-00002-of-00003.gguf"].clone();
        source.files.insert("m-00003-of-00003.gguf".to_string(), bytes);
    });
    assert!(swapped.contains("part 2 of 3"), "{swapped}");
    let twice = refused(&|source| {
        let other = GgufFile { tensors: file.tensors.iter().rev().cloned().collect(), ..file.clone() }.split(3);
        source.files.insert("m-00003-of-00003.gguf".to_string(), other.files["m-00003-of-00003.gguf"].clone());
    });
    assert!(twice.contains("different models"), "{twice}");
}

#[test]
fn a_file_is_known_by_its_first_bytes() {
    let bytes = GgufFile::from_fixture(MODEL, in_f32).bytes();
    let files = [("sha256-843d506c69ee".to_string(), bytes), ("README".to_string(), b"hello".to_vec())].into();
    assert_eq!(open(MemorySource { files }).unwrap().format(), Format::Gguf);
    assert!(refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec()).contains("git lfs pull"));
    assert!(refused(b"PK\x03\x04 and what else a zip archive begins with".to_vec()).contains("zip archive"));
}
