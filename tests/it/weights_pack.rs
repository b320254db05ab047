//! Web packs: made from every kind of checkpoint, read back as the same model, streamed front to back, and verified.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use paddock_engine::backend::Cpu;
use paddock_engine::generate::Chat;
use paddock_engine::prompt::{Message, Role, TemplateKind, alpaca_prompt};
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_engine::weights::manifest::{MANIFEST, Manifest, SHARD_BYTES};
use paddock_engine::weights::pack::{PackOptions, PackPlan, PackSink, Quantize, pack};
use paddock_engine::weights::{Checkpoint, Encoding, Format, MemorySource, Source, dequantize, quantize};
use paddock_engine::{ModelConfig, Result};
use paddock_tests::gguf::GgufFile;
use paddock_tests::{block_on, fixture_source};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const MODEL: &str = "llama-gqa-tied-sharded";
const FOLDERS: [&str; 4] = ["llama-mha", MODEL, "llama3-rope", "llama-odd"];

/// A pack in memory.
#[derive(Default)]
struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    current: Option<(String, Vec<u8>)>,
}

impl PackSink for Memory {
    async fn create(&mut self, name: &str) -> Result<()> {
        assert!(self.current.replace((name.to_string(), Vec::new())).is_none(), "{name}: the last file is finished");
        Ok(())
    }
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.current.as_mut().expect("a file is open").1.extend(bytes);
        Ok(())
    }
    async fn finish(&mut self) -> Result<()> {
        let (name, bytes) = self.current.take().expect("a file is open");
        assert!(self.files.insert(name, bytes).is_none(), "every file is written once");
        Ok(())
    }
}

fn open<S: Source>(source: S) -> Result<Checkpoint<S>> {
    block_on(Checkpoint::open(source))
}

fn packed(source: MemorySource, quantize: Quantize) -> MemorySource {
    packed_for(source, quantize, TemplateKind::Auto)
}

fn packed_for(source: MemorySource, quantize: Quantize, template: TemplateKind) -> MemorySource {
    let mut checkpoint = open(source).unwrap();
    let tokenizer = match block_on(checkpoint.tokenizer_files()) {
        Ok(files) => files,
        // One fixture has no tokenizer; any will do.
        Err(_) => block_on(open(fixture_source(MODEL)).unwrap().tokenizer_files()).unwrap(),
    };
    let tokenizer = Tokenizer::from_files(&tokenizer).unwrap();
    let options = PackOptions { name: "tiny".into(), template, ..PackOptions::default() };
    let plan = PackPlan::new(&checkpoint, quantize).unwrap();
    let mut sink = Memory::default();
    let mut written = 0;
    let mut progress = |bytes| written = bytes;
    let manifest =
        block_on(pack(&mut checkpoint, Some(&tokenizer), &options, &plan, &mut sink, &mut progress)).unwrap();
    assert_eq!(written, plan.bytes());
    assert_eq!(Manifest::parse(&sink.files[MANIFEST]).unwrap(), manifest);
    MemorySource { files: sink.files }
}

fn values<S: Source>(checkpoint: &mut Checkpoint<S>, name: &str) -> Vec<f32> {
    let info = checkpoint.tensor(name).unwrap().clone();
    let bytes = block_on(checkpoint.read_rows(name, 0..info.shape[0])).unwrap();
    let mut values = vec![0.0; info.shape[0] * info.shape[1]];
    dequantize(info.encoding, &bytes, &mut values).unwrap();
    values
}

fn names<S: Source>(checkpoint: &Checkpoint<S>) -> Vec<String> {
    checkpoint.tensors().map(|info| info.name.clone()).collect()
}

