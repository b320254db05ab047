//! Changes that make a run fit in the available memory.

use paddock_engine::ModelConfig;

use super::{MemoryEstimate, Recipe, RunDevice};
use crate::Result;
use crate::cuda::Dtype;
use crate::files;
use paddock_learn::optim::{Bf16Update, Moments, Precision};

/// Settings that may be changed to make a run fit. The format of a card's gradients, and settings that do not affect the
/// result, are always open.
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

/// `recipe` with more and more changes, the least costly first.
fn candidates(recipe: &Recipe, open: Open) -> Vec<Recipe> {
    let mut all = vec![recipe.clone()];
    let mut change = |allowed: bool, change: &dyn Fn(&mut Recipe)| {
        if let (true, Some(last)) = (allowed, all.last()) {
            let mut next = last.clone();
            change(&mut next);
            all.push(next);
        }
    };
    let settings = &recipe.settings;
    change(true, &|next| next.settings.gradient_checkpointing = true);
    change(open.precision, &|next| {
        (next.settings.dtype, next.settings.bf16_update) = (files::Dtype::Bf16, Bf16Update::StochasticRounding);
    });
    change(open.moments && settings.moments == Moments::F32, &|next| next.settings.moments = Moments::Bf16);
    let in_bf16 = open.precision || settings.precision() != Precision::F32;
    if let (RunDevice::Cuda { .. }, true) = (recipe.device, in_bf16) {
        change(true, &|next| next.device = RunDevice::Cuda { gradients: Dtype::Bf16 });
    }
    change(open.moments, &|next| next.settings.moments = Moments::Dynamic8);
    change(open.offload && recipe.device != RunDevice::Cpu, &|next| next.settings.offload_optimizer = true);
    let whole = settings.adapters.lora.is_none();
    change(open.adapters && whole, &|next| next.settings.adapters.lora = Some(Default::default()));
    all
}

/// The first recipe that fits in `available` bytes, if any: `recipe` itself, or with fewer tokens in a micro-batch, or
/// with one more change at a time.
///
/// # Errors
/// When the recipe's adapters do not fit the model.
pub fn fitting(config: &ModelConfig, recipe: &Recipe, open: Open, available: u64) -> Result<Option<Recipe>> {
    for base in candidates(recipe, open) {
        let most = recipe.settings.micro_batch_tokens;
        let halves = std::iter::successors(Some(most), |tokens| Some(tokens / 2));
        for tokens in halves.take_while(|tokens| *tokens >= 128 || *tokens == most) {
            let mut candidate = base.clone();
            candidate.settings.micro_batch_tokens = tokens;
            if MemoryEstimate::new(config, &candidate)?.total() <= available {
                return Ok(Some(candidate));
            }
        }
    }
    Ok(None)
}

