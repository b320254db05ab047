//! What a run is told.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_engine::prompt::TemplateKind;
use serde::{Deserialize, Serialize};

use super::memory::{Recipe, RunDevice};
use crate::files::Dtype;
use crate::{Error, Result};
use paddock_learn::collective::Stage;
use paddock_learn::lora::Lora;
use paddock_learn::objective::LossNormalization;
use paddock_learn::optim::Schedule;
use paddock_learn::optim::{Bf16Update, Moments, Precision};

/// A run. Defaults are Alpaca's recipe for 7B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SftSettings {
    /// The model to start from: a folder or a `.gguf` file.
    pub model: PathBuf,
    /// The examples.
    pub data: PathBuf,
    /// The run's folder.
    pub output: PathBuf,
    /// How conversations become text.
    pub template: TemplateKind,
    /// Tokens after which an example is cut.
    pub max_length: usize,
    /// Examples of a step.
    pub batch_size: usize,
    /// Most tokens that go through the model together.
    pub micro_batch_tokens: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Steps of the run, instead of passes.
    pub max_steps: Option<u64>,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Part of the steps in which the learning rate rises.
    pub warmup_ratio: f64,
    /// How it falls afterwards.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Norm that the gradients are clipped to; 0 leaves them.
    pub max_grad_norm: f64,
    /// What the loss is the mean of.
    pub loss_normalization: LossNormalization,
    /// Seed of the shuffle.
    pub seed: u64,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Add the special tokens that the tokenizer does not name (pad, eos, bos, unk), as Alpaca does.
    pub add_missing_tokens: bool,
    /// Number format of the weights: f32 or bf16.
    pub dtype: Dtype,
    /// How steps reach weights in bf16.
    pub bf16_update: Bf16Update,
    /// How the optimiser's moments are held.
    pub moments: Moments,
    /// Adapters that are trained instead of the model.
    pub lora: Option<Lora>,
    /// What ranks that train together hold in parts: 1, the optimiser's state; 2, gradients too; 3, weights too.
    pub zero: Stage,
    /// Keep one tensor a block and compute the others anew: less memory, a third more work.
    pub gradient_checkpointing: bool,
    /// Keep gradients, moments and masters in the host's memory, and step there.
    pub offload_optimizer: bool,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// Examples to evaluate on.
    pub eval_data: Option<PathBuf>,
    /// Steps between evaluations; without it, only after the last step.
    pub eval_steps: Option<u64>,
}

impl Default for SftSettings {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            data: PathBuf::new(),
            output: PathBuf::new(),
            template: TemplateKind::Auto,
            max_length: 512,
            batch_size: 128,
            micro_batch_tokens: 2048,
            epochs: 3,
            max_steps: None,
            learning_rate: 2e-5,
            warmup_ratio: 0.03,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            loss_normalization: LossNormalization::Global,
            seed: 42,
            shuffle: true,
            add_missing_tokens: false,
            dtype: Dtype::F32,
            bf16_update: Bf16Update::StochasticRounding,
            moments: Moments::F32,
            lora: None,
            zero: Stage::Two,
            gradient_checkpointing: false,
            offload_optimizer: false,
            save_steps: 2000,
            keep: 1,
            eval_data: None,
            eval_steps: None,
        }
    }
}

impl SftSettings {
    /// Reads settings from a TOML file; what it leaves out has its default.
    ///
    /// # Errors
    /// When the file cannot be read, or holds anything but settings.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
        let settings: Self = toml::from_str(&text).map_err(|error| {
            // An unknown key is enough said without the list of all known ones.
            let problem = error.message().split(", expected one of").next().unwrap_or_default();
            Error::Request(format!("{}: {problem}", path.display()))
        })?;
        for (name, value) in [("model", &settings.model), ("data", &settings.data), ("output", &settings.output)] {
            if value.as_os_str().is_empty() {
                return Err(Error::Request(format!("{}: \"{name}\" is missing", path.display())));
            }
        }
        if [settings.max_length, settings.batch_size, settings.micro_batch_tokens].contains(&0) {
            return Err(Error::Request(format!("{}: lengths and sizes are at least 1", path.display())));
        }
        if settings.dtype == Dtype::F16 || settings.lora.as_ref().is_some_and(|lora| lora.rank == 0) {
            return Err(Error::Request(format!(
                "{}: expected a dtype of f32 or bf16, and adapters of a rank of at least 1",
                path.display()
            )));
        }
        Ok(settings)
    }

    /// What the run's memory depends on; `world_size` ranks may share it.
    pub fn recipe(&self, device: RunDevice, world_size: Option<usize>) -> Recipe {
        Recipe {
            device,
            micro_batch_tokens: self.micro_batch_tokens,
            gradient_checkpointing: self.gradient_checkpointing,
            precision: self.precision(),
            moments: self.moments,
            lora: self.lora.clone(),
            offload: self.offload_optimizer,
            shared: world_size.map(|world_size| (self.zero, world_size)),
        }
    }

    /// Takes over what `fitting` has otherwise.
    pub fn fit(&mut self, fitting: &Recipe) {
        self.micro_batch_tokens = fitting.micro_batch_tokens;
        self.gradient_checkpointing = fitting.gradient_checkpointing;
        self.moments = fitting.moments;
        if self.precision() != fitting.precision {
            (self.dtype, self.bf16_update) = (Dtype::Bf16, Bf16Update::StochasticRounding);
        }
    }

    /// How weights are held.
    pub fn precision(&self) -> Precision {
        precision_of(self.dtype, self.bf16_update, self.lora.is_some())
    }
}

/// How weights of `dtype` are held; those that are `frozen` need no master.
pub(crate) fn precision_of(dtype: Dtype, update: Bf16Update, frozen: bool) -> Precision {
    match (dtype, update) {
        (Dtype::Bf16, Bf16Update::SplitMaster) if !frozen => Precision::Bf16Split,
        (Dtype::Bf16, _) => Precision::Bf16Stochastic,
        (Dtype::F32 | Dtype::F16, _) => Precision::F32,
    }
}