#[test]
fn a_kept_model_is_the_same_bit_for_bit() {
    let gguf = GgufFile::from_fixture(MODEL, |info| if info.shape[0] > 1 { Encoding::Q8_0 } else { Encoding::F32 });
    for source in FOLDERS.map(fixture_source).into_iter().chain([gguf.source()]) {
        let mut original = open(source.clone()).unwrap();
        let mut pack = open(packed(source, Quantize::Keep)).unwrap();
        assert_eq!(pack.format(), Format::WebPack);
        assert_eq!(pack.config(), original.config());
        for name in names(&original) {
            assert!(values(&mut pack, &name) == values(&mut original, &name), "{name}");
            let encoding = pack.tensor(&name).unwrap().encoding;
            assert!(encoding == original.tensor(&name).unwrap().encoding || encoding == Encoding::F32, "{name}");
        }
        block_on(pack.finish()).unwrap();
    }
}

#[test]
fn a_pack_s_prompt_format_is_what_auto_means() {
    let pack = packed_for(fixture_source(MODEL), Quantize::Keep, TemplateKind::Alpaca);
    let packed_again = packed(pack.clone(), Quantize::Keep);
    let other = packed_for(pack.clone(), Quantize::Keep, TemplateKind::SafeRlhf);
    let prompts = |source: MemorySource| {
        let chat = block_on(Chat::load(&Cpu::with_threads(1), source, None, &mut |_| {})).unwrap();
        let question = [Message::new(Role::User, "Why?")];
        [TemplateKind::Auto, TemplateKind::None]
            .map(|kind| chat.template(kind).unwrap().render(&question).unwrap().text)
    };
    for source in [pack, packed_again] {
        assert_eq!(prompts(source), [alpaca_prompt("Why?", None), "Why?".to_string()]);
    }
    assert!(prompts(other)[0].contains("USER: Why?"));
    assert_eq!(prompts(packed(fixture_source(MODEL), Quantize::Keep))[0], "Why?");
    assert_eq!(open(fixture_source(MODEL)).unwrap().template(), TemplateKind::Auto);
}

#[test]
fn matrices_are_quantised_and_vectors_are_not() {
    for (quantize, matrix, table) in [
        (Quantize::Q4, Encoding::Q4_1, Encoding::Q8_0),
        (Quantize::Q8, Encoding::Q8_0, Encoding::Q8_0),
        (Quantize::F16, Encoding::F16, Encoding::F16),
    ] {
        let mut original = open(fixture_source(MODEL)).unwrap();
        let source = packed(fixture_source(MODEL), quantize);
        let mut pack = open(source).unwrap();
        let encoding = |name: &str| pack.tensor(name).unwrap().encoding;
        assert_eq!(encoding("model.layers.0.self_attn.k_proj.weight"), matrix);
        assert_eq!(encoding("model.embed_tokens.weight"), table, "tied: it gives the logits");
        assert_eq!(encoding("model.layers.0.input_layernorm.weight"), Encoding::F32);
        for name in names(&original) {
            let (exact, stored) = (values(&mut original, &name), values(&mut pack, &name));
            let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
            let error = norm(&mut exact.iter().zip(&stored).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied());
            // Sixteen levels over a block of 32 normal values (about ±2.1 σ) leave 2.1 / 15 / √3 σ of error.
            let limit = if encoding_of(&pack, &name) == Encoding::Q4_1 { 0.1 } else { 0.006 };
            assert!(error < limit, "{quantize}: {name} is off by {error}");
        }
    }
    let untied = open(packed(fixture_source("llama-mha"), Quantize::Q4)).unwrap();
    assert_eq!(untied.tensor("lm_head.weight").unwrap().encoding, Encoding::Q8_0);
    assert_eq!(untied.tensor("model.embed_tokens.weight").unwrap().encoding, Encoding::Q4_1);
}

fn encoding_of<S: Source>(checkpoint: &Checkpoint<S>, name: &str) -> Encoding {
    checkpoint.tensor(name).unwrap().encoding
}

