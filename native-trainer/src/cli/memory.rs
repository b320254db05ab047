//! `paddock memory`: what a fine-tuning run will need, before it is started.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use paddock_engine::weights::Checkpoint;

use super::console::{self, bytes};
use super::sft::Offloaded;
use super::weight_options::WeightOptions;
use crate::cuda::Dtype;
use crate::files::ModelSource;
use crate::run::memory::{MemoryEstimate, Recipe, RunDevice, advice, fitting, usable};
use crate::{Error, Result};
use paddock_learn::collective::Stage;

/// Show the memory that fine-tuning a model takes, and what would make it fit
#[derive(Debug, Args)]
pub(super) struct Memory {
    /// Model folder or .gguf file; only its headers are read
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Most tokens that go through the model together
    #[arg(long, default_value_t = 2048, value_name = "N")]
    micro_batch_tokens: usize,
    /// Keep one tensor a block in memory and compute the others anew
    #[arg(long)]
    gradient_checkpointing: bool,
    #[command(flatten)]
    weights: WeightOptions,
    /// Processes that train together
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// What they hold in parts: 1, the optimiser's state; 2, gradients too; 3, weights too
    #[arg(long, default_value_t = Stage::Two, value_name = "N")]
    zero: Stage,
    /// What the host's memory holds instead of the device's: optimizer, gradients, moments and masters
    #[arg(long, value_enum, value_name = "NAME")]
    offload: Option<Offloaded>,
    /// Where it is to run: on a card, what is left open is chosen to fit its memory
    #[arg(long, value_enum, default_value = "cpu", value_name = "NAME")]
    device: DeviceChoice,
    /// Memory that there is, as 80GB or 24GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    device_memory: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceChoice {
    Cpu,
    Cuda,
}

impl Memory {
    pub fn run(&self) -> Result<()> {
        let checkpoint = pollster::block_on(Checkpoint::open(ModelSource::open(&self.model)?))?;
        let config = checkpoint.config();
        let mut recipe = Recipe {
            device: match self.device {
                DeviceChoice::Cpu => RunDevice::Cpu,
                DeviceChoice::Cuda => RunDevice::Cuda { gradients: Dtype::F32 },
            },
            micro_batch_tokens: self.micro_batch_tokens,
            gradient_checkpointing: self.gradient_checkpointing,
            precision: self.weights.precision(),
            moments: self.weights.moments(),
            lora: self.weights.lora(),
            offload: self.offload.is_some(),
            shared: (self.ranks > 1).then_some((self.zero, self.ranks.into())),
        };
        if let (RunDevice::Cuda { .. }, Some(available)) = (recipe.device, self.device_memory) {
            // What a run on such a card would choose by itself.
            if let Some(fitting) = fitting(config, &recipe, self.weights.open(), usable(available))? {
                let flags = fitting.flags_from(&recipe);
                if !flags.is_empty() {
                    console::note(format_args!("a run on this card would choose {}", flags.join(" ")));
                }
                recipe = fitting;
            }
        }
        console::note(table(&MemoryEstimate::new(config, &recipe)?));
        let Some(available) = self.device_memory else { return Ok(()) };
        let usable = if recipe.device == RunDevice::Cpu { available } else { usable(available) };
        match advice(config, &recipe, usable)? {
            None => {
                console::note(format_args!("it fits in {}", bytes(available)));
                Ok(())
            }
            Some(advice) => Err(Error::Request(format!("it does not fit in {}; {advice}", bytes(available)))),
        }
    }
}

/// The estimate, a part a line.
fn table(estimate: &MemoryEstimate) -> String {
    let mut lines: Vec<String> =
        estimate.parts().iter().map(|(part, size)| format!("{part:<12} {:>12}", bytes(*size))).collect();
    lines.push(format!("{:<12} {:>12}", "total", bytes(estimate.total())));
    if estimate.host > 0 {
        lines.push(format!("{:<12} {:>12}", "on the host", bytes(estimate.host)));
    }
    lines.join("\n")
}

/// A number of bytes with its unit: GB are powers of 1000, GiB of 1024.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 6] = [
        ("GiB", (1u64 << 30) as f64),
        ("MiB", (1u64 << 20) as f64),
        ("TB", 1e12),
        ("GB", 1e9),
        ("MB", 1e6),
        ("B", 1.0),
    ];
    let found =
        UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim().parse::<f64>().ok()?, factor)));
    match found {
        Some((value, factor)) if value.is_finite() && value > 0.0 => Ok((value * factor) as u64),
        _ => Err("expected a size such as 80GB or 24GiB".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("80GB"), Ok(80_000_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("7B"), Ok(7));
        for wrong in ["", "80", "-1GB", "manyGB", "infGB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
