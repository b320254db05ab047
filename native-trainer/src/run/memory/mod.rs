//! What a run will need, before anything is allocated.

mod fitting;

use paddock_engine::ModelConfig;
use paddock_engine::config::Architecture;

use crate::Result;
use crate::cuda::{Dtype, Formats};
pub use fitting::{Open, advice, fitting};
use paddock_learn::collective::Stage;
use paddock_learn::lora::Lora;
use paddock_learn::optim::{Moments, Precision};

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of logits and of their gradients that exist at a time; see `autograd/cpu/token_logprobs.rs`.
const LOGITS: u64 = 2 * (32 << 20);

/// What of a run's settings its memory depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Where it computes.
    pub device: RunDevice,
    /// Most tokens that go through the model together.
    pub micro_batch_tokens: usize,
    /// Whether one tensor a block is kept and the others are computed anew.
    pub gradient_checkpointing: bool,
    /// How weights are held.
    pub precision: Precision,
    /// How the optimiser's moments are held.
    pub moments: Moments,
    /// Whether gradients, moments and masters lie in the host's memory.
    pub offload: bool,
    /// Adapters, if they are trained instead of the model.
    pub lora: Option<Lora>,
    /// What ranks hold in parts and how many there are, if there are several.
    pub shared: Option<(Stage, usize)>,
}

/// Where a run computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunDevice {
    /// The processor.
    Cpu,
    /// An NVIDIA card, with gradients in this format.
    Cuda {
        /// f32, or bf16 where values are.
        gradients: Dtype,
    },
}

impl Recipe {
    /// The formats of the program on an NVIDIA card; the CPU computes in f32.
    pub fn formats(&self) -> Formats {
        let RunDevice::Cuda { gradients } = self.device else { return Formats::F32 };
        let values = if self.precision == Precision::F32 { Dtype::F32 } else { Dtype::Bf16 };
        // Beside moments in eight bits, those of small weights are f32.
        let moments = if self.moments == Moments::Bf16 { Dtype::Bf16 } else { Dtype::F32 };
        Formats { values, gradients, moments }
    }
}

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
    /// What lies in the host's memory, of a run on a card that keeps the optimiser's state there.
    pub host: u64,
}

impl MemoryEstimate {
    /// For training a model: of one rank, where several share it.
    ///
    /// # Errors
    /// When the recipe's adapters do not fit the model.
    pub fn new(config: &ModelConfig, recipe: &Recipe) -> Result<Self> {
        let params = config.params();
        let size = |size: usize| size as u64;
        let values = |shape: [usize; 2]| size(shape[0]) * size(shape[1]);
        let model: u64 = params.iter().map(|param| values(param.shape)).sum();
        // Values of the adapters, and columns of what runs between their two matrices.
        let (mut adapters, mut between) = (0, 0);
        if let Some(lora) = &recipe.lora {
            for (index, _) in lora.modules(config)? {
                let [outputs, inputs] = params[index].shape;
                adapters += size(lora.rank) * (size(outputs) + size(inputs));
                between += size(lora.rank);
            }
        }
        let trained = if recipe.lora.is_some() { adapters } else { model };
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
        let kept = match recipe.gradient_checkpointing {
            true => blocks * hidden + live,
            false => blocks * block + between + 2 * feed_forward,
        };
        // On the CPU a weight in bf16 is widened while it is multiplied with.
        let widened = match (recipe.device, recipe.precision) {
            (RunDevice::Cuda { .. }, _) | (_, Precision::F32) => 0,
            _ => params.iter().map(|param| values(param.shape)).max().unwrap_or_default(),
        };
        let formats = recipe.formats();
        let [value, gradient] = [formats.values, formats.gradients].map(|dtype| size(dtype.bytes()));
        let (mut weights, mut gradients, mut optimizer) = (
            recipe.precision.bytes(model) + F32 * adapters,
            gradient * trained,
            // As if all were one large weight: those of small ones, in f32, are few.
            recipe.moments.precisions(usize::MAX).iter().map(|moment| moment.bytes(trained)).sum::<u64>(),
        );
        if let Some((stage, world_size)) = recipe.shared {
            // What the model computes with needs no master.
            let whole = if recipe.precision == Precision::F32 { F32 } else { 2 };
            let embedding = size(config.vocab_size) * hidden;
            // What is whole at a time: a block, or the embedding.
            let live = ((model - embedding.min(model)) / blocks.max(1)).max(embedding);
            let part = |bytes: u64| bytes.div_ceil(size(world_size));
            weights = part(weights) + whole * if stage == Stage::Three { live } else { model };
            gradients = part(gradients) + gradient * if stage == Stage::One { trained } else { live.min(trained) };
            optimizer = part(optimizer);
        }
        let mut host = 0;
        // On the CPU it is the same memory.
        if recipe.offload && recipe.device != RunDevice::Cpu {
            // On the device stay the model's own values, and gradients of what is walked back through.
            let masters = if recipe.precision == Precision::Bf16Split { weights / 2 } else { 0 };
            let embedding = size(config.vocab_size) * hidden;
            let live = ((model - embedding.min(model)) / blocks.max(1)).max(embedding).min(trained);
            host = masters + gradients / gradient * F32 + optimizer;
            (weights, gradients, optimizer) = (weights - masters, gradient * live, 0);
        }
        Ok(Self {
            weights,
            gradients,
            optimizer,
            activations: value * kept * size(recipe.micro_batch_tokens) + F32 * widened,
            logits: LOGITS,
            host,
        })
    }

