//! An estimate of the memory that a run needs, made before anything is allocated.

mod card;
mod disk;
mod fitting;
mod roles;

use paddock_engine::ModelConfig;
use paddock_engine::config::Architecture;

use super::MemorySettings;
use crate::Result;
use crate::cuda::{Dtype, Formats};
pub use card::Card;
pub use disk::DiskEstimate;
pub use fitting::{Open, advice, fitting};
use paddock_learn::collective::Stage;
use paddock_learn::optim::{Moments, Precision};
pub use roles::RolePlan;

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of logits and their gradients that exist at a time; see `cpu/token_logprobs.rs` of paddock-learn.
const LOGITS: u64 = 2 * (32 << 20);

/// A run whose memory is estimated: its settings, and the machine it runs on.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Where it computes.
    pub device: RunDevice,
    /// How many ranks share it.
    pub ranks: usize,
    /// Tokens of its longest example, all of which go through the model together.
    pub longest: usize,
    /// What its memory depends on.
    pub settings: MemorySettings,
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
    /// The formats of the kernels on an NVIDIA card; the CPU computes in f32.
    pub fn formats(&self) -> Formats {
        let RunDevice::Cuda { gradients } = self.device else { return Formats::F32 };
        let values = if self.settings.precision() == Precision::F32 { Dtype::F32 } else { Dtype::Bf16 };
        // With 8-bit moments, those of small weights are still f32.
        let moments = if self.settings.moments == Moments::Bf16 { Dtype::Bf16 } else { Dtype::F32 };
        Formats { values, gradients, moments }
    }
}

/// Estimated bytes, by purpose.
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
    /// Logits of one chunk of rows.
    pub logits: u64,
    /// Host memory of a run on a card that keeps the optimiser's state on the host.
    pub host: u64,
}

impl MemoryEstimate {
    /// The memory of training a model: that of one rank, where several share it.
    ///
    /// # Errors
    /// When the recipe's adapters do not fit the model.
    pub fn new(config: &ModelConfig, recipe: &Recipe) -> Result<Self> {
        let settings = &recipe.settings;
        let (precision, lora) = (settings.precision(), &settings.adapters.lora);
        let params = config.params();
        let size = |size: usize| size as u64;
        let values = |shape: [usize; 2]| size(shape[0]) * size(shape[1]);
        let model: u64 = params.iter().map(|param| values(param.shape)).sum();
        let adapters = adapter_values(config, settings)?;
        let trained = if lora.is_some() { adapters } else { model };
        let (hidden, inner, q) = (size(config.hidden_size), size(config.intermediate_size), size(config.q_dim()));
        let qkv = q + 2 * size(config.kv_dim());
        // Columns of the activations between the two matrices of each adapter, and of what adapters make of a block's projections
        // until it ends: the product, and its sum with the whole projection.
        let (mut between, mut added) = (0, 0);
        if let Some(lora) = lora {
            let modules = lora.modules(config)?;
            between = size(lora.rank) * size(modules.len());
            for (index, module) in modules.iter().filter(|(_, module)| module.contains(".layers.0.")) {
                let outputs = size(params[*index].shape[0]);
                let projection = match module.rsplit('.').next() {
                    Some("q_proj" | "k_proj" | "v_proj") => qkv,
                    Some("gate_proj" | "up_proj") => 2 * inner,
                    _ => outputs,
                };
                added += outputs + projection;
            }
        }
        // What the adjoints of a block read: see `Op::remembered`.
        let feed_forward = match config.architecture {
            Architecture::Llama => 3 * inner,
            Architecture::Opt => 2 * inner,
        };
        let block = 4 * hidden + qkv + q + feed_forward;
        // During a block's backward pass there is also a gradient of its widest tensor.
        let live = block + 2 * feed_forward + added;
        let blocks = size(config.num_hidden_layers);
        let kept = match settings.gradient_checkpointing {
            true => blocks * hidden + live,
            false => blocks * block + between + 2 * feed_forward + added,
        };
        // On the CPU a bf16 weight is widened to f32 for its product.
        let widened = match (recipe.device, precision) {
            (RunDevice::Cuda { .. }, _) | (_, Precision::F32) => 0,
            _ => params.iter().map(|param| values(param.shape)).max().unwrap_or_default(),
        };
        let formats = recipe.formats();
        let [value, gradient] = [formats.values, formats.gradients].map(|dtype| size(dtype.bytes()));
        let (mut weights, mut gradients, mut optimizer) = (
            precision.bytes(model) + F32 * adapters,
            gradient * trained,
            // As if all were one large weight; small weights, whose moments are f32, add little.
            settings.moments.precisions(usize::MAX).iter().map(|moment| moment.bytes(trained)).sum::<u64>(),
        );
        if recipe.ranks > 1 {
            let stage = settings.zero;
            // The copy that the model computes with needs no master.
            let whole = if precision == Precision::F32 { F32 } else { 2 };
            let embedding = size(config.vocab_size) * hidden;
            // What is gathered at a time: a block, or the embedding.
            let live = ((model - embedding.min(model)) / blocks.max(1)).max(embedding);
            let part = |bytes: u64| bytes.div_ceil(size(recipe.ranks));
            weights = part(weights) + whole * if stage == Stage::Three { live } else { model };
            gradients = part(gradients) + gradient * if stage == Stage::One { trained } else { live.min(trained) };
            optimizer = part(optimizer);
        }
        let mut host = 0;
        // On the CPU, host and device memory are the same.
        if settings.offload_optimizer && recipe.device != RunDevice::Cpu {
            // The device keeps the model's own values, and the gradients of one block at a time.
            let masters = if precision == Precision::Bf16Split { weights / 2 } else { 0 };
            let embedding = size(config.vocab_size) * hidden;
            let live = ((model - embedding.min(model)) / blocks.max(1)).max(embedding).min(trained);
            host = masters + gradients / gradient * F32 + optimizer;
            (weights, gradients, optimizer) = (weights - masters, gradient * live, 0);
        }
        Ok(Self {
            weights,
            gradients,
            optimizer,
            activations: value * kept * size(settings.micro_batch_tokens.max(recipe.longest)) + F32 * widened,
            logits: LOGITS,
            host,
        })
    }

