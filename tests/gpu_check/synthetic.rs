//! Models of a given shape without a file: the values are a short pattern, over and over, and gains are 1.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use paddock_engine::backend::sampling_noise;
use paddock_engine::weights::{Encoding, Source};
use paddock_engine::{Error, ModelConfig, Result};
use paddock_tests::block_on;
use paddock_tests::gguf::{GgufFile, GgufTensor, Meta, gguf_name, kind};
use serde_json::{Map, Value, json};

/// Values of the pattern: a prime, so that rows differ.
const PATTERN: usize = 1_048_573;
/// Blocks of the pattern at 4 bits: another.
const BLOCKS: usize = 65_537;
/// Values lie around 0, this far: small, so that nothing grows over the layers.
const LARGEST: f32 = 0.02;

/// A LLaMA checkpoint.
pub struct Synthetic {
    /// The files beside the weights.
    small: BTreeMap<&'static str, Vec<u8>>,
    weights: &'static str,
    header: Vec<u8>,
    /// First bytes of the parts that repeat a pattern, with its number; in order, the first one after the header.
    parts: Vec<(u64, usize)>,
    patterns: Vec<Vec<u8>>,
    size: u64,
}

/// LLaMA-7B.
pub fn llama_7b() -> Value {
    llama([4096, 11_008, 32, 32, 32], 32_000)
}

/// TinyLlama-1.1B.
pub fn llama_1b() -> Value {
    llama([2048, 5632, 22, 32, 4], 32_000)
}

/// SmolLM2-135M.
pub fn smollm2_135m() -> Value {
    llama([576, 1536, 30, 9, 3], 49_152)
}

fn llama([hidden, intermediate, layers, heads, kv_heads]: [usize; 5], vocab: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "vocab_size": vocab, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2, "dtype": "bfloat16"
    })
}

/// A model for a machine that shall only show that all of it runs.
pub fn tiny() -> Value {
    llama([64, 192, 2, 4, 2], 96)
}

impl Synthetic {
    /// The checkpoint of a configuration, in bf16, as a Hugging Face folder.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(config: &Value) -> Result<Self> {
        let mut header = Map::new();
        let (mut parts, mut end) = (Vec::new(), 0u64);
        for param in ModelConfig::from_json(config, None)?.params() {
            let size = 2 * param.shape.iter().product::<usize>() as u64;
            parts.push((end, usize::from(param.shape[0] > 1)));
            let shape = if param.shape[0] == 1 { vec![param.shape[1]] } else { param.shape.to_vec() };
            header.insert(param.name, json!({ "dtype": "BF16", "shape": shape, "data_offsets": [end, end + size] }));
            end += size;
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        parts.iter_mut().for_each(|(at, _)| *at += bytes.len() as u64);
        let value =
            |i: usize| half::bf16::from_f32((sampling_noise(7, 0, i as u32) - 0.5) * 2.0 * LARGEST).to_le_bytes();
        Ok(Self {
            small: [("config.json", config.to_string().into_bytes())].into(),
            weights: "model.safetensors",
            parts,
            size: bytes.len() as u64 + end,
            header: bytes,
            patterns: vec![half::bf16::ONE.to_le_bytes().repeat(1024), (0..PATTERN).flat_map(value).collect()],
        })
    }

    /// The same at 4 bits (Q4_1, vectors in f32) as a GGUF file, which llama.cpp reads as well.
    ///
    /// # Errors
    /// When the configuration is none.
    pub fn at_4_bits(config: &Value) -> Result<Self> {
        let config = ModelConfig::from_json(config, None)?;
        let mut file = GgufFile::default();
        file.describe(&config);
        // llama.cpp's name for a model without a vocabulary.
        file.set("tokenizer.ggml.model", Meta::Text("no_vocab".into()));
        let (mut sizes, mut parts, mut end) = (Vec::new(), Vec::new(), 0u64);
        for param in config.params() {
            let [rows, cols] = param.shape;
            let encoding = if rows == 1 { Encoding::F32 } else { Encoding::Q4_1 };
            let size = (rows * encoding.row_bytes(cols).unwrap_or_default()) as u64;
            let dimensions = if rows == 1 { vec![cols as u64] } else { vec![cols as u64, rows as u64] };
            file.tensors.push(GgufTensor {
                name: gguf_name(&param.name),
                dimensions,
                kind: kind(encoding),
                bytes: Vec::new(),
            });
            parts.push((end, usize::from(rows > 1)));
            sizes.push(size);
            end += size.next_multiple_of(32);
        }
        let header = file.header(&sizes);
        let start = header.len() as u64;
        parts.iter_mut().for_each(|(at, _)| *at += start);
        let block = |block: usize| {
            let scale = half::f16::from_f32(LARGEST / 7.5).to_le_bytes();
            let minimum = half::f16::from_f32(-LARGEST).to_le_bytes();
            let quants = (0..16).map(move |i| (256.0 * sampling_noise(7, i, block as u32)) as u8);
            scale.into_iter().chain(minimum).chain(quants)
        };
        let patterns = vec![1.0f32.to_le_bytes().repeat(1024), (0..BLOCKS).flat_map(block).collect()];
        Ok(Self { small: BTreeMap::new(), weights: "model.gguf", header, parts, patterns, size: start + end })
    }

