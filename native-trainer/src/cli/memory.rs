//! `paddock memory`: the memory that a fine-tuning run will need.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::BinaryBytes;
use paddock_engine::weights::Checkpoint;
use serde::Serialize;

use super::console;
use super::given::Given;
use crate::cuda::Dtype;
use crate::files::{ModelSource, config_alone};
use crate::ppo::Placement;
use crate::run::memory::{Card, DiskEstimate, MemoryEstimate, Recipe, RolePlan, RunDevice, advice, fitting, usable};
use crate::run::{MemorySettings, SettingsFile};
use crate::{Error, Result};

/// Show the memory that fine-tuning a model takes, and what would make it fit
#[derive(Debug, Args)]
pub(super) struct Memory {
    /// Model folder or .gguf file, of which only headers are read, or a config.json alone
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    // Before the settings, which take their values out of what was parsed.
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    settings: MemorySettings,
    /// What runs: sft, or ppo and ppo-lag with all their roles, which share the model's weights where there are adapters
    #[arg(long, value_enum, default_value = "sft", value_name = "NAME")]
    run: PlannedRun,
    /// Of ppo and ppo-lag: shared (adapters and heads on one trunk; the default with --lora-rank), or separate (whole models)
    #[arg(long, value_enum, value_name = "NAME")]
    roles: Option<Placement>,
    /// Of ppo and ppo-lag: answers that are sampled side by side
    #[arg(long, default_value_t = 16, value_name = "N")]
    sequences: usize,
    /// Tokens that examples are cut after
    #[arg(long, default_value_t = 512, value_name = "N")]
    max_length: usize,
    /// Checkpoints that are kept on the disk
    #[arg(long, default_value_t = 1, value_name = "N")]
    keep: usize,
    /// Processes that train together
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// Where it will run; for a card, settings that are not given are chosen to fit its memory [default: cpu]
    #[arg(long, value_enum, value_name = "NAME")]
    device: Option<PlannedDevice>,
    /// An NVIDIA card by its name, such as h100, a100-80gb or rtx4090; short for --device cuda and its memory
    #[arg(long, value_name = "NAME", conflicts_with = "device_memory")]
    card: Option<Card>,
    /// Memory of the device, as 80GB or 24GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    device_memory: Option<u64>,
    /// Print one JSON object, sizes in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlannedDevice {
    Cpu,
    Cuda,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlannedRun {
    Sft,
    Ppo,
    PpoLag,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    parts: BTreeMap<&'static str, u64>,
    /// Of ppo: who takes part besides the actor, which the parts are of.
    roles: BTreeMap<&'static str, u64>,
    total: u64,
    /// Memory of the host, where the optimiser's state lies there.
    host: u64,
    disk: DiskEstimate,
    /// Flags that a run on this card would choose by itself.
    chosen: Vec<String>,
    available: Option<u64>,
    fits: Option<bool>,
    /// What would make it fit.
    advice: Option<String>,
}

impl Memory {
    /// Refuses flags that make no sense.
    pub fn check(&self) -> Result<(), String> {
        self.settings.check()?;
        if self.roles.is_some() && self.run == PlannedRun::Sft {
            return Err("roles is set, but run is sft, which has one model; choose ppo or ppo-lag".to_string());
        }
        Placement::check(self.roles, &self.settings)
    }

    pub fn run(&self) -> Result<()> {
        let config = match config_alone(&self.model)? {
            Some(config) => config,
            None => pollster::block_on(Checkpoint::open(ModelSource::open(&self.model)?))?.config().clone(),
        };
        let available = self.card.map(|card| card.memory).or(self.device_memory);
        let default = if self.card.is_some() { PlannedDevice::Cuda } else { PlannedDevice::Cpu };
        let mut recipe = Recipe {
            device: match self.device.unwrap_or(default) {
                PlannedDevice::Cpu => RunDevice::Cpu,
                PlannedDevice::Cuda => RunDevice::Cuda { gradients: Dtype::F32 },
            },
            ranks: self.ranks.into(),
            longest: self.max_length.min(config.max_position_embeddings),
            settings: self.settings.clone(),
        };
        let plan = match self.run {
            PlannedRun::Sft => None,
            PlannedRun::Ppo => Some(RolePlan::ppo(false, self.sequences, recipe.longest)),
            PlannedRun::PpoLag => Some(RolePlan::ppo(true, self.sequences, recipe.longest)),
        };
        let roles_of = |recipe: &Recipe| match &plan {
            Some(plan) => plan.bytes(&config, recipe),
            None => Ok(Vec::new()),
        };
        let sum = |roles: &[(&'static str, u64)]| roles.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut chosen = Vec::new();
        if let (RunDevice::Cuda { .. }, Some(available)) = (recipe.device, available) {
            // A run on such a card would choose the same.
            let open = self.given.open(&SettingsFile::default());
            if let Some(fitting) =
                fitting(&config, &recipe, open, usable(available).saturating_sub(sum(&roles_of(&recipe)?)))?
            {
                chosen = fitting.flags_from(&recipe);
                recipe = fitting;
            }
        }
        let estimate = MemoryEstimate::new(&config, &recipe)?;
        let roles = roles_of(&recipe)?;
        let usable = available.map(|memory| if recipe.device == RunDevice::Cpu { memory } else { usable(memory) });
        let advice =
            usable.map(|usable| advice(&config, &recipe, usable.saturating_sub(sum(&roles)))).transpose()?.flatten();
        let report = Report {
            parts: estimate.parts().into_iter().collect(),
            total: estimate.total() + sum(&roles),
            roles: roles.iter().copied().collect(),
            host: estimate.host,
            disk: DiskEstimate::new(&config, &recipe, self.keep)?,
            chosen,
            available,
            fits: available.map(|_| advice.is_none()),
            advice,
        };
        if self.json {
            let mut output = io::stdout().lock();
            serde_json::to_writer(&mut output, &report).map_err(io::Error::from)?;
            writeln!(output)?;
        } else {
            if !report.chosen.is_empty() {
                console::note(format_args!("a run on this card would choose {}", report.chosen.join(" ")));
            }
            console::note(table(&estimate, &roles, &report.disk));
        }
        match (report.advice, available.map(BinaryBytes)) {
            (Some(advice), Some(available)) => Err(Error::Request(format!("it does not fit in {available}; {advice}"))),
            (None, Some(available)) if !self.json => {
                console::note(format_args!("it fits in {available}"));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The estimate, one part a line.
fn table(estimate: &MemoryEstimate, roles: &[(&'static str, u64)], disk: &DiskEstimate) -> String {
    let mut rows: Vec<(&str, u64)> = estimate.parts().into();
    rows.extend(roles);
    rows.push(("total", estimate.total() + roles.iter().map(|(_, bytes)| bytes).sum::<u64>()));
    if estimate.host > 0 {
        rows.push(("on the host", estimate.host));
    }
    rows.extend([("on disk", disk.total), ("checkpoint", disk.checkpoint)]);
    let lines = rows.into_iter().map(|(part, size)| format!("{part:<14} {:>12}", BinaryBytes(size).to_string()));
    lines.collect::<Vec<_>>().join("\n")
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
