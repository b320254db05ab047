//! Models that are fine-tuned on the CPU, and what they are fine-tuned on.

use paddock_engine::backend::Cpu;
use paddock_engine::weights::{Checkpoint, MemorySource};
use paddock_learn::Trainer;
use paddock_learn::data::{Example, Share};
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::optim::{AdamW, OptimizerStep};

use crate::block_on;

/// A model that is fine-tuned on the CPU.
pub type CpuTrainer = Trainer<Cpu, Sft<Cpu>>;

/// A trainer of the model in `source`.
///
/// # Panics
/// When it cannot be loaded.
pub fn trainer(source: MemorySource, options: SftOptions) -> CpuTrainer {
    let cpu = Cpu::with_threads(2);
    block_on(async {
        let mut checkpoint = Checkpoint::open(source).await.expect("a model");
        Sft::load(cpu.clone(), cpu, None, &mut checkpoint, options, &mut |_| {}).await.expect("the model loads")
    })
}

/// Two documents in tokens of the fixtures, with all but the first token to be learned.
pub fn documents() -> [Example; 2] {
    let ids: [&[u32]; 2] = [&[1, 323, 288, 430, 366, 325, 349, 324, 311, 346, 308], &[1, 505, 486, 346, 315, 366, 479]];
    ids.map(|ids| Example { ids: ids.to_vec(), targets: (1..ids.len()).collect() })
}

/// Trains step `number`, from 1 on, on `examples`; the loss before it.
///
/// # Panics
/// When the step fails.
pub fn step(trainer: &mut CpuTrainer, number: u64, learning_rate: f64, examples: &[Example]) -> f64 {
    let batch: Vec<&Example> = examples.iter().collect();
    let adamw = AdamW::default();
    let settings = OptimizerStep { number, learning_rate, adamw, max_grad_norm: 1.0, seed: 3 };
    block_on(trainer.step(&Share::whole(&batch, usize::MAX), &settings)).expect("a step").loss
}
