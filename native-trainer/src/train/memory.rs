//! What a run will need, before anything is allocated.

use paddock_engine::ModelConfig;
use paddock_engine::config::Architecture;

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of logits and of their gradients that exist at a time; see `autograd/cpu/token_logprobs.rs`.
const LOGITS: u64 = 2 * (32 << 20);

/// Bytes by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The parameters.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Two moments of each.
    pub optimizer: u64,
    /// What the forward pass keeps for the backward pass, at the largest micro-batch.
    pub activations: u64,
    /// Logits of a chunk of rows.
    pub logits: u64,
}

impl MemoryEstimate {
    /// For training all of a model in f32 with micro-batches of at most `tokens` tokens.
    pub fn new(config: &ModelConfig, tokens: usize, checkpointing: bool) -> Self {
        let values: u64 =
            config.params().iter().map(|param| param.shape.map(|size| size as u64).iter().product::<u64>()).sum();
        let size = |size: usize| size as u64;
        let (hidden, inner, q) = (size(config.hidden_size), size(config.intermediate_size), size(config.q_dim()));
        let qkv = q + 2 * size(config.kv_dim());
        // What the adjoints of a block read: see `Op::remembered`.
        let feed_forward = match config.architecture {
            Architecture::Llama => 3 * inner,
            Architecture::Opt => 2 * inner,
        };
        let block = 4 * hidden + qkv + q + feed_forward;
        // While a block is walked back through, a gradient of its widest tensor is there as well.
        let live = block + 2 * feed_forward;
        let blocks = size(config.num_hidden_layers);
        let kept = if checkpointing { blocks * hidden + live } else { blocks * block + 2 * feed_forward };
        Self {
            weights: F32 * values,
            gradients: F32 * values,
            optimizer: 2 * F32 * values,
            activations: F32 * kept * size(tokens),
            logits: LOGITS,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The parts by name.
    pub fn parts(&self) -> [(&'static str, u64); 5] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
        ]
    }
}

/// What would make a recipe fit in `available` bytes, in words; `None` when it fits as it is.
pub fn advice(config: &ModelConfig, tokens: usize, checkpointing: bool, available: u64) -> Option<String> {
    let fits = |tokens, checkpointing| MemoryEstimate::new(config, tokens, checkpointing).total() <= available;
    if fits(tokens, checkpointing) {
        return None;
    }
    let smaller = |checkpointing| {
        let halves = std::iter::successors(Some(tokens / 2), |tokens| Some(tokens / 2));
        halves.take_while(|tokens| *tokens >= 128).find(|tokens| fits(*tokens, checkpointing))
    };
    Some(if !checkpointing && fits(tokens, true) {
        "--gradient-checkpointing makes it fit".to_string()
    } else if let Some(tokens) = smaller(checkpointing) {
        format!("--micro-batch-tokens {tokens} makes it fit")
    } else if let Some(tokens) = smaller(true) {
        format!("--gradient-checkpointing and --micro-batch-tokens {tokens} make it fit")
    } else {
        "weights, gradients and moments alone do not fit: choose a smaller model".to_string()
    })
}

/// Bytes of memory that the system can still give, where it tells (Linux's `/proc/meminfo`).
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn llama_7b() -> ModelConfig {
        let config = json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "vocab_size": 32000,
        });
        ModelConfig::from_json(&config, None).unwrap()
    }

    #[test]
    fn states_of_7b_are_those_that_alpacas_readme_counts() {
        let estimate = MemoryEstimate::new(&llama_7b(), 2048, true);
        // 6.738 billion parameters; "7 × 4 × 4 = 112 GB" is the readme's round number.
        assert_eq!(estimate.weights, 4 * 6_738_415_616);
        assert_eq!(estimate.weights + estimate.gradients + estimate.optimizer, 16 * 6_738_415_616);
    }

    #[test]
    fn advice_makes_it_fit_or_says_that_nothing_does() {
        let config = llama_7b();
        let states = 16 * 6_738_415_616;
        assert_eq!(advice(&config, 2048, false, 1 << 40), None);
        let checkpointed = MemoryEstimate::new(&config, 2048, true).total();
        assert!(advice(&config, 2048, false, checkpointed).unwrap().contains("--gradient-checkpointing makes"));
        let smaller = MemoryEstimate::new(&config, 1024, true).total();
        assert!(advice(&config, 2048, true, smaller).unwrap().contains("--micro-batch-tokens 1024"));
        assert!(advice(&config, 2048, true, states).unwrap().contains("smaller model"));
    }
}
