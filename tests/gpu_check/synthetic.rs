//! Models of a given shape without a file: the values are a short pattern, over and over.

use std::ops::Range;

use paddock_engine::backend::sampling_noise;
use paddock_engine::weights::Source;
use paddock_engine::{Error, ModelConfig, Result};
use serde_json::{Map, Value, json};

const WEIGHTS: &str = "model.safetensors";
/// Values of the pattern: a prime, so that rows differ.
const PATTERN: usize = 1_048_573;

/// A LLaMA checkpoint in bf16.
pub struct Synthetic {
    config: Vec<u8>,
    header: Vec<u8>,
    size: u64,
    pattern: Vec<u8>,
}

/// LLaMA-7B.
pub fn llama_7b() -> Value {
    llama([4096, 11_008, 32, 32, 32], 32_000)
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

impl Synthetic {
    /// The checkpoint of a configuration.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(config: &Value) -> Result<Self> {
        let mut header = Map::new();
        let mut end = 0u64;
        for param in ModelConfig::from_json(config, None)?.params() {
            let size = 2 * param.shape.iter().product::<usize>() as u64;
            let shape = if param.shape[0] == 1 { vec![param.shape[1]] } else { param.shape.to_vec() };
            header.insert(param.name, json!({ "dtype": "BF16", "shape": shape, "data_offsets": [end, end + size] }));
            end += size;
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        // Small, so that nothing grows over the layers.
        let value = |i: usize| half::bf16::from_f32((sampling_noise(7, 0, i as u32) - 0.5) * 0.04);
        let pattern = (0..PATTERN).flat_map(|i| value(i).to_le_bytes()).collect();
        let size = bytes.len() as u64 + end;
        Ok(Self { config: config.to_string().into_bytes(), header: bytes, size, pattern })
    }
}

impl Source for Synthetic {
    fn list(&self) -> Vec<String> {
        vec!["config.json".into(), WEIGHTS.into()]
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(match file {
            "config.json" => Some(self.config.len() as u64),
            WEIGHTS => Some(self.size),
            _ => None,
        })
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let missing = || Error::Missing { file: file.into(), hint: "it is not part of a synthetic model".into() };
        let (start, end) = (range.start as usize, range.end as usize);
        if file == "config.json" {
            return self.config.get(start..end).map(<[u8]>::to_vec).ok_or_else(missing);
        }
        if file != WEIGHTS || range.end > self.size {
            return Err(missing());
        }
        let mut bytes = self.header.get(start..end.min(self.header.len())).unwrap_or_default().to_vec();
        while start + bytes.len() < end {
            let at = (start + bytes.len() - self.header.len()) % self.pattern.len();
            let take = (end - start - bytes.len()).min(self.pattern.len() - at);
            bytes.extend_from_slice(&self.pattern[at..at + take]);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Backend, Cpu, Segments};
    use paddock_engine::model::CausalLm;
    use paddock_engine::weights::Checkpoint;
    use paddock_tests::block_on;

    use super::*;

    #[test]
    fn a_synthetic_model_loads_and_runs() {
        let source = Synthetic::new(&llama([64, 176, 2, 4, 2], 97)).unwrap();
        let cpu = Cpu::with_threads(1);
        let logits = block_on(async {
            let mut checkpoint = Checkpoint::open(source).await.unwrap();
            let model = CausalLm::load(&cpu, &mut checkpoint, &mut |_| {}).await.unwrap();
            let logits = model.forward(&cpu.tokens(&[3, 96, 4]).unwrap(), &Segments::documents(&[3])).unwrap();
            cpu.read(&logits).await.unwrap()
        });
        assert_eq!(logits.len(), 3 * 97);
        assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|logit| *logit != logits[0]));
    }

    #[test]
    fn the_shapes_have_their_sizes() {
        let size = |config| Synthetic::new(&config).unwrap().size;
        assert_eq!(size(llama_7b()) / 1_000_000, 13_476);
        assert_eq!(size(smollm2_135m()) / 1_000_000, 325);
    }
}
