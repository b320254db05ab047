//! A small model fine-tuned on the device and on the CPU, whose losses other tests hold against PyTorch's.

use paddock::autograd::Adjoint;
use paddock::cuda::{Cuda, Driver, Dtype};
use paddock::data::{Example, Share};
use paddock::optim::{AdamW, Precision};
use paddock::train::lora::Lora;
use paddock::train::{LossNormalization, OptimizerStep, StepReport, StepSettings, Trainer, TrainerOptions};
use paddock_engine::backend::Cpu;
use paddock_engine::weights::Checkpoint;
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

/// The fixture's run.
struct Run {
    expected: Expected,
    examples: Vec<Example>,
}

impl Run {
    /// With examples of at most `length` tokens.
    fn read(length: usize) -> Self {
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

    fn steps<B: Adjoint>(
        &self,
        backend: B,
        options: TrainerOptions,
        steps: usize,
    ) -> paddock::Result<(Trainer<B>, Vec<StepReport>)> {
        block_on(async {
            let mut checkpoint = Checkpoint::open(folder_source(&fixtures().join("sft"))).await?;
            let mut trainer = Trainer::load(backend, None, &mut checkpoint, options, &mut |_| {}).await?;
            let mut reports = Vec::new();
            for step in 0..steps {
                let size = self.expected.batch_size;
                let batch: Vec<&Example> =
                    (0..size).map(|i| &self.examples[(step * size + i) % self.examples.len()]).collect();
                let optimizer = OptimizerStep {
                    number: step as u64 + 1,
                    learning_rate: LEARNING_RATE,
                    adamw: AdamW::default(),
                    max_grad_norm: 1.0,
                    seed: 42,
                };
                let settings = StepSettings { optimizer, normalization: LossNormalization::Global };
                reports.push(trainer.step(&Share::whole(&batch, 2048), &settings).await?);
            }
            Ok((trainer, reports))
        })
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
) -> paddock::Result<Vec<Comparison>> {
    let run = Run::read(length);
    let options = |precision| TrainerOptions { checkpointing: true, precision, ..TrainerOptions::default() };
    let (_, expected) = run.steps(Cpu::with_threads(2), options(Precision::F32), steps)?;
    let (precisions, tolerance): (&[_], _) = match cuda.formats().values {
        Dtype::F32 => (&[Precision::F32], F32_TOLERANCE),
        Dtype::Bf16 => (&[Precision::Bf16Split, Precision::Bf16Stochastic], BF16_TOLERANCE),
    };
    let mut comparisons = Vec::new();
    for &precision in precisions {
        let (_, reports) = run.steps(cuda.clone(), options(precision), steps)?;
        for (step, (report, expected)) in reports.iter().zip(&expected).enumerate() {
            let (loss, norm) = (expected.loss as f32, expected.grad_norm as f32);
            let what = |what: &str| format!("sft, {precision:?}, step {step}: {what}");
            let (got, plain) = (report.loss as f32, tolerance * loss);
            comparisons.push(Comparison::new(what("loss"), &[got], &[loss], plain, 1.0));
            // Norms differ more: each gradient is a sum of what cancels.
            let (got, plain) = (report.grad_norm as f32, 5.0 * tolerance * norm);
            comparisons.push(Comparison::new(what("norm of the gradients"), &[got], &[norm], plain, 1.0));
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
pub fn training_is_deterministic<D: Driver>(cuda: &Cuda<D>, steps: usize, length: usize) -> paddock::Result<()> {
    let run = Run::read(length);
    let precision = match cuda.formats().values {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16Stochastic,
    };
    for lora in [None, Some(Lora { rank: 4, ..Lora::default() })] {
        let weights = || -> paddock::Result<(Vec<f64>, Vec<Vec<f32>>)> {
            let options = TrainerOptions { precision, lora: lora.clone(), ..TrainerOptions::default() };
            let (trainer, reports) = run.steps(cuda.clone(), options, steps)?;
            let mut weights = Vec::new();
            trainer.tape().visit(|_, parameter| {
                weights.push(trainer.tape().inner().read_param(&parameter.value)?);
                Ok(())
            })?;
            Ok((reports.iter().map(|report| report.loss).collect(), weights))
        };
        let (first, second) = (weights()?, weights()?);
        assert_eq!(first.0, second.0, "losses of two runs");
        assert!(first.1 == second.1, "weights of two runs");
    }
    Ok(())
}
