//! `paddock memory`: the memory that a fine-tuning run will need.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::BinaryBytes;
use paddock_engine::weights::Checkpoint;

use super::console;
use super::open::OpenFlags;
use crate::cuda::Dtype;
use crate::files::ModelSource;
use crate::run::MemorySettings;
use crate::run::memory::{MemoryEstimate, Recipe, RunDevice, advice, fitting, usable};
use crate::{Error, Result};

/// Show the memory that fine-tuning a model takes, and what would make it fit
#[derive(Debug, Args)]
pub(super) struct Memory {
    /// Model folder or .gguf file; only its headers are read
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    // Before the settings, which take their values out of what was parsed.
    #[command(flatten)]
    open: OpenFlags,
    #[command(flatten)]
    settings: MemorySettings,
    /// Processes that train together
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// Where it will run; for a card, settings that are not given are chosen to fit its memory
    #[arg(long, value_enum, default_value = "cpu", value_name = "NAME")]
    device: PlannedDevice,
    /// Memory of the device, as 80GB or 24GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    device_memory: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlannedDevice {
    Cpu,
    Cuda,
}

impl Memory {
    /// Refuses flags that make no sense.
    pub fn check(&self) -> Result<(), String> {
        self.settings.check()
    }

    pub fn run(&self) -> Result<()> {
        let checkpoint = pollster::block_on(Checkpoint::open(ModelSource::open(&self.model)?))?;
        let config = checkpoint.config();
        let mut recipe = Recipe {
            device: match self.device {
                PlannedDevice::Cpu => RunDevice::Cpu,
                PlannedDevice::Cuda => RunDevice::Cuda { gradients: Dtype::F32 },
            },
            ranks: self.ranks.into(),
            settings: self.settings.clone(),
        };
        if let (RunDevice::Cuda { .. }, Some(available)) = (recipe.device, self.device_memory) {
            // A run on such a card would choose the same.
            if let Some(fitting) = fitting(config, &recipe, self.open.0, usable(available))? {
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
                console::note(format_args!("it fits in {}", BinaryBytes(available)));
                Ok(())
            }
            Some(advice) => Err(Error::Request(format!("it does not fit in {}; {advice}", BinaryBytes(available)))),
        }
    }
}

/// The estimate, one part a line.
fn table(estimate: &MemoryEstimate) -> String {
    let mut lines: Vec<String> = estimate
        .parts()
        .iter()
        .map(|(part, size)| format!("{part:<12} {:>12}", BinaryBytes(*size).to_string()))
        .collect();
    lines.push(format!("{:<12} {:>12}", "total", BinaryBytes(estimate.total()).to_string()));
    if estimate.host > 0 {
        lines.push(format!("{:<12} {:>12}", "on the host", BinaryBytes(estimate.host).to_string()));
    }
    lines.join("\n")
}

/// Parses a size with its unit, in bytes: GB are powers of 1000, GiB powers of 1024.
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
