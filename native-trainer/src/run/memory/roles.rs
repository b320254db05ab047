//! Memory of a run that learns from rewards: besides the actor, a reference, score models, critics, and the cache of the
//! answers that are sampled side by side.

use paddock_engine::ModelConfig;

use super::{F32, Recipe, adapter_values};
use crate::Result;

/// Who takes part besides the actor. With adapters all are on the actor's trunk; without, each is a model of its own, of
/// the actor's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RolePlan {
    /// Score models, which do not change.
    pub judges: usize,
    /// Critics, which are trained.
    pub critics: usize,
    /// Answers that are sampled side by side.
    pub sequences: usize,
    /// Tokens of a prompt with its answer.
    pub tokens: usize,
}

impl RolePlan {
    /// PPO's roles; with a cost model and its critic, those of PPO-Lagrangian.
    pub fn ppo(constraint: bool, sequences: usize, tokens: usize) -> Self {
        let pairs = if constraint { 2 } else { 1 };
        Self { judges: pairs, critics: pairs, sequences, tokens }
    }

    /// Bytes of each besides the actor's own, which [`super::MemoryEstimate`] counts.
    ///
    /// # Errors
    /// When the recipe's adapters do not fit the model.
    pub fn bytes(&self, config: &ModelConfig, recipe: &Recipe) -> Result<Vec<(&'static str, u64)>> {
        let settings = &recipe.settings;
        let formats = recipe.formats();
        let value = formats.values.bytes() as u64;
        let gradient = formats.gradients.bytes() as u64;
        let model: u64 = config.params().iter().map(|param| (param.shape[0] * param.shape[1]) as u64).sum();
        let precision = settings.precision();
        let moments =
            |values: u64| settings.moments.precisions(usize::MAX).iter().map(|one| one.bytes(values)).sum::<u64>();
        let head = config.hidden_size as u64;
        let (frozen, trained, reference) = match settings.adapters.lora {
            Some(_) => {
                let own = adapter_values(config, settings)? + head;
                (F32 * own, (F32 + gradient) * own + moments(own), 0)
            }
            None => {
                let weights = precision.bytes(model + head);
                (weights, weights + gradient * (model + head) + moments(model + head), precision.bytes(model))
            }
        };
        let row = 2 * config.kv_dim() as u64 * config.num_hidden_layers as u64;
        Ok(vec![
            ("reference", reference),
            ("score models", self.judges as u64 * frozen),
            ("critics", self.critics as u64 * trained),
            ("answers' cache", value * row * (self.sequences * self.tokens) as u64),
        ])
    }
}

#[cfg(test)]
mod tests {
    use paddock_learn::lora::Lora;

    use super::super::tests::{VALUES, llama_7b, recipe};
    use super::*;

    #[test]
    fn separate_roles_have_models_of_their_own() {
        let plan = RolePlan::ppo(true, 16, 512);
        let bytes = plan.bytes(&llama_7b(), &recipe(|_| {})).unwrap();
        let of = |name: &str| bytes.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(of("reference"), 4 * VALUES);
        assert_eq!(of("score models"), 2 * 4 * (VALUES + 4096));
        assert_eq!(of("critics"), 2 * 16 * (VALUES + 4096));
        // Keys and values of 32 layers of 4096, f32.
        assert_eq!(of("answers' cache"), 16 * 512 * 32 * 2 * 4096 * 4);
    }

    #[test]
    fn roles_on_one_trunk_are_adapters_and_heads() {
        let lora = Lora { rank: 16, targets: vec!["all-linear".to_string()], ..Lora::default() };
        let shared = recipe(|settings| settings.adapters.lora = Some(lora));
        let bytes = RolePlan::ppo(true, 16, 512).bytes(&llama_7b(), &shared).unwrap();
        let sum: u64 = bytes.iter().filter(|(name, _)| *name != "answers' cache").map(|(_, bytes)| bytes).sum();
        // Two critics of 16 bytes a value, two score models of 4; the reference is the trunk itself.
        assert_eq!(sum, (2 * 16 + 2 * 4) * (39_976_960 + 4096));
    }
}
