//! Whether a run fits in memory, and which settings make it fit an NVIDIA card.

use indicatif::BinaryBytes;
use paddock_engine::ModelConfig;
use paddock_engine::weights::Checkpoint;

use crate::cuda::{Dtype, Formats};
use crate::files::ModelSource;
use crate::run::RunSettings;
use crate::run::memory::{MemoryEstimate, Open, Recipe, RunDevice, advice, available_memory, fitting, usable};
use crate::{Error, Result};

/// Refuses a run that does not fit in the machine's memory.
///
/// # Errors
/// When it does not, with what would make it fit.
pub fn check_memory(recipe: &Recipe, config: &ModelConfig) -> Result<()> {
    let Some(available) = available_memory() else { return Ok(()) };
    if recipe.device != RunDevice::Cpu {
        let host = MemoryEstimate::new(config, recipe)?.host;
        let (needed, free) = (BinaryBytes(host), BinaryBytes(available));
        return if host <= available {
            Ok(())
        } else {
            Err(Error::Request(format!(
                "--offload optimizer needs {needed} of the host's memory and {free} are free; --moments 8bit needs least"
            )))
        };
    }
    let Some(advice) = advice(config, recipe, available)? else { return Ok(()) };
    Err(Error::Request(format!("{}; {advice}", too_much(&MemoryEstimate::new(config, recipe)?, available))))
}

/// Says that a run does not fit in `available` bytes.
fn too_much(estimate: &MemoryEstimate, available: u64) -> String {
    let parts: Vec<String> =
        estimate.parts().iter().map(|(part, bytes)| format!("{part} {}", BinaryBytes(*bytes))).collect();
    let (total, available) = (BinaryBytes(estimate.total()), BinaryBytes(available));
    format!("this run needs {total} of memory and {available} are free ({})", parts.join(", "))
}

/// Chooses the `open` settings of a run so that it fits an NVIDIA card of `memory` bytes. Returns the formats of the
/// kernels, and a line about what was chosen.
///
/// # Errors
/// When the model cannot be read, or nothing makes it fit.
pub fn fit_card(settings: &mut RunSettings, open: Open, memory: u64, ranks: usize) -> Result<(Formats, String)> {
    let checkpoint = pollster::block_on(Checkpoint::open(ModelSource::open(&settings.model)?))?;
    let config = checkpoint.config();
    let device = RunDevice::Cuda { gradients: Dtype::F32 };
    let recipe = Recipe {
        device,
        ranks,
        longest: settings.max_length.min(config.max_position_embeddings),
        settings: settings.memory.clone(),
    };
    let available = usable(memory);
    let Some(fitting) = fitting(config, &recipe, open, available)? else {
        let advice = advice(config, &recipe, available)?.unwrap_or_default();
        return Err(Error::Request(format!(
            "{}; {advice}",
            too_much(&MemoryEstimate::new(config, &recipe)?, available)
        )));
    };
    let total = BinaryBytes(MemoryEstimate::new(config, &fitting)?.total());
    let mut flags = fitting.flags_from(&recipe).join(" ");
    if !flags.is_empty() {
        flags.insert_str(0, "; to fit, with ");
    }
    let formats = fitting.formats();
    let text = format!(
        "memory: about {total} of {}: {} products, {} gradients, moments {}{flags}",
        BinaryBytes(memory),
        formats.values,
        formats.gradients,
        fitting.settings.moments
    );
    settings.memory = fitting.settings;
    Ok((formats, text))
}
