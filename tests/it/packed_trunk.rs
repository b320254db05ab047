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
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let lora = Some(Lora { rank: 4, alpha: 8.0, targets: targets.map(String::from).to_vec() });
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
