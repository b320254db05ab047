//! Why a loss or a gradient is not a finite number.

use std::path::Path;

use paddock_engine::weights::{Checkpoint, dequantize};

use crate::files::FolderSource;
use crate::run::checkpoint;
use crate::{Error, Result};

/// Rows of a tensor that are looked at together.
const ROWS: usize = 256;

/// The error of a first step, whose loss and gradients are those of the weights in `model`, before anything was learned.
///
/// # Errors
/// When the model cannot be read again.
pub(super) async fn at_the_first_step(model: &Path, step: u64, report: &Found) -> Result<Error> {
    let shown = model.display();
    if let Some(name) = not_finite(model).await? {
        return Ok(Error::Request(format!(
            "{shown}: {name} holds NaN or infinity; the model is damaged, get it again"
        )));
    }
    Ok(Error::Request(format!(
        "{} in step {step}, before anything was learned, though every weight of {shown} is finite: its values are too large \
         to compute with",
        found(report)
    )))
}

/// The error of a later step.
///
/// # Errors
/// When the run's folder cannot be read.
pub(super) fn later(output: &Path, step: u64, report: &Found) -> Result<Error> {
    let what = found(report);
    // One of the step before holds the very weights that this comes from.
    let sound = checkpoint::newest(output)?.checkpoint.filter(|(_, state)| state.step + 1 < step);
    let advice = match sound {
        Some((path, _)) => format!("go on from {} with --resume --allow-changes", path.display()),
        None => "start again in another output".to_string(),
    };
    Ok(Error::Request(format!("{what} in step {step}; lower --learning-rate and {advice}")))
}

/// The numbers of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub loss: f64,
    pub grad_norm: f64,
}

fn found(report: &Found) -> String {
    match report.loss.is_finite() {
        true => format!("the norm of the gradients is {}", report.grad_norm),
        false => format!("the loss is {}", report.loss),
    }
}

/// The first tensor of a model that holds anything but finite numbers.
async fn not_finite(model: &Path) -> Result<Option<String>> {
    let mut checkpoint = Checkpoint::open(FolderSource::open(model)?).await?;
    let tensors: Vec<_> = checkpoint.tensors().cloned().collect();
    for tensor in tensors {
        let [rows, columns] = tensor.shape;
        for start in (0..rows).step_by(ROWS) {
            let end = rows.min(start + ROWS);
            let mut values = vec![0.0; (end - start) * columns];
            dequantize(tensor.encoding, &checkpoint.read_rows(&tensor.name, start..end).await?, &mut values)?;
            if !values.iter().all(|value| value.is_finite()) {
                return Ok(Some(tensor.name));
            }
        }
    }
    Ok(None)
}
