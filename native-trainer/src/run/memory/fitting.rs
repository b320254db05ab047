//! What makes a run fit in the memory that there is.

use paddock_engine::ModelConfig;

use super::{MemoryEstimate, Recipe, RunDevice};
use crate::Result;
use crate::cuda::Dtype;
use paddock_learn::optim::{Moments, Precision};

/// What may be changed to make a run fit, besides what changes nothing of its result and the format of a card's gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// How weights are held.
    pub precision: bool,
    /// How moments are held.
    pub moments: bool,
    /// Where the optimiser's state lies: in the host's memory instead of the card's.
    pub offload: bool,
    /// What is trained: adapters instead of the model.
    pub adapters: bool,
}

/// `recipe`, and what becomes of it by one change after the other, the least first.
fn candidates(recipe: &Recipe, open: Open) -> Vec<Recipe> {
    let mut all = vec![recipe.clone()];
    let mut change = |allowed: bool, change: &dyn Fn(&mut Recipe)| {
        if let (true, Some(last)) = (allowed, all.last()) {
            let mut next = last.clone();
            change(&mut next);
            all.push(next);
        }
    };
    change(true, &|next| next.gradient_checkpointing = true);
    change(open.precision, &|next| next.precision = Precision::Bf16Stochastic);
    change(open.moments && recipe.moments == Moments::F32, &|next| next.moments = Moments::Bf16);
    let in_bf16 = open.precision || recipe.precision != Precision::F32;
    if let (RunDevice::Cuda { .. }, true) = (recipe.device, in_bf16) {
        change(true, &|next| next.device = RunDevice::Cuda { gradients: Dtype::Bf16 });
    }
    change(open.moments, &|next| next.moments = Moments::Dynamic8);
    change(open.offload && recipe.device != RunDevice::Cpu, &|next| next.offload = true);
    change(open.adapters && recipe.lora.is_none(), &|next| next.lora = Some(Default::default()));
    all
}

/// The first recipe that fits in `available` bytes, if any: `recipe` itself, or with fewer tokens in a micro-batch, or
/// with one more change at a time.
///
/// # Errors
/// When the recipe's adapters do not fit the model.
pub fn fitting(config: &ModelConfig, recipe: &Recipe, open: Open, available: u64) -> Result<Option<Recipe>> {
    for base in candidates(recipe, open) {
        let halves = std::iter::successors(Some(base.micro_batch_tokens), |tokens| Some(tokens / 2));
        for micro_batch_tokens in halves.take_while(|tokens| *tokens >= 128 || *tokens == recipe.micro_batch_tokens) {
            let candidate = Recipe { micro_batch_tokens, ..base.clone() };
            if MemoryEstimate::new(config, &candidate)?.total() <= available {
                return Ok(Some(candidate));
            }
        }
    }
    Ok(None)
}

/// What would make a recipe fit in `available` bytes, in words; `None` when it fits as it is.
///
/// # Errors
/// When the recipe's adapters do not fit the model.
pub fn advice(config: &ModelConfig, recipe: &Recipe, available: u64) -> Result<Option<String>> {
    let open = Open { precision: true, moments: true, offload: true, adapters: true };
    Ok(match fitting(config, recipe, open, available)? {
        Some(fitting) if fitting == *recipe => None,
        Some(fitting) => {
            let flags = fitting.flags_from(recipe);
            let verb = if flags.len() == 1 { "makes" } else { "make" };
            Some(format!("{} {verb} it fit", flags.join(" ")))
        }
        None => Some("even adapters on a model in bf16 do not fit: choose a smaller model".to_string()),
    })
}