#[test]
fn columns_that_are_no_whole_blocks_stay_f16_and_are_noted() {
    // 176 columns of down_proj are five and a half blocks.
    let checkpoint = open(fixture_source("llama-mha")).unwrap();
    let plan = PackPlan::new(&checkpoint, Quantize::Q4).unwrap();
    assert_eq!(plan.notes.len(), 2);
    assert!(plan.notes[0].contains("model.layers.0.mlp.down_proj.weight stays F16: its 176 columns"));
}

#[test]
fn shards_are_safetensors_and_at_most_32_mib() {
    let source = large();
    let shards: Vec<_> = source.files.iter().filter(|(name, _)| name.ends_with(".safetensors")).collect();
    assert!(shards.len() >= 3, "{} shards", shards.len());
    let mut pieces = Vec::new();
    for (name, bytes) in shards {
        assert!(bytes.len() as u64 <= SHARD_BYTES, "{name}");
        pieces.extend(SafeTensors::deserialize(bytes).unwrap().names().into_iter().map(str::to_string));
    }
    assert!(pieces.iter().any(|piece| piece.starts_with("model.embed_tokens.weight#rows 0..")), "{pieces:?}");
    let mut pack = open(source).unwrap();
    for row in [0, 100, 7751, 17_000, 39_999] {
        let bytes = block_on(pack.read_rows("model.embed_tokens.weight", row..row + 1)).unwrap();
        let mut found = vec![0.0; 1024];
        dequantize(Encoding::F16, &bytes, &mut found).unwrap();
        assert_eq!(found[..2], [(row / 256) as f32, (row % 256) as f32], "row {row}");
    }
    let across = block_on(pack.read_rows("model.embed_tokens.weight", 10_000..32_000)).unwrap();
    assert_eq!(across.len(), 22_000 * 2048);
    block_on(pack.finish()).unwrap();
}

