//! A small model fine-tuned on the device and on the CPU, whose losses other tests hold against PyTorch's.

use std::ops::Range;
use std::path::Path;

use paddock::cuda::{Cuda, Driver, Dtype};
use paddock_engine::backend::Cpu;
use paddock_engine::weights::Checkpoint;
use paddock_learn::data::{Example, Share};
use paddock_learn::lora::Lora;
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::optim::{AdamW, Moments, OptimizerStep, Precision};
use paddock_learn::{Adjoint, Offload, StepReport, Store, TapeOptions, Trainer};
use serde::Deserialize;

use super::Comparison;
use crate::{block_on, fixtures, folder_source};

/// Relative difference of losses and norms of gradients that f32 sums in another order make.
const F32_TOLERANCE: f32 = 1e-3;
/// The same in bf16: the fixture's losses of 6 are right to two places.
const BF16_TOLERANCE: f32 = 2e-2;

/// The fixture's largest.
const LEARNING_RATE: f64 = 1e-3;

#[derive(Deserialize)]
struct Expected {
    batch_size: usize,
    encoded: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Encoded {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

/// A model that is fine-tuned on the backend `B`, whose gradients and moments lie in `S`.
pub(super) type SftTrainer<B, S> = Trainer<B, Sft<B, S>, S>;

/// The fixture's run.
pub(super) struct Run {
    expected: Expected,
    examples: Vec<Example>,
}

impl Run {
    /// With examples of at most `length` tokens.
    pub fn read(length: usize) -> Self {
        let bytes = std::fs::read(fixtures().join("sft/expected.json")).expect("the sft fixture");
        let expected: Expected = serde_json::from_slice(&bytes).expect("the fixture's JSON");
        let example = |encoded: &Encoded| Example {
            // The end of an example is what is learned.
            ids: encoded.input_ids[encoded.input_ids.len().saturating_sub(length)..].to_vec(),
            targets: (1..encoded.labels.len().min(length))
                .filter(|at| encoded.labels[at + encoded.labels.len().saturating_sub(length)] >= 0)
                .collect(),
        };
        let examples = expected.encoded.iter().map(example).collect();
        Self { expected, examples }
    }

    fn steps<B: Adjoint, S: Store<B>>(
        &self,
        backend: B,
        store: S,
        options: SftOptions,
        steps: usize,
    ) -> paddock_learn::Result<(SftTrainer<B, S>, Vec<StepReport>)> {
        let mut trainer = self.start(backend, store, options, &fixtures().join("sft"))?;
        let reports = self.go(&mut trainer, 0..steps)?;
        Ok((trainer, reports))
    }

    /// A trainer of the model in `folder`.
    pub fn start<B: Adjoint, S: Store<B>>(
        &self,
        backend: B,
        store: S,
        options: SftOptions,
        folder: &Path,
    ) -> paddock_learn::Result<SftTrainer<B, S>> {
        let mut checkpoint = block_on(Checkpoint::open(folder_source(folder)))?;
        block_on(Sft::load(backend, store, None, &mut checkpoint, options, &mut |_| {}))
    }

    /// Some steps of the run, from 0 on.
    pub fn go<B: Adjoint, S: Store<B>>(
        &self,
        trainer: &mut SftTrainer<B, S>,
        steps: Range<usize>,
    ) -> paddock_learn::Result<Vec<StepReport>> {
        let step = |step: usize| {
            let size = self.expected.batch_size;
            let batch: Vec<&Example> =
                (0..size).map(|i| &self.examples[(step * size + i) % self.examples.len()]).collect();
            let settings = OptimizerStep {
                number: step as u64 + 1,
                learning_rate: LEARNING_RATE,
                adamw: AdamW::default(),
                max_grad_norm: 1.0,
                seed: 42,
            };
            block_on(trainer.step(&Share::whole(&batch, 2048), &settings))
        };
        steps.map(step).collect()
    }

    /// The values of all parameters.
    pub fn weights<B: Adjoint, S: Store<B>>(trainer: &SftTrainer<B, S>) -> paddock_learn::Result<Vec<Vec<f32>>> {
        let tape = trainer.tape();
        tape.parameters().into_iter().map(|info| block_on(tape.read_parameter(info.id))).collect()
    }
}

/// Losses and norms of gradients of the first `steps` steps on examples of at most `length` tokens, for every way to
/// hold parameters, with activation checkpointing.
///
/// # Errors
/// When the device fails.
pub fn fine_tuning_is_the_cpus<D: Driver>(
    cuda: &Cuda<D>,
    steps: usize,
    length: usize,
) -> paddock_learn::Result<Vec<Comparison>> {
    let run = Run::read(length);
    let options = |precision, moments| {
        let tape = TapeOptions { checkpointing: true, precision, moments, ..TapeOptions::default() };
        SftOptions { tape, ..SftOptions::default() }
    };
    let cpu = Cpu::with_threads(2);
    let (precisions, tolerance): (&[_], _) = match cuda.formats().values {
        Dtype::F32 => (&[(Precision::F32, Moments::F32), (Precision::F32, Moments::Dynamic8)], F32_TOLERANCE),
        Dtype::Bf16 => (
            &[
                (Precision::Bf16Split, Moments::F32),
                (Precision::Bf16Stochastic, Moments::F32),
                (Precision::Bf16Stochastic, Moments::Dynamic8),
            ],
            BF16_TOLERANCE,
        ),
    };
    let mut comparisons = Vec::new();
    for &(precision, moments) in precisions {
        let (_, expected) = run.steps(cpu.clone(), cpu.clone(), options(Precision::F32, moments), steps)?;
        let (_, reports) = run.steps(cuda.clone(), cuda.clone(), options(precision, moments), steps)?;
        for (step, (report, expected)) in reports.iter().zip(&expected).enumerate() {
            let (loss, norm) = (expected.loss as f32, expected.grad_norm as f32);
            let what = |what: &str| format!("sft, {precision:?}, moments {moments}, step {step}: {what}");
            let (got, plain) = (report.loss as f32, tolerance * loss);
            comparisons.push(Comparison::new(what("loss"), &[got], &[loss], plain, 1.0));
            // Norms differ more: each gradient is a sum of what cancels.
            let (got, plain) = (report.grad_norm as f32, 5.0 * tolerance * norm);
            comparisons.push(Comparison::new(what("norm of the gradients"), &[got], &[norm], plain, 1.0));
        }
    }
    Ok(comparisons)
}

/// Losses and norms with the optimiser on the host, beside those with it on the device.
///
/// # Errors
/// When the device fails.
pub fn offload_trains_alike<D: Driver>(
    cuda: &Cuda<D>,
    steps: usize,
    length: usize,
) -> paddock_learn::Result<Vec<Comparison>> {
    let run = Run::read(length);
    let (precision, tolerance) = match cuda.formats().values {
        Dtype::F32 => (Precision::F32, F32_TOLERANCE),
        Dtype::Bf16 => (Precision::Bf16Split, BF16_TOLERANCE),
    };
    let mut comparisons = Vec::new();
    for lora in [None, Some(Lora { rank: 4, ..Lora::default() })] {
        let tape = TapeOptions { checkpointing: true, precision, ..TapeOptions::default() };
        let options = || SftOptions { tape, lora: lora.clone(), ..SftOptions::default() };
        let (_, expected) = run.steps(cuda.clone(), cuda.clone(), options(), steps)?;
        let (_, reports) = run.steps(cuda.clone(), Offload::new(), options(), steps)?;
        for (step, (got, expected)) in reports.iter().zip(&expected).enumerate() {
            for (what, got, expected, factor) in
                [("loss", got.loss, expected.loss, 1.0), ("norm", got.grad_norm, expected.grad_norm, 5.0)]
            {
                let (got, expected) = (got as f32, expected as f32);
                let what = format!("offload, adapters {}, step {step}: {what}", lora.is_some());
                comparisons.push(Comparison::new(what, &[got], &[expected], factor * tolerance * expected, 1.0));
            }
        }
    }
    Ok(comparisons)
}

/// Two runs of the same steps, of all weights and of adapters: losses and weights must be the same bits.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the runs differ.
pub fn training_is_deterministic<D: Driver>(cuda: &Cuda<D>, steps: usize, length: usize) -> paddock_learn::Result<()> {
    let run = Run::read(length);
    let precision = match cuda.formats().values {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16Stochastic,
    };
    for lora in [None, Some(Lora { rank: 4, ..Lora::default() })] {
        let weights = || -> paddock_learn::Result<(Vec<f64>, Vec<Vec<f32>>)> {
            let tape = TapeOptions { precision, ..TapeOptions::default() };
            let options = SftOptions { tape, lora: lora.clone(), ..SftOptions::default() };
            let (trainer, reports) = run.steps(cuda.clone(), cuda.clone(), options, steps)?;
            Ok((reports.iter().map(|report| report.loss).collect(), Run::weights(&trainer)?))
        };
        let (first, second) = (weights()?, weights()?);
        assert_eq!(first.0, second.0, "losses of two runs");
        assert!(first.1 == second.1, "weights of two runs");
    }
    Ok(())
}
