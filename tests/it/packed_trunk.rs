//! Adapters on a frozen trunk of 4 bits, which stays packed.

use paddock_engine::weights::Checkpoint;
use paddock_learn::TapeOptions;
use paddock_learn::data::Share;
use paddock_learn::lora::{Lora, adapter_parameters};
use paddock_learn::objective::{Objective, SftOptions, Tuned};
use paddock_learn::tape::named;
use paddock_tests::gguf::GgufFile;
use paddock_tests::training::{CpuTrainer, documents, step, trainer};
use paddock_tests::{block_on, distance};

/// All of its matrices have rows of whole blocks.
const MODEL: &str = "llama-gqa-tied-sharded";
/// Largest distance of gradients over packed weights from those over the same values in f32, relative: products that are
/// summed in another order.
const TOLERANCE: f64 = 1e-5;

fn adapted(file: &GgufFile, checkpointing: bool) -> CpuTrainer {
    adapted_with(file, checkpointing, 0.0)
}

fn adapted_with(file: &GgufFile, checkpointing: bool, dropout: f32) -> CpuTrainer {
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let lora = Some(Lora { rank: 4, alpha: 8.0, targets: targets.map(String::from).to_vec(), dropout });
    let tape = TapeOptions { checkpointing, ..TapeOptions::default() };
    let trainer = trainer(file.source(), SftOptions { tape, lora, seed: 9, ..SftOptions::default() });
    for info in adapter_parameters(trainer.tape()).iter().filter(|info| info.label.contains("lora_B")) {
        let values: Vec<f32> = (0..info.len()).map(|i| (i * 29 % 19) as f32 / 100.0 - 0.09).collect();
        trainer.tape().write_parameter(info.id, 0, &values).unwrap();
    }
    trainer
}

/// The gradients of a pass over the documents, by the adapters' names.
fn gradients(trainer: &CpuTrainer) -> Vec<(String, Vec<f32>)> {
    let documents = documents();
    let batch = Share::whole(&documents.iter().collect::<Vec<_>>(), usize::MAX);
    block_on(trainer.objective().accumulate(trainer.tape(), &batch)).unwrap();
    let gradient = |id| block_on(trainer.tape().read_gradient(id)).unwrap();
    adapter_parameters(trainer.tape()).into_iter().map(|info| (info.label, gradient(info.id))).collect()
}

#[test]
fn gradients_over_packed_weights_are_those_over_their_values() {
    let packed = GgufFile::at_4_bits(MODEL);
    let expected = gradients(&adapted(&packed.dequantized(), false));
    assert_eq!(expected.len(), 3 * 7 * 2);
    for checkpointing in [false, true] {
        for ((name, got), (_, expected)) in gradients(&adapted(&packed, checkpointing)).iter().zip(&expected) {
            let off = distance(got, expected);
            assert!(off < TOLERANCE, "{name}: off by {off}");
        }
    }
    // The comparison can fail: the weights before they were quantised have other gradients.
    let exact = GgufFile::from_fixture(MODEL, |_| paddock_engine::weights::Encoding::F32);
    let other = gradients(&adapted(&exact, false));
    assert!(other.iter().zip(&expected).all(|((_, a), (_, b))| distance(a, b) > 100.0 * TOLERANCE));
}