    /// Writes the weights to the file `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        const CHUNK: u64 = 64 << 20;
        let mut file = std::fs::File::create(path)?;
        for start in (0..self.size).step_by(CHUNK as usize) {
            let bytes = block_on(self.read(self.weights, start..(start + CHUNK).min(self.size)));
            file.write_all(&bytes.map_err(std::io::Error::other)?)?;
        }
        Ok(())
    }
}

impl Source for Synthetic {
    fn list(&self) -> Vec<String> {
        self.small.keys().copied().chain([self.weights]).map(str::to_string).collect()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(match self.small.get(file) {
            Some(bytes) => Some(bytes.len() as u64),
            None => (file == self.weights).then_some(self.size),
        })
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let missing = || Error::Missing { file: file.into(), hint: "it is not part of a synthetic model".into() };
        let (start, end) = (range.start as usize, range.end as usize);
        if let Some(bytes) = self.small.get(file) {
            return bytes.get(start..end).map(<[u8]>::to_vec).ok_or_else(missing);
        }
        if file != self.weights || range.end > self.size {
            return Err(missing());
        }
        let mut bytes = self.header.get(start..end.min(self.header.len())).unwrap_or_default().to_vec();
        while start + bytes.len() < end {
            let at = (start + bytes.len()) as u64;
            let next = self.parts.partition_point(|(first, _)| *first <= at);
            let (first, pattern) = self.parts[next - 1];
            let pattern = &self.patterns[pattern];
            let part_end = self.parts.get(next).map_or(end, |(first, _)| end.min(*first as usize));
            let within = (at - first) as usize % pattern.len();
            let take = (part_end - at as usize).min(pattern.len() - within);
            bytes.extend_from_slice(&pattern[within..within + take]);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Device, Segments};
    use paddock_engine::model::CausalLm;
    use paddock_engine::weights::Checkpoint;
    use paddock_tests::block_on;

    use super::*;

    fn logits(source: Synthetic) -> Vec<f32> {
        let cpu = Cpu::with_threads(1);
        block_on(async {
            let mut checkpoint = Checkpoint::open(source).await.unwrap();
            let model = CausalLm::load(&cpu, &mut checkpoint, &mut |_| {}).await.unwrap();
            let logits = model.forward(&cpu.tokens(&[3, 95, 4]).unwrap(), &Segments::documents(&[3])).unwrap();
            cpu.read(&logits).await.unwrap()
        })
    }

    #[test]
    fn a_synthetic_model_loads_and_runs() {
        let config = tiny();
        for source in [Synthetic::new(&config).unwrap(), Synthetic::at_4_bits(&config).unwrap()] {
            let logits = logits(source);
            assert_eq!(logits.len(), 3 * 96);
            assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|logit| *logit != logits[0]));
        }
    }

    #[test]
    fn a_written_model_is_the_one_in_memory() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("model.gguf");
        Synthetic::at_4_bits(&tiny()).unwrap().write(&path).unwrap();
        let read = paddock_tests::folder_source(folder.path());
        let synthetic = Synthetic::at_4_bits(&tiny()).unwrap();
        assert_eq!(read.files["model.gguf"], block_on(synthetic.read("model.gguf", 0..synthetic.size)).unwrap());
    }

    #[test]
    fn the_shapes_have_their_sizes() {
        let size = |config| Synthetic::new(&config).unwrap().size;
        assert_eq!(size(llama_7b()) / 1_000_000, 13_476);
        assert_eq!(size(smollm2_135m()) / 1_000_000, 325);
        assert_eq!(Synthetic::at_4_bits(&llama_7b()).unwrap().size / 1_000_000, 4_212);
    }
}
