//! A short fine-tuning run that a browser tab and the native tests make alike: adapters on a model in memory, on the CPU
//! backend.

#[cfg(target_arch = "wasm32")]
mod export;

use paddock_engine::backend::Cpu;
use paddock_engine::weights::{Checkpoint, MemorySource};
use paddock_learn::data::{Example, Share};
use paddock_learn::lora::Lora;
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::optim::{AdamW, OptimizerStep};
use paddock_learn::{Error, Result, TapeOptions};
use serde::Deserialize;

/// Examples of a step.
const BATCH: usize = 4;

#[derive(Deserialize)]
struct Expected {
    encoded: Vec<Encoded>,
}

/// An example as transformers encodes it: a label below 0 is not to be learned.
#[derive(Deserialize)]
struct Encoded {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

/// The examples in the `expected.json` of a fixture.
///
/// # Errors
/// When it holds none.
pub fn examples(json: &[u8]) -> Result<Vec<Example>> {
    let expected: Expected = serde_json::from_slice(json)
        .map_err(|error| Error::Request(format!("expected a fixture's encoded examples ({error})")))?;
    let example = |Encoded { input_ids, labels }: Encoded| {
        let targets = (1..labels.len()).filter(|position| labels[*position] >= 0).collect();
        Example { ids: input_ids, targets }
    };
    Ok(expected.encoded.into_iter().map(example).collect())
}

/// The losses of `steps` steps in which adapters of all modules are trained on the model in `source`.
///
/// # Errors
/// When the model cannot be loaded, or a step fails.
pub async fn losses(source: MemorySource, examples: &[Example], steps: usize) -> Result<Vec<f64>> {
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let lora = Some(Lora { rank: 4, alpha: 8.0, targets: targets.map(String::from).to_vec(), dropout: 0.0 });
    let tape = TapeOptions { checkpointing: true, ..TapeOptions::default() };
    let options = SftOptions { tape, lora, seed: 7, ..SftOptions::default() };
    let cpu = Cpu::with_threads(1);
    let mut checkpoint = Checkpoint::open(source).await?;
    let mut trainer = Sft::load(cpu.clone(), cpu, None, &mut checkpoint, options, &mut |_| {}).await?;
    let mut losses = Vec::new();
    for step in 0..steps {
        let batch: Vec<&Example> = examples.iter().cycle().skip(step * BATCH).take(BATCH).collect();
        let settings = OptimizerStep {
            number: step as u64 + 1,
            learning_rate: 5e-3,
            adamw: AdamW::default(),
            max_grad_norm: 1.0,
            seed: 0,
        };
        losses.push(trainer.step(&Share::whole(&batch, 2048), &settings).await?.loss);
    }
    Ok(losses)
}
