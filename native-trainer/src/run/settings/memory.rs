//! Settings that a run's memory depends on.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use paddock_learn::collective::Stage;
use paddock_learn::optim::{Bf16Update, Moments, Precision};
use serde::{Deserialize, Serialize};

use super::{AdapterSettings, at_least_one, expect};
use crate::files::Dtype;

/// What a run's memory depends on, besides the model and the machine.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct MemorySettings {
    /// Most tokens that go through the model together; changes memory and speed, not the result
    #[arg(long, default_value_t = Self::default().micro_batch_tokens, value_name = "N")]
    pub micro_batch_tokens: usize,
    /// Keep one tensor a block in memory and compute the others anew: less memory, a third more work
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Number format of the weights: f32, bf16
    ///
    /// [default: f32; on an NVIDIA card where that does not fit: bf16]
    #[arg(long, default_value_t = Self::default().dtype, hide_default_value = true, value_name = "NAME")]
    pub dtype: Dtype,
    /// How steps reach weights in bf16: stochastic-rounding (the default), or split-master (f32 beside them, twice the
    /// memory)
    #[arg(long, default_value_t = Self::default().bf16_update, hide_default_value = true, value_name = "NAME")]
    pub bf16_update: Bf16Update,
    /// Number format of the optimiser's moments: f32, bf16, 8bit
    ///
    /// [default: f32; on an NVIDIA card where that does not fit: bf16 or 8bit]
    #[arg(long, default_value_t = Self::default().moments, hide_default_value = true, value_name = "NAME")]
    pub moments: Moments,
    /// Adapters, if they are trained instead of the model.
    #[command(flatten)]
    #[serde(flatten)]
    pub adapters: AdapterSettings,
    /// What processes that train together hold in parts: 1, the optimiser's state; 2, gradients too; 3, weights too
    #[arg(long, default_value_t = Self::default().zero, value_name = "N")]
    pub zero: Stage,
    /// What the host's memory holds instead of the device's: nothing, or with optimizer gradients, moments and masters
    #[arg(long = "offload", action = ArgAction::Set, default_value = "none", value_name = "NAME", value_parser = offload())]
    pub offload_optimizer: bool,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            micro_batch_tokens: 2048,
            gradient_checkpointing: false,
            dtype: Dtype::F32,
            bf16_update: Bf16Update::StochasticRounding,
            moments: Moments::F32,
            adapters: AdapterSettings::default(),
            zero: Stage::Two,
            offload_optimizer: false,
        }
    }
}

impl MemorySettings {
    /// How weights are held. Below adapters they do not change, so they need no master.
    pub fn precision(&self) -> Precision {
        match (self.dtype, self.bf16_update) {
            (Dtype::Bf16, Bf16Update::SplitMaster) if self.adapters.lora.is_none() => Precision::Bf16Split,
            (Dtype::Bf16, _) => Precision::Bf16Stochastic,
            (Dtype::F32 | Dtype::F16, _) => Precision::F32,
        }
    }

    /// Refuses settings that make no sense.
    ///
    /// # Errors
    /// A sentence that names the first such setting, what was found and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        at_least_one("micro-batch-tokens", self.micro_batch_tokens as u64)?;
        expect("dtype", self.dtype, self.dtype != Dtype::F16, "f32 or bf16")?;
        self.adapters.check()
    }
}

fn offload() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["none", "optimizer"]).map(|name| name == "optimizer")
}