/// A model whose embedding takes 80 MB: every row holds its own number.
fn large() -> MemorySource {
    const ROWS: usize = 40_000;
    const COLS: usize = 1024;
    let mut source = fixture_source("llama-mha");
    let config: Value = json!({
        "hidden_size": COLS, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 2,
        "num_key_value_heads": 1, "vocab_size": ROWS, "tie_word_embeddings": true,
    });
    source.files.insert("config.json".into(), config.to_string().into_bytes());
    let config = ModelConfig::from_json(&config, None).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for param in config.params() {
        let [rows, cols] = param.shape;
        let start = data.len();
        for row in 0..rows {
            let at = data.len();
            data.resize(at + cols * 2, 0);
            if param.name == "model.embed_tokens.weight" {
                for (column, number) in [row / 256, row % 256].into_iter().enumerate() {
                    data[at + column * 2..at + column * 2 + 2].copy_from_slice(&half_bits(number));
                }
            }
        }
        let shape = if rows == 1 { vec![cols] } else { vec![rows, cols] };
        header.insert(param.name, json!({ "dtype": "F16", "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = [(header.len() as u64).to_le_bytes().as_slice(), &header, &data].concat();
    source.files.insert("model.safetensors".into(), file);
    packed(source, Quantize::Keep)
}

/// A whole number up to 255 as f16.
fn half_bits(number: usize) -> [u8; 2] {
    let bytes = quantize(Encoding::F16, &[number as f32]).unwrap();
    [bytes[0], bytes[1]]
}

/// A source that serves each shard only front to back, as one stream.
struct Stream {
    inner: MemorySource,
    positions: Rc<RefCell<BTreeMap<String, u64>>>,
}

impl Source for Stream {
    fn list(&self) -> Vec<String> {
        Vec::new()
    }
    async fn size(&self, file: &str) -> Result<Option<u64>> {
        self.inner.size(file).await
    }
    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let position = self.positions.borrow_mut().insert(file.to_string(), range.end).unwrap_or_default();
        assert_eq!(range.start, position, "{file} is read front to back without gaps");
        self.inner.read(file, range).await
    }
}

#[test]
fn loading_reads_every_shard_front_to_back_once() {
    for name in FOLDERS {
        let inner = packed(fixture_source(name), Quantize::Q4);
        let positions = Rc::default();
        let mut pack = open(Stream { inner: inner.clone(), positions: Rc::clone(&positions) }).unwrap();
        for name in names(&pack) {
            let rows = pack.tensor(&name).unwrap().shape[0];
            for row in 0..rows {
                block_on(pack.read_rows(&name, row..row + 1)).unwrap();
            }
        }
        block_on(pack.finish()).unwrap();
        for (file, bytes) in inner.files.iter().filter(|(file, _)| file.ends_with(".safetensors")) {
            assert_eq!(positions.borrow()[file], bytes.len() as u64, "{name}: {file}");
        }
    }
}

#[test]
fn reading_in_any_order_is_verified_too() {
    let source = packed(fixture_source(MODEL), Quantize::Keep);
    let read_backwards = |source: MemorySource| -> Result<()> {
        let mut pack = open(source)?;
        let mut all = names(&pack);
        all.reverse();
        for name in all {
            block_on(pack.read_rows(&name, 0..1))?;
        }
        block_on(pack.finish())
    };
    read_backwards(source.clone()).unwrap();
    let mut damaged = source;
    let shard = damaged.files.get_mut("shard-00001.safetensors").unwrap();
    *shard.last_mut().unwrap() ^= 1;
    assert!(read_backwards(damaged).unwrap_err().to_string().contains("SHA-256"));
}

#[test]
fn the_tokenizer_survives() {
    let files = block_on(open(fixture_source(MODEL)).unwrap().tokenizer_files()).unwrap();
    let before = Tokenizer::from_files(&files).unwrap();
    let files = block_on(open(packed(fixture_source(MODEL), Quantize::Keep)).unwrap().tokenizer_files()).unwrap();
    assert!(matches!(files, TokenizerFiles::Json { beside: Beside { config: Some(_), .. }, .. }));
    let after = Tokenizer::from_files(&files).unwrap();
    let text = "The quick brown fox, naïve 🦊";
    assert_eq!(before.encode(text, true).unwrap(), after.encode(text, true).unwrap());
    assert_eq!((before.bos(), before.eos()), (after.bos(), after.eos()));
}

/// Opens a pack and reads all of it.
fn read_through(source: MemorySource) -> Result<()> {
    let mut pack = open(source)?;
    block_on(pack.tokenizer_files())?;
    for name in names(&pack) {
        let rows = pack.tensor(&name).map_or(0, |info| info.shape[0]);
        block_on(pack.read_rows(&name, 0..rows))?;
    }
    block_on(pack.finish())
}

/// The sentence with which a pack is refused after `damage`, while opening or reading it through.
fn refused(damage: impl FnOnce(&mut MemorySource)) -> String {
    let mut source = packed(fixture_source(MODEL), Quantize::Q8);
    read_through(source.clone()).expect("the undamaged pack is read");
    damage(&mut source);
    read_through(source).expect_err("the damage is noticed").to_string()
}

fn edit(edit: impl FnOnce(&mut Value)) -> impl FnOnce(&mut MemorySource) {
    move |source| {
        let bytes = source.files.get_mut(MANIFEST).unwrap();
        let mut manifest = serde_json::from_slice(bytes).unwrap();
        edit(&mut manifest);
        *bytes = serde_json::to_vec(&manifest).unwrap();
    }
}

#[test]
fn wrong_hash() {
    for file in ["shard-00001.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let error = refused(|source| {
            let bytes = source.files.get_mut(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        assert!(error.starts_with(file) && error.contains("SHA-256"), "{error}");
    }
}

#[test]
fn damage_in_any_shard_is_noticed() {
    let mut source = large();
    let shards: Vec<String> = source.files.keys().filter(|name| name.ends_with(".safetensors")).cloned().collect();
    assert!(shards.len() >= 3, "{shards:?}");
    for shard in &shards {
        let flip = |source: &mut MemorySource| *source.files.get_mut(shard).unwrap().last_mut().unwrap() ^= 1;
        flip(&mut source);
        let error = read_through(source.clone()).expect_err(shard).to_string();
        assert!(error.starts_with(shard) && error.contains("SHA-256"), "{shard}: {error}");
        flip(&mut source);
    }
    read_through(source).expect("the undamaged pack is read");
}

#[test]
fn truncated_or_missing_shard() {
    let error = refused(|source| {
        source.files.get_mut("shard-00001.safetensors").unwrap().pop();
    });
    assert!(error.contains("shard-00001.safetensors") && error.contains("truncated"), "{error}");
    let error = refused(|source| drop(source.files.remove("shard-00001.safetensors")));
    assert!(error.contains("shard-00001.safetensors was not found"), "{error}");
}

#[test]
fn missing_manifest() {
    let error = refused(|source| drop(source.files.remove(MANIFEST)));
    assert!(error.starts_with("manifest.json was not found") && error.contains("looks like a web pack"), "{error}");
}

#[test]
fn manifest_that_is_none() {
    for text in ["", "[]", "{}", "{\"version\": 2}", "{\"version\": 1}", "<!doctype html>"] {
        let error = refused(|source| drop(source.files.insert(MANIFEST.into(), text.into())));
        assert!(error.starts_with("manifest.json: "), "{text}: {error}");
    }
}

#[test]
fn files_outside_the_pack() {
    for path in ["../x", "/etc/passwd", "https://elsewhere/x", ".hidden", "", "a\\b", "C:x", "a\0b"] {
        let error = refused(edit(|manifest| manifest["shards"][0]["file"] = json!(path)));
        assert!(error.contains("not a file of this pack"), "{error}");
        let error = refused(edit(|manifest| manifest["tokenizer"]["config"]["file"] = json!(path)));
        assert!(error.contains("not a file of this pack"), "{error}");
    }
}

#[test]
fn overflowing_offsets_and_counts() {
    for (key, absurd) in [
        ("offset", u64::MAX),
        ("offset", u64::MAX - 40),
        ("offset", 1 << 40),
        ("rows", u64::MAX),
        ("rows", 1 << 40),
        ("shard", 99),
        ("shard", u64::MAX),
    ] {
        let error = refused(edit(|manifest| manifest["tensors"][0]["pieces"][0][key] = json!(absurd)));
        assert!(error.contains("outside its shard"), "{key} {absurd}: {error}");
    }
    let error = refused(edit(|manifest| manifest["tokenizer"]["tokenizer"]["bytes"] = json!(u64::MAX)));
    assert!(error.contains("not a tokenizer"), "{error}");
    let error = refused(edit(|manifest| manifest["config"]["num_hidden_layers"] = json!(4_000_000_000u64)));
    assert!(error.contains("num_hidden_layers"), "{error}");
}

#[test]
fn missing_and_mis_shaped_tensors() {
    let error = refused(edit(|manifest| drop(manifest["tensors"].as_array_mut().unwrap().pop())));
    assert!(error.contains("model.norm.weight: expected shape [96], found nothing"), "{error}");
    let error = refused(edit(|manifest| manifest["tensors"].as_array_mut().unwrap().swap(4, 5)));
    assert!(error.contains("in its place"), "{error}");
    let error = refused(edit(|manifest| manifest["tensors"][2]["shape"] = json!([95, 96])));
    assert!(error.contains("q_proj.weight: expected shape [96, 96], found [95, 96]"), "{error}");
    let error = refused(edit(|manifest| manifest["tensors"][2]["pieces"] = json!([])));
    assert!(error.contains("0 rows in its parts"), "{error}");
    let error = refused(edit(|manifest| manifest["tensors"][2]["encoding"] = json!("Q2_K")));
    assert!(error.contains("Q2_K"), "{error}");
}