    /// All of it on the device.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The device's parts by name.
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

/// What a run can have of a card's `memory`: the driver and the libraries take some, and what is freed comes in pieces.
pub fn usable(memory: u64) -> u64 {
    memory / 20 * 19
}

/// Bytes of memory that the system can still give, where it tells (Linux's `/proc/meminfo`).
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Parameters of LLaMA-7B.
    pub const VALUES: u64 = 6_738_415_616;

    pub fn llama_7b() -> ModelConfig {
        let config = json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "vocab_size": 32000,
        });
        ModelConfig::from_json(&config, None).unwrap()
    }

    pub fn recipe() -> Recipe {
        Recipe {
            device: RunDevice::Cpu,
            micro_batch_tokens: 2048,
            gradient_checkpointing: true,
            precision: Precision::F32,
            moments: Moments::F32,
            lora: None,
            offload: false,
            shared: None,
        }
    }

    fn states(recipe: &Recipe) -> u64 {
        let estimate = MemoryEstimate::new(&llama_7b(), recipe).unwrap();
        estimate.weights + estimate.gradients + estimate.optimizer
    }

    #[test]
    fn states_of_7b_are_those_that_alpacas_readme_counts() {
        // "7 × 4 × 4 = 112 GB" is the readme's round number.
        assert_eq!(states(&recipe()), 16 * VALUES);
        assert_eq!(states(&Recipe { precision: Precision::Bf16Stochastic, ..recipe() }), 14 * VALUES);
        assert_eq!(states(&Recipe { precision: Precision::Bf16Split, ..recipe() }), 16 * VALUES);
        // bf16 weights, f32 gradients, moments of a byte and a 64th each.
        let small = Recipe { precision: Precision::Bf16Stochastic, moments: Moments::Dynamic8, ..recipe() };
        assert_eq!(states(&small), 8 * VALUES + VALUES / 32);
    }

    #[test]
    fn ranks_divide_what_their_stage_says() {
        let shared =
            |stage, ranks| MemoryEstimate::new(&llama_7b(), &Recipe { shared: Some((stage, ranks)), ..recipe() });
        let [one, two, three] = [Stage::One, Stage::Two, Stage::Three].map(|stage| shared(stage, 4).unwrap());
        for estimate in [one, two, three] {
            assert_eq!(estimate.optimizer, 2 * VALUES);
        }
        assert_eq!(one.gradients, 4 * VALUES + VALUES);
        assert!(two.gradients < VALUES + (1 << 30) && three.weights < VALUES + (1 << 30));
        assert!(one.total() > two.total() && two.total() > three.total());
    }

    #[test]
    fn adapters_of_7b_are_those_that_peft_counts() {
        // PEFT's "trainable params: 4,194,304" for rank 8 on q_proj and v_proj of LLaMA-7B.
        let lora = Recipe { lora: Some(Lora::default()), precision: Precision::Bf16Stochastic, ..recipe() };
        assert_eq!(states(&lora), 2 * VALUES + 16 * 4_194_304);
        let unknown = Lora { targets: vec!["query".to_string()], ..Lora::default() };
        let error = MemoryEstimate::new(&llama_7b(), &Recipe { lora: Some(unknown), ..recipe() }).unwrap_err();
        assert!(error.to_string().contains("\"query\"") && error.to_string().contains("down_proj"), "{error}");
    }
}
