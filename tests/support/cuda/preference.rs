//! A reward model's scores and gradients on the device and on the CPU, whose own are held against PyTorch's.

use paddock::cuda::{Cuda, Driver, Dtype};
use paddock_engine::backend::{Cpu, Device, Operations, Segments};
use paddock_engine::model::{Fresh, ScoreModel};
use paddock_engine::weights::Checkpoint;
use paddock_learn::loss::reward_loss;
use paddock_learn::optim::Precision;
use paddock_learn::{Adjoint, Store, Tape, TapeOptions};

use super::{Comparison, Inputs};
use crate::{block_on, fixtures, folder_source};

/// Tokens of the fixture's vocabulary that are used.
const VOCAB: usize = 200;
/// Largest distance of scores, and of a gradient relative to its length, that f32 sums in another order make.
const F32_TOLERANCE: f32 = 1e-3;
/// The same in bf16, two blocks deep.
const BF16_TOLERANCE: f32 = 1e-1;

/// What a backend gave.
struct Rewards {
    scores: Vec<f32>,
    gradients: Vec<(String, Vec<f32>)>,
}

/// Scores of two pairs of conversations, and the gradients of the reward loss by every parameter.
fn rewards<B: Adjoint + Store<B>>(
    backend: B,
    precision: Precision,
    length: usize,
    seed: u32,
) -> paddock::Result<Rewards> {
    block_on(async {
        let tape = Tape::new(backend, TapeOptions { checkpointing: true, precision, ..TapeOptions::default() });
        let mut checkpoint = Checkpoint::open(folder_source(&fixtures().join("score"))).await?;
        let model = ScoreModel::load(&tape, &mut checkpoint, &mut |_| {}).await?;
        let lengths = [length, length / 2 + 1, length - 1, 3];
        let segments = Segments::documents(&lengths);
        let ids = Inputs::new(seed).indices(segments.rows(), VOCAB);
        let all = model.forward(&tape.tokens(&ids)?, &segments, &mut Fresh)?;
        let ends = tape.select_rows(&all, &segments.last_rows())?;
        let scores = tape.read(&ends).await?;
        // Whatever the scores are, the seeds are the same on every device.
        let loss = reward_loss(&[0.5, -0.25], &[0.25, 0.75], 0.1);
        tape.backward(&[(&ends, [loss.first, loss.second].concat())]).await?;
        let mut gradients = Vec::new();
        for info in tape.parameters().into_iter().filter(|info| info.trained) {
            gradients.push((info.label, tape.read_gradient(info.id).await?));
        }
        Ok(Rewards { scores, gradients })
    })
}

/// Scores, and the distance of each parameter's gradient relative to its length.
///
/// # Errors
/// When the device fails.
pub fn reward_gradients_are_the_cpus<D: Driver>(
    cuda: &Cuda<D>,
    length: usize,
    seed: u32,
) -> paddock::Result<Vec<Comparison>> {
    let (precision, tolerance) = match cuda.formats().values {
        Dtype::F32 => (Precision::F32, F32_TOLERANCE),
        Dtype::Bf16 => (Precision::Bf16Split, BF16_TOLERANCE),
    };
    let got = rewards(cuda.clone(), precision, length, seed)?;
    let expected = rewards(Cpu::with_threads(2), Precision::F32, length, seed)?;
    let mut comparisons = vec![Comparison::new("reward: scores".into(), &got.scores, &expected.scores, tolerance, 1.0)];
    for ((label, got), (_, expected)) in got.gradients.iter().zip(&expected.gradients) {
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
        let distance = norm(&mut got.iter().zip(expected).map(|(got, expected)| got - expected));
        let distance = distance / norm(&mut expected.iter().copied()).max(1e-6);
        comparisons.push(Comparison::new(format!("reward: gradient of {label}"), &[distance], &[0.0], tolerance, 1.0));
    }
    Ok(comparisons)
}
