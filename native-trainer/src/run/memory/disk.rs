//! The disk space of a run.

use paddock_engine::ModelConfig;
use serde::Serialize;

use super::{F32, Recipe};
use crate::Result;
use crate::files::Dtype;
use paddock_learn::optim::Precision;

/// Bytes that a run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskEstimate {
    /// The tuned model, or the adapters.
    pub model: u64,
    /// A checkpoint: that, and the optimiser's state, which is kept in f32.
    pub checkpoint: u64,
    /// The most that lies there at a time: the checkpoints that are kept and the next one, or the model.
    pub total: u64,
}

impl DiskEstimate {
    /// What a run that keeps `keep` checkpoints writes. Headers and the tokenizer's files add a few MB.
    ///
    /// # Errors
    /// When the recipe's adapters do not fit the model.
    pub fn new(config: &ModelConfig, recipe: &Recipe, keep: usize) -> Result<Self> {
        let settings = &recipe.settings;
        let values: u64 = config.params().iter().map(|param| (param.shape[0] * param.shape[1]) as u64).sum();
        let adapters = super::adapter_values(config, settings)?;
        let (model, trained) = match settings.adapters.lora {
            Some(_) => (F32 * adapters, adapters),
            None => (values * if settings.dtype == Dtype::F32 { F32 } else { 2 }, values),
        };
        let masters = if settings.precision() == Precision::Bf16Split { F32 * trained } else { 0 };
        let checkpoint = model + 2 * F32 * trained + masters;
        Ok(Self { model, checkpoint, total: checkpoint * (keep as u64 + 1) + model })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::memory::tests::{VALUES, llama_7b, recipe};

    #[test]
    fn a_checkpoint_of_7b_has_the_model_and_two_moments() {
        let disk = DiskEstimate::new(&llama_7b(), &recipe(|_| {}), 1).unwrap();
        assert_eq!((disk.model, disk.checkpoint, disk.total), (4 * VALUES, 12 * VALUES, 28 * VALUES));
        let bf16 = recipe(|settings| settings.dtype = Dtype::Bf16);
        assert_eq!(DiskEstimate::new(&llama_7b(), &bf16, 2).unwrap().total, 2 * VALUES + 3 * 10 * VALUES);
        let adapters = recipe(|settings| settings.adapters.lora = Some(Default::default()));
        assert_eq!(DiskEstimate::new(&llama_7b(), &adapters, 1).unwrap().checkpoint, 12 * 4_194_304);
    }
}
