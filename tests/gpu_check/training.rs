//! Full fine-tuning by setting: tokens a second, the share of the card's speed, memory.

use paddock::Result;
use paddock::cuda::Dtype;
use paddock::files;
use paddock::run::MemorySettings;
use paddock::run::memory::{MemoryEstimate, Recipe, RunDevice, usable};
use paddock_engine::ModelConfig;
use paddock_engine::weights::Checkpoint;
use paddock_learn::data::{Example, Share};
use paddock_learn::objective::{Sft, SftOptions, Tuned};
use paddock_learn::optim::{AdamW, Bf16Update, Moments, OptimizerStep};
use paddock_learn::{Adjoint, Store, TapeOptions};
use paddock_tests::block_on;

use super::machine::{Machine, gibibytes, seconds};
use super::sizes::Steps;
use super::synthetic::Synthetic;

/// How weights, moments and gradients are held, and whether activations are computed twice. The first is what the
/// numbers that are asked for are about.
const SETTINGS: [(Bf16Update, Moments, Dtype, bool); 7] = [
    (Bf16Update::StochasticRounding, Moments::Bf16, Dtype::Bf16, true),
    (Bf16Update::StochasticRounding, Moments::Dynamic8, Dtype::Bf16, true),
    (Bf16Update::StochasticRounding, Moments::Dynamic8, Dtype::Bf16, false),
    (Bf16Update::StochasticRounding, Moments::Bf16, Dtype::Bf16, false),
    (Bf16Update::SplitMaster, Moments::Bf16, Dtype::Bf16, true),
    (Bf16Update::StochasticRounding, Moments::Bf16, Dtype::F32, true),
    (Bf16Update::SplitMaster, Moments::F32, Dtype::F32, true),
];

/// The table of a shape, as far as there is time.
pub fn table<B: Adjoint + Store<B>>(steps: &Steps, machine: &Machine<B>, in_time: impl Fn() -> bool) -> String {
    let mut text = format!(
        "{}, {} documents of {} tokens a step, half of them to be predicted, {} tokens at a time. MFU is held against \
         a large product of the same run; 50 % are asked.\n\n| weights | moments | gradients | checkpointing | tokens/s \
         | MFU | memory taken | estimated |\n|---|---|---|---|---:|---:|---:|---:|\n",
        steps.name, steps.documents, steps.length, steps.micro_batch_tokens
    );
    for (bf16_update, moments, gradients, gradient_checkpointing) in SETTINGS {
        let device = match machine.device {
            RunDevice::Cuda { .. } => RunDevice::Cuda { gradients },
            RunDevice::Cpu => RunDevice::Cpu,
        };
        let lean = machine.lean(steps.micro_batch_tokens);
        let dtype = files::Dtype::Bf16;
        let settings = MemorySettings { dtype, bf16_update, gradient_checkpointing, moments, ..lean.settings };
        let recipe = Recipe { device, settings, ..lean };
        let weights = match bf16_update {
            Bf16Update::StochasticRounding => "bf16, rounded stochastically",
            Bf16Update::SplitMaster => "bf16 and the rest of f32",
        };
        let gradients = if gradients == Dtype::F32 { "f32" } else { "bf16" };
        let checkpointing = if gradient_checkpointing { "yes" } else { "no" };
        text += &format!("| {weights} | {moments} | {gradients} | {checkpointing} ");
        eprintln!("measuring: {}, {weights}, moments {moments} …", steps.name);
        text += &row(steps, machine, &recipe, in_time()).unwrap_or_else(|error| format!("| failed: {error} | | | |\n"));
    }
    text
}

fn row<B: Adjoint + Store<B>>(steps: &Steps, machine: &Machine<B>, recipe: &Recipe, in_time: bool) -> Result<String> {
    let estimate = MemoryEstimate::new(&ModelConfig::from_json(&steps.model, None)?, recipe)?.total();
    let estimated = format!("{:.1} GiB", gibibytes(estimate));
    if estimate > usable(machine.memory) {
        return Ok(format!("| does not fit | | | {estimated} |\n"));
    }
    if !in_time {
        return Ok(format!("| not run: no time was left | | | {estimated} |\n"));
    }
    let Speed { tokens_per_s, mfu, taken } = speed(steps, machine, recipe)?;
    let taken = gibibytes(taken);
    Ok(format!("| {tokens_per_s:.0} | {:.1} % | {taken:.1} GiB | {estimated} |\n", 100.0 * mfu))
}

/// What steps of a recipe take.
pub struct Speed {
    pub tokens_per_s: f64,
    /// Share of the large product's speed.
    pub mfu: f64,
    /// Bytes.
    pub taken: u64,
}

/// Steps of packed documents.
///
/// # Errors
/// When the device fails.
pub fn speed<B: Adjoint + Store<B>>(steps: &Steps, machine: &Machine<B>, recipe: &Recipe) -> Result<Speed> {
    let mut checkpoint = block_on(Checkpoint::open(Synthetic::new(&steps.model)?))?;
    let tape = TapeOptions {
        checkpointing: recipe.settings.gradient_checkpointing,
        precision: recipe.settings.precision(),
        moments: recipe.settings.moments,
        frozen: false,
    };
    let options = SftOptions { tape, ..SftOptions::default() };
    let backend = (machine.open)(recipe.formats())?;
    let mut trainer =
        block_on(Sft::load(backend.clone(), backend.clone(), None, &mut checkpoint, options, &mut |_| {}))?;
    let config = trainer.objective().config().clone();
    let Steps { length, documents, .. } = *steps;
    let ids = |document: usize| (0..length).map(|i| ((i * 31 + document * 977) % config.vocab_size) as u32).collect();
    let examples: Vec<Example> =
        (0..documents).map(|d| Example { ids: ids(d), targets: (length / 2..length).collect() }).collect();
    let batch: Vec<&Example> = examples.iter().collect();
    let share = Share::whole(&batch, recipe.settings.micro_batch_tokens);
    let mut number = 0;
    let time = seconds(
        || (machine.wait)(&backend),
        3,
        || {
            number += 1;
            let adamw = AdamW::default();
            let settings = OptimizerStep { number, learning_rate: 1e-6, adamw, max_grad_norm: 1.0, seed: 1 };
            Ok(block_on(trainer.step(&share, &settings))?)
        },
    )?;
    let taken = (machine.taken)(&backend)?;
    let tokens = (documents * length) as f64;
    let parameters: usize = config.params().iter().map(|param| param.shape.iter().product::<usize>()).sum();
    let embedding = config.vocab_size * config.hidden_size;
    // Six a parameter and token without the embedding, and attention's half square, forward and backward.
    let attention = 6.0 * (config.num_hidden_layers * config.num_attention_heads * config.head_dim * length) as f64;
    let work = (6.0 * (parameters - embedding) as f64 + attention) * tokens;
    Ok(Speed { tokens_per_s: tokens / time, mfu: work / time / machine.peak, taken })
}
