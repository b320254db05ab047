//! How weights are trained: their number format, and adapters.

use clap::Args;

use crate::files::Dtype;
use crate::run::memory::Open;
use crate::run::precision_of;
use paddock_learn::lora::Lora;
use paddock_learn::optim::{Bf16Update, Moments, Precision};

/// How weights are trained.
#[derive(Debug, Args)]
pub(super) struct WeightOptions {
    /// Number format of the weights: f32, bf16
    ///
    /// [default: f32; on an NVIDIA card where that does not fit: bf16]
    #[arg(long, value_name = "NAME", value_parser = trained_dtype)]
    dtype: Option<Dtype>,
    /// How steps reach weights in bf16: stochastic-rounding (the default), or split-master (f32 beside them, twice the
    /// memory)
    #[arg(long, value_name = "NAME")]
    bf16_update: Option<Bf16Update>,
    /// Number format of the optimiser's moments: f32, bf16, 8bit
    ///
    /// [default: f32; on an NVIDIA card where that does not fit: bf16 or 8bit]
    #[arg(long, value_name = "NAME")]
    moments: Option<Moments>,
    /// Train low-rank adapters of this rank (LoRA) and leave the model as it is
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..))]
    lora_rank: Option<u16>,
    /// Adapters are scaled by this over their rank [default: the rank]
    #[arg(long, value_name = "A", requires = "lora_rank", value_parser = positive)]
    lora_alpha: Option<f32>,
    /// Modules that get adapters, separated by commas [default: q_proj,v_proj]
    #[arg(long, value_name = "NAMES", requires = "lora_rank", value_delimiter = ',')]
    lora_targets: Option<Vec<String>>,
}

impl WeightOptions {
    pub fn dtype(&self) -> Dtype {
        self.dtype.unwrap_or(Dtype::F32)
    }

    pub fn bf16_update(&self) -> Bf16Update {
        self.bf16_update.unwrap_or_default()
    }

    pub fn moments(&self) -> Moments {
        self.moments.unwrap_or_default()
    }

    /// What was left open.
    pub fn open(&self) -> Open {
        let precision = self.dtype.is_none() && self.bf16_update.is_none();
        Open { precision, moments: self.moments.is_none(), ..Open::default() }
    }

    /// How weights are held. Those below adapters do not change and need no master.
    pub fn precision(&self) -> Precision {
        precision_of(self.dtype(), self.bf16_update(), self.lora_rank.is_some())
    }

    pub fn lora(&self) -> Option<Lora> {
        let rank = self.lora_rank?;
        let alpha = self.lora_alpha.unwrap_or(f32::from(rank));
        let targets = self.lora_targets.clone().unwrap_or_else(|| Lora::default().targets);
        Some(Lora { rank: rank.into(), alpha, targets })
    }
}

fn trained_dtype(text: &str) -> Result<Dtype, String> {
    match text.parse() {
        Ok(dtype @ (Dtype::F32 | Dtype::Bf16)) => Ok(dtype),
        _ => Err("expected f32 or bf16".to_string()),
    }
}

fn positive(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value: &f32| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "expected a number above 0".to_string())
}