/// What is dropped does not depend on how a batch is cut, nor on whether a pass is computed anew; and the gradients are those of
/// what was computed, by differences of the loss.
#[test]
fn dropout_is_the_same_however_a_batch_is_cut() {
    let file = GgufFile::from_fixture(MODEL, |_| paddock_engine::weights::Encoding::F32);
    let documents = documents();
    let batch: Vec<_> = documents.iter().collect();
    let run = |checkpointing: bool, tokens: usize, rate: f32, noise: u32| {
        let trainer = adapted_with(&file, checkpointing, rate);
        trainer.tape().set_noise(noise);
        let share = Share::whole(&batch, tokens);
        let passes = block_on(trainer.objective().accumulate(trainer.tape(), &share)).unwrap();
        let loss = block_on(trainer.objective().loss(trainer.tape(), passes)).unwrap().loss;
        let gradient = |id| block_on(trainer.tape().read_gradient(id)).unwrap();
        let all = adapter_parameters(trainer.tape()).into_iter().map(|info| (info.label, gradient(info.id)));
        (loss, all.collect::<Vec<_>>())
    };
    let (loss, expected) = run(false, usize::MAX, 0.3, 1);
    for (checkpointing, tokens) in [(true, usize::MAX), (false, 1), (true, 20)] {
        let (found_loss, found) = run(checkpointing, tokens, 0.3, 1);
        assert!((found_loss / loss - 1.0).abs() < 1e-6, "{found_loss} {loss}");
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            assert!(distance(found, expected) < TOLERANCE, "{name}, {tokens} tokens");
        }
    }
    for (rate, noise) in [(0.0, 1), (0.3, 2)] {
        let (other_loss, other) = run(false, usize::MAX, rate, noise);
        assert!((other_loss / loss - 1.0).abs() > 1e-5);
        assert!(other.iter().zip(&expected).all(|((_, a), (_, b))| distance(a, b) > 100.0 * TOLERANCE));
    }
    // A step along a gradient changes the loss by its squared length.
    let trainer = adapted_with(&file, false, 0.3);
    let loss_after = |sign: f32| {
        trainer.tape().set_noise(1);
        for (info, (_, gradient)) in adapter_parameters(trainer.tape()).iter().zip(&expected) {
            let values = block_on(trainer.tape().read_parameter(info.id)).unwrap();
            let moved: Vec<f32> = values.iter().zip(gradient).map(|(value, grad)| value + sign * STEP * grad).collect();
            trainer.tape().write_parameter(info.id, 0, &moved).unwrap();
        }
        let passes =
            block_on(trainer.objective().accumulate(trainer.tape(), &Share::whole(&batch, usize::MAX))).unwrap();
        block_on(trainer.objective().loss(trainer.tape(), passes)).unwrap().loss
    };
    const STEP: f32 = 0.01;
    let (above, below) = (loss_after(1.0), loss_after(-2.0));
    let squares: f64 = expected.iter().flat_map(|(_, values)| values).map(|value| f64::from(*value).powi(2)).sum();
    let found = (above - below) / (2.0 * f64::from(STEP));
    assert!((found / squares - 1.0).abs() < 1e-2, "{found} {squares}");
}

/// The values of the trunk's parameters, as bits.
fn trunk(trainer: &CpuTrainer) -> Vec<Vec<u32>> {
    let adapters: Vec<_> = adapter_parameters(trainer.tape()).iter().map(|info| info.id).collect();
    let parameters = trainer.tape().parameters().into_iter().filter(|info| !adapters.contains(&info.id));
    let bits = |values: Vec<f32>| values.iter().map(|value| value.to_bits()).collect();
    parameters.map(|info| bits(block_on(trainer.tape().read_parameter(info.id)).unwrap())).collect()
}

#[test]
fn a_packed_trunk_is_learned_upon_and_stays_as_it_is() {
    let file = GgufFile::at_4_bits(MODEL);
    let mut trainer = adapted(&file, true);
    let before = trunk(&trainer);
    // Its values are the file's, and it takes no others: it is packed.
    let mut checkpoint = block_on(Checkpoint::open(file.dequantized().source())).unwrap();
    let tensors = named(trainer.objective().config().params(), trainer.tape()).unwrap();
    let mut packed = 0;
    for tensor in &tensors {
        let values = block_on(trainer.tape().read_parameter(tensor.parameter)).unwrap();
        let bytes = block_on(checkpoint.read_rows(&tensor.param.name, 0..tensor.param.shape[0])).unwrap();
        let expected: Vec<f32> = bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        assert!(tensor.values(&values) == expected, "{} was loaded as other values", tensor.param.name);
        let is_matrix = tensor.param.shape[0] > 1;
        let refused = trainer.tape().write_parameter(tensor.parameter, 0, &[0.5]);
        assert_eq!(refused.is_err(), is_matrix, "{}", tensor.param.name);
        packed += usize::from(is_matrix);
        if !is_matrix {
            trainer.tape().write_parameter(tensor.parameter, 0, &values[..1]).unwrap();
        }
    }
    assert_eq!(packed, 3 * 7 + 1);
    assert!(trunk(&trainer) == before);

    let losses: Vec<f64> = (1..=10).map(|number| step(&mut trainer, number, 1e-2, &documents())).collect();
    assert!(losses[9] < 0.8 * losses[0], "{losses:?}");
    assert!(trunk(&trainer) == before, "a step changed the frozen trunk");

    // The same run over the same values in f32 has the same losses.
    let mut exact = adapted(&file.dequantized(), true);
    for (number, loss) in (1..).zip(&losses) {
        let expected = step(&mut exact, number, 1e-2, &documents());
        assert!((loss / expected - 1.0).abs() < 1e-4, "step {number}: loss {loss}, expected {expected}");
    }
}