/// Says what would make a recipe fit in `available` bytes; `None` when it fits as it is.
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
    /// The command-line flags that turn `other` into this recipe.
    pub fn flags_from(&self, other: &Self) -> Vec<String> {
        let (settings, other) = (&self.settings, &other.settings);
        let mut flags = Vec::new();
        if other.gradient_checkpointing != settings.gradient_checkpointing {
            flags.push("--gradient-checkpointing".to_string());
        }
        if other.micro_batch_tokens != settings.micro_batch_tokens {
            flags.push(format!("--micro-batch-tokens {}", settings.micro_batch_tokens));
        }
        if other.dtype != settings.dtype {
            flags.push(format!("--dtype {}", settings.dtype));
        }
        if other.bf16_update != settings.bf16_update {
            flags.push(format!("--bf16-update {}", settings.bf16_update));
        }
        if other.moments != settings.moments {
            flags.push(format!("--moments {}", settings.moments));
        }
        if other.offload_optimizer != settings.offload_optimizer {
            flags.push("--offload optimizer".to_string());
        }
        if let (None, Some(lora)) = (&other.adapters.lora, &settings.adapters.lora) {
            flags.push(format!("--lora-rank {}", lora.rank));
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::MemorySettings;
    use crate::run::memory::tests::{VALUES, llama_7b, recipe};

    fn total(recipe: &Recipe) -> u64 {
        MemoryEstimate::new(&llama_7b(), recipe).unwrap().total()
    }

    fn in_bf16(settings: &mut MemorySettings) {
        settings.dtype = files::Dtype::Bf16;
    }

    #[test]
    fn advice_makes_it_fit_or_says_that_nothing_does() {
        let advice = |recipe: &Recipe, available| advice(&llama_7b(), recipe, available).unwrap();
        let plain = recipe(|settings| settings.gradient_checkpointing = false);
        assert_eq!(advice(&plain, 1 << 40), None);
        let says = |change: &dyn Fn(&mut MemorySettings), text: &str| {
            let advice = advice(&recipe(|_| {}), total(&recipe(change))).unwrap();
            assert!(advice.contains(text), "{advice}, expected {text}");
        };
        says(&|settings| settings.micro_batch_tokens = 1024, "--micro-batch-tokens 1024 makes");
        says(&in_bf16, "--dtype bf16 makes");
        let moments = |settings: &mut MemorySettings, moments| {
            in_bf16(settings);
            settings.moments = moments;
        };
        says(&|settings| moments(settings, Moments::Bf16), "--moments bf16 make");
        says(&|settings| moments(settings, Moments::Dynamic8), "--moments 8bit make");
        let adapters = |settings: &mut MemorySettings| {
            moments(settings, Moments::Dynamic8);
            settings.adapters.lora = Some(Default::default());
        };
        says(&adapters, "--lora-rank 8 make");
        assert!(advice(&recipe(in_bf16), VALUES).unwrap().contains("smaller model"));
        // Checkpointing before anything that costs more time, where it is enough.
        let few = |settings: &mut MemorySettings, checkpointing| {
            (settings.micro_batch_tokens, settings.gradient_checkpointing) = (128, checkpointing);
        };
        let advice = advice(&recipe(|settings| few(settings, false)), total(&recipe(|settings| few(settings, true))));
        assert!(advice.unwrap().contains("--gradient-checkpointing makes"));
    }

    /// The flags of what fits a card of so many gigabytes, and the format of its gradients.
    fn chosen(recipe: &Recipe, open: Open, gigabytes: u64) -> Option<(String, Dtype)> {
        let fitting = fitting(&llama_7b(), recipe, open, gigabytes * 950_000_000).unwrap()?;
        Some((fitting.flags_from(recipe).join(" "), fitting.formats().gradients))
    }

    #[test]
    fn seven_billion_parameters_fit_a_card_of_80_gb() {
        let on_card = |change: fn(&mut MemorySettings)| {
            let recipe = recipe(|settings| {
                settings.gradient_checkpointing = false;
                change(settings);
            });
            Recipe { device: RunDevice::Cuda { gradients: Dtype::F32 }, ..recipe }
        };
        let plain = on_card(|_| {});
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
        let offloaded = on_card(|settings| {
            in_bf16(settings);
            settings.offload_optimizer = true;
        });
        let estimate = MemoryEstimate::new(&llama_7b(), &offloaded).unwrap();
        assert_eq!((estimate.weights, estimate.optimizer, estimate.host), (2 * VALUES, 0, 12 * VALUES));
        // Explicit settings are kept.
        let split = on_card(|settings| {
            in_bf16(settings);
            settings.bf16_update = Bf16Update::SplitMaster;
        });
        let moments = Open { moments: true, ..Open::default() };
        assert_eq!(
            chosen(&split, moments, 80),
            Some(("--gradient-checkpointing --moments bf16".to_string(), Dtype::Bf16))
        );
        assert_eq!(chosen(&plain, Open::default(), 80), None);
        // Gradients are in bf16 only where products are.
        assert_eq!(chosen(&plain, moments, 48), None);
    }
}
