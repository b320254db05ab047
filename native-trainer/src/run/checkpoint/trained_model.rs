//! A model on one tape, as checkpoints hold it.

use std::path::Path;

use paddock_engine::ModelConfig;
use paddock_learn::lora::adapter_parameters;
use paddock_learn::objective::{Objective, Tuned};
use paddock_learn::tape::{Named, ParameterId, named};
use paddock_learn::{Adjoint, Store, Trainer};
use pollster::block_on;

use super::{Kept, optimizer};
use crate::files::{Description, SCORE_MODEL, read_adapters, write_adapters, write_file, write_weights};
use crate::{Error, Result};

/// A trainer of one model, with what its folder says besides the weights.
pub struct TrainedModel<B: Adjoint, O, S: Store<B>> {
    /// Trains it.
    pub trainer: Trainer<B, O, S>,
    /// Describes it.
    pub description: Description,
}

/// The number of values of the parameters of a model.
pub fn count_parameters(config: &ModelConfig) -> u64 {
    config.params().iter().map(|param| (param.shape[0] * param.shape[1]) as u64).sum()
}

impl<B: Adjoint, O: Objective<B, S> + Tuned, S: Store<B>> TrainedModel<B, O, S> {
    /// This rank's number, and how many there are.
    pub fn place(&self) -> [usize; 2] {
        let sharding = self.trainer.tape().sharding();
        sharding.map_or([0, 1], |sharding| [sharding.ranks.rank(), sharding.ranks.world_size()])
    }

    /// Parameters of the model with its adapters, and those of them that are trained.
    pub fn parameters(&self) -> [u64; 2] {
        let adapters = adapter_parameters(self.trainer.tape()).iter().map(|info| info.len() as u64).sum();
        let objective = self.trainer.objective();
        let model = count_parameters(objective.config());
        [model + adapters, if objective.lora().is_some() { adapters } else { model }]
    }

    /// [`Kept::write_model`] with another description.
    ///
    /// # Errors
    /// As [`Kept::write_model`].
    pub async fn write_described(&self, folder: Option<&Path>, description: &Description) -> Result<()> {
        let (tape, objective) = (self.trainer.tape(), self.trainer.objective());
        let Some(folder) = folder else {
            let of_adapters = objective.lora().is_some();
            let adapters: Vec<ParameterId> = adapter_parameters(tape).iter().map(|info| info.id).collect();
            for info in tape.parameters().iter().filter(|info| adapters.contains(&info.id) == of_adapters) {
                tape.read_parameter(info.id).await?;
            }
            return Ok(());
        };
        if let Some(lora) = objective.lora() {
            write_adapters(lora, tape, description.source(), folder).await?;
            if objective.config().score_head().is_some() {
                write_file(&folder.join(SCORE_MODEL), &format!("{:#}\n", description.config()))?;
            }
            return description.write_tokenizer(folder);
        }
        let named = named(objective.config().params(), tape)?;
        let params: Vec<_> = named.iter().map(|named| named.param.clone()).collect();
        let mut held: Option<(ParameterId, Vec<f32>)> = None;
        write_weights(folder, &params, description.dtype(), |index| {
            let named: &Named = &named[index];
            if held.as_ref().is_none_or(|(parameter, _)| *parameter != named.parameter) {
                held = Some((named.parameter, block_on(tape.read_parameter(named.parameter))?));
            }
            let values = held.as_ref().map(|(_, values)| named.values(values).to_vec()).unwrap_or_default();
            finite(&named.param.name, &values)?;
            Ok(values)
        })?;
        description.write(folder)
    }
}

impl<B: Adjoint, O: Objective<B, S> + Tuned, S: Store<B>> Kept for TrainedModel<B, O, S> {
    fn leads(&self) -> bool {
        self.trainer.leads()
    }

    async fn write_model(&self, folder: Option<&Path>) -> Result<()> {
        self.write_described(folder, &self.description).await
    }

    async fn write_state(&self, folder: Option<&Path>) -> Result<()> {
        let path = folder.map(|folder| folder.join(optimizer::OPTIMIZER));
        optimizer::write(path.as_deref(), self.trainer.tape()).await
    }

    async fn read_state(&mut self, folder: &Path) -> Result<()> {
        if self.trainer.objective().lora().is_some() {
            read_adapters(self.trainer.tape(), folder).await?;
        }
        optimizer::read(folder, optimizer::OPTIMIZER, self.trainer.tape()).await
    }
}

/// Refuses to save values that no run could go on with.
fn finite(name: &str, values: &[f32]) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::Request(format!(
        "the run has come apart: {name} holds NaN or infinity and is not saved; lower --learning-rate"
    )))
}
