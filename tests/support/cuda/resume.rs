//! Checkpoints of a run on the device.

use std::path::Path;

use paddock::cuda::{Cuda, Driver, Dtype};
use paddock::files::{self, Description};
use paddock::run::SftSettings;
use paddock::run::checkpoint::{self, Kept, Origin, State, TrainedModel};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::objective::{Sft, SftOptions, Tuned};
use paddock_learn::optim::{Moments, Precision};
use paddock_learn::{Adjoint, Store, TapeOptions};
use tempfile::TempDir;

use super::training::{Run, SftTrainer};
use crate::{block_on, fixtures, folder_source};

/// `trainer` with the description of the fixture's model.
fn described<B: Adjoint, S: Store<B>>(
    trainer: SftTrainer<B, S>,
    precision: Precision,
) -> paddock::Result<TrainedModel<B, Sft<B, S>, S>> {
    let model = fixtures().join("sft");
    let files = block_on(block_on(Checkpoint::open(folder_source(&model)))?.tokenizer_files())?;
    let tokenizer = Tokenizer::from_files(&files)?;
    let dtype = if precision == Precision::F32 { files::Dtype::F32 } else { files::Dtype::Bf16 };
    let description = Description::new(&model, trainer.objective().config(), &tokenizer, dtype)?;
    Ok(TrainedModel { trainer, description })
}

/// A step, a checkpoint and another step, by the trainer that goes on and by one that resumes: the same bits, with moments
/// in eight bits.
///
/// # Errors
/// When the device or the disk fails.
///
/// # Panics
/// When the weights differ.
pub fn a_resumed_run_is_the_same<D: Driver>(cuda: &Cuda<D>, length: usize) -> paddock::Result<()> {
    let run = Run::read(length);
    let precision = match cuda.formats().values {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16Split,
    };
    let folder = TempDir::new()?;
    let tape = TapeOptions { precision, moments: Moments::Dynamic8, ..TapeOptions::default() };
    let start =
        |folder: &Path| run.start(cuda.clone(), cuda.clone(), SftOptions { tape, ..SftOptions::default() }, folder);
    let mut whole = start(&fixtures().join("sft"))?;
    run.go(&mut whole, 0..1)?;
    let mut whole = described(whole, precision)?;
    let origin = Origin::new(SftSettings::default(), String::new(), std::collections::BTreeMap::new());
    block_on(checkpoint::save(folder.path(), &whole, State { step: 1, tokens: 0 }, &origin))?;
    run.go(&mut whole.trainer, 1..2)?;
    let (saved, _) = checkpoint::newest(folder.path())?.checkpoint.expect("the checkpoint");
    let mut resumed = described(start(&saved)?, precision)?;
    block_on(resumed.read_state(&saved))?;
    run.go(&mut resumed.trainer, 1..2)?;
    assert!(Run::weights(&whole.trainer)? == Run::weights(&resumed.trainer)?, "weights of a resumed run");
    Ok(())
}