impl Recipe {
    /// The flags that turn `other` into this recipe.
    pub fn flags_from(&self, other: &Self) -> Vec<String> {
        let mut flags = Vec::new();
        if other.gradient_checkpointing != self.gradient_checkpointing {
            flags.push("--gradient-checkpointing".to_string());
        }
        if other.micro_batch_tokens != self.micro_batch_tokens {
            flags.push(format!("--micro-batch-tokens {}", self.micro_batch_tokens));
        }
        if other.precision != self.precision {
            flags.push(match other.precision {
                Precision::Bf16Split => "--bf16-update stochastic-rounding".to_string(),
                _ => "--dtype bf16".to_string(),
            });
        }
        if other.moments != self.moments {
            flags.push(format!("--moments {}", self.moments));
        }
        if other.offload != self.offload {
            flags.push("--offload optimizer".to_string());
        }
        if let (None, Some(lora)) = (&other.lora, &self.lora) {
            flags.push(format!("--lora-rank {}", lora.rank));
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::memory::tests::{VALUES, llama_7b, recipe};
    use paddock_learn::lora::Lora;

    fn total(recipe: &Recipe) -> u64 {
        MemoryEstimate::new(&llama_7b(), recipe).unwrap().total()
    }

    #[test]
    fn advice_makes_it_fit_or_says_that_nothing_does() {
        let advice = |recipe: &Recipe, available| advice(&llama_7b(), recipe, available).unwrap();
        let plain = Recipe { gradient_checkpointing: false, ..recipe() };
        assert_eq!(advice(&plain, 1 << 40), None);
        let says = |recipe: &Recipe, fitting: &Recipe, text: &str| {
            let advice = advice(recipe, total(fitting)).unwrap();
            assert!(advice.contains(text), "{advice}, expected {text}");
        };
        says(&recipe(), &Recipe { micro_batch_tokens: 1024, ..recipe() }, "--micro-batch-tokens 1024 makes");
        let rounded = Recipe { precision: Precision::Bf16Stochastic, ..recipe() };
        says(&recipe(), &rounded, "--dtype bf16 makes");
        let small = Recipe { moments: Moments::Dynamic8, ..rounded.clone() };
        says(&recipe(), &Recipe { moments: Moments::Bf16, ..rounded.clone() }, "--moments bf16 make");
        says(&recipe(), &small, "--moments 8bit make");
        says(&recipe(), &Recipe { lora: Some(Lora::default()), ..small.clone() }, "--lora-rank 8 make");
        assert!(advice(&rounded, VALUES).unwrap().contains("smaller model"));
        // Checkpointing before anything that costs more time, where it is enough.
        let small = Recipe { micro_batch_tokens: 128, ..plain };
        says(&small, &Recipe { gradient_checkpointing: true, ..small.clone() }, "--gradient-checkpointing makes");
    }

    /// The flags of what fits a card of so many gigabytes, and the format of its gradients.
    fn chosen(recipe: &Recipe, open: Open, gigabytes: u64) -> Option<(String, Dtype)> {
        let fitting = fitting(&llama_7b(), recipe, open, gigabytes * 950_000_000).unwrap()?;
        Some((fitting.flags_from(recipe).join(" "), fitting.formats().gradients))
    }

    #[test]
    fn seven_billion_parameters_fit_a_card_of_80_gb() {
        let plain =
            Recipe { device: RunDevice::Cuda { gradients: Dtype::F32 }, gradient_checkpointing: false, ..recipe() };
        let all = Open { precision: true, moments: true, ..Open::default() };
        let expected = "--gradient-checkpointing --dtype bf16 --moments bf16".to_string();
        assert_eq!(chosen(&plain, all, 80), Some((expected.clone(), Dtype::F32)));
        assert_eq!(chosen(&plain, all, 64), Some((expected, Dtype::Bf16)));
        let expected = "--gradient-checkpointing --dtype bf16 --moments 8bit".to_string();
        assert_eq!(chosen(&plain, all, 48), Some((expected, Dtype::Bf16)));
        assert_eq!(chosen(&plain, all, 24), None);
        assert_eq!(chosen(&plain, all, 120), Some(("--micro-batch-tokens 512".to_string(), Dtype::F32)));
        let offload = Open { offload: true, ..all };
        assert!(chosen(&plain, offload, 24).is_some_and(|(flags, _)| flags.ends_with("--offload optimizer")));
        let offloaded = Recipe { offload: true, precision: Precision::Bf16Stochastic, ..plain.clone() };
        let estimate = MemoryEstimate::new(&llama_7b(), &offloaded).unwrap();
        assert_eq!((estimate.weights, estimate.optimizer, estimate.host), (2 * VALUES, 0, 12 * VALUES));
        // What was asked for stays.
        let split = Recipe { precision: Precision::Bf16Split, ..plain.clone() };
        let moments = Open { moments: true, ..Open::default() };
        assert_eq!(
            chosen(&split, moments, 80),
            Some(("--gradient-checkpointing --moments bf16".to_string(), Dtype::Bf16))
        );
        assert_eq!(chosen(&plain, Open::default(), 80), None);
        // Gradients are f32 where products are.
        assert_eq!(chosen(&plain, moments, 48), None);
    }
}
