//! Checkpoints of a run on the device.

use std::path::Path;

use paddock::cuda::{Cuda, Driver, Dtype};
use paddock::files::{self, Description};
use paddock::run::SftSettings;
use paddock::run::checkpoint::{self, Origin, State};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::objective::SftOptions;
use paddock_learn::optim::{Moments, Precision};
use paddock_learn::{Adjoint, Store, TapeOptions};
use tempfile::TempDir;

use super::training::{Run, SftTrainer};
use crate::{block_on, fixtures, folder_source};

/// Saves a checkpoint of the fixture's model after `step` steps.
fn save<B: Adjoint, S: Store<B>>(
    output: &Path,
    trainer: &SftTrainer<B, S>,
    precision: Precision,
    step: u64,
) -> paddock::Result<()> {
    let model = fixtures().join("sft");
    let files = block_on(block_on(Checkpoint::open(folder_source(&model)))?.tokenizer_files())?;
    let tokenizer = Tokenizer::from_files(&files)?;
    let dtype = if precision == Precision::F32 { files::Dtype::F32 } else { files::Dtype::Bf16 };
    let description = Description::new(&model, trainer.objective().config(), &tokenizer, dtype)?;
    let origin = Origin { settings: SftSettings::default(), examples: String::new() };
    block_on(checkpoint::save(output, trainer, &description, State { step, tokens: 0 }, &origin))
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
    save(folder.path(), &whole, precision, 1)?;
    run.go(&mut whole, 1..2)?;
    let (saved, _) = checkpoint::newest(folder.path())?.checkpoint.expect("the checkpoint");
    let mut resumed = start(&saved)?;
    block_on(checkpoint::load_state(&saved, &resumed))?;
    run.go(&mut resumed, 1..2)?;
    assert!(Run::weights(&whole)? == Run::weights(&resumed)?, "weights of a resumed run");
    Ok(())
}