    /// All bytes on the device.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The parts on the device, by name.
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

/// How many values the adapters have; 0 without any.
fn adapter_values(config: &ModelConfig, settings: &MemorySettings) -> Result<u64> {
    let Some(lora) = &settings.adapters.lora else { return Ok(0) };
    let params = config.params();
    let sides = lora.modules(config)?.into_iter().map(|(index, _)| params[index].shape.iter().sum::<usize>());
    Ok(lora.rank as u64 * sides.sum::<usize>() as u64)
}

/// The part of a card's `memory` that a run can use; the driver, the libraries and fragmentation take the rest.
pub fn usable(memory: u64) -> u64 {
    memory / 20 * 19
}

/// Free memory of the system in bytes, where it reports that (Linux's `/proc/meminfo`).
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
pub(crate) mod tests {
    use paddock_learn::lora::Lora;
    use paddock_learn::optim::Bf16Update;
    use serde_json::json;

    use super::*;
    use crate::files;

    /// Parameters of LLaMA-7B.
    pub const VALUES: u64 = 6_738_415_616;

    pub fn llama_7b() -> ModelConfig {
        let config = json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "vocab_size": 32000,
        });
        ModelConfig::from_json(&config, None).unwrap()
    }

    /// Full fine-tuning in f32 on the CPU, with checkpointing, with `change` applied.
    pub fn recipe(change: impl FnOnce(&mut MemorySettings)) -> Recipe {
        let mut settings = MemorySettings { gradient_checkpointing: true, ..MemorySettings::default() };
        change(&mut settings);
        Recipe { device: RunDevice::Cpu, ranks: 1, longest: 512, settings }
    }

    fn states(recipe: &Recipe) -> u64 {
        let estimate = MemoryEstimate::new(&llama_7b(), recipe).unwrap();
        estimate.weights + estimate.gradients + estimate.optimizer
    }

    #[test]
    fn states_of_7b_are_those_that_alpacas_readme_counts() {
        // "7 × 4 × 4 = 112 GB" is the readme's round number.
        assert_eq!(states(&recipe(|_| {})), 16 * VALUES);
        assert_eq!(states(&recipe(|settings| settings.dtype = files::Dtype::Bf16)), 14 * VALUES);
        let split = recipe(|settings| {
            (settings.dtype, settings.bf16_update) = (files::Dtype::Bf16, Bf16Update::SplitMaster);
        });
        assert_eq!(states(&split), 16 * VALUES);
        // bf16 weights, f32 gradients, moments of a byte and a 64th each.
        let small = recipe(|settings| {
            (settings.dtype, settings.moments) = (files::Dtype::Bf16, Moments::Dynamic8);
        });
        assert_eq!(states(&small), 8 * VALUES + VALUES / 32);
    }

    #[test]
    fn the_longest_example_goes_through_whole() {
        let activations = |tokens, longest| {
            let recipe = Recipe { longest, ..recipe(|settings| settings.micro_batch_tokens = tokens) };
            MemoryEstimate::new(&llama_7b(), &recipe).unwrap().activations
        };
        assert_eq!(activations(512, 2048), activations(2048, 512));
        assert!(activations(512, 512) < activations(512, 2048));
    }

    /// Of q and v, beside the joint projection: two products and two sums.
    #[test]
    fn adapters_keep_what_they_make_of_a_block_s_projections() {
        let columns = |targets: &[&str]| {
            let lora = Lora { targets: targets.iter().map(ToString::to_string).collect(), ..Lora::default() };
            let recipe = recipe(|settings| settings.adapters.lora = Some(lora));
            let tokens = recipe.settings.micro_batch_tokens.max(recipe.longest) as u64;
            MemoryEstimate::new(&llama_7b(), &recipe).unwrap().activations / (F32 * tokens)
        };
        assert_eq!(columns(&["q_proj", "v_proj"]) - columns(&["v_proj"]), 4096 + 3 * 4096);
        assert_eq!(columns(&["v_proj", "o_proj"]) - columns(&["v_proj"]), 2 * 4096);
        assert_eq!(columns(&["v_proj", "up_proj"]) - columns(&["v_proj"]), 3 * 11_008);
    }

    #[test]
    fn ranks_divide_what_their_stage_says() {
        let shared = |stage| {
            let recipe = Recipe { ranks: 4, ..recipe(|settings| settings.zero = stage) };
            MemoryEstimate::new(&llama_7b(), &recipe).unwrap()
        };
        let [one, two, three] = [Stage::One, Stage::Two, Stage::Three].map(shared);
        for estimate in [one, two, three] {
            assert_eq!(estimate.optimizer, 2 * VALUES);
        }
        assert_eq!(one.gradients, 4 * VALUES + VALUES);
        assert!(two.gradients < VALUES + (1 << 30) && three.weights < VALUES + (1 << 30));
        assert!(one.total() > two.total() && two.total() > three.total());
    }

    #[test]
    fn adapters_of_7b_are_those_that_peft_counts() {
        let adapters = |lora| {
            recipe(|settings| {
                (settings.dtype, settings.adapters.lora) = (files::Dtype::Bf16, Some(lora));
            })
        };
        // PEFT's "trainable params: 4,194,304" for rank 8 on q_proj and v_proj of LLaMA-7B.
        assert_eq!(states(&adapters(Lora::default())), 2 * VALUES + 16 * 4_194_304);
        // And "39,976,960" for rank 16 on all linear layers.
        let all = Lora { rank: 16, targets: vec!["all-linear".to_string()], ..Lora::default() };
        assert_eq!(states(&adapters(all)), 2 * VALUES + 16 * 39_976_960);
        let unknown = Lora { targets: vec!["query".to_string()], ..Lora::default() };
        let error = MemoryEstimate::new(&llama_7b(), &adapters(unknown)).unwrap_err();
        assert!(error.to_string().contains("\"query\"") && error.to_string().contains("down_proj"), "{error}");
    }
}
