//! A model on a paused tape answers with the weights that are trained: what it sampled has the same log-probabilities, to
//! the bit, in a recorded forward pass.

use paddock_engine::backend::{Cache, Cpu, Device, Operations, Sample, SampleRow, Sampling, Segments, WeightPart, cpu};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Encoding;
use paddock_learn::lora::{Lora, adapter_parameters};
use paddock_learn::objective::SftOptions;
use paddock_learn::tape::Tape;
use paddock_learn::{Parameters, TapeOptions};
use paddock_tests::gguf::GgufFile;
use paddock_tests::training::{CpuTrainer, documents, step, trainer};
use paddock_tests::{block_on, fixture_source};

const PROMPT: [u32; 6] = [1, 323, 288, 430, 366, 325];
/// Tokens of an answer.
const TOKENS: usize = 24;

/// Bits, so that numbers are compared to the last of them.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// An answer: its tokens, the logits that each was drawn from, and its log-probability by them.
#[derive(Debug, PartialEq)]
struct Rollout {
    ids: Vec<u32>,
    logits: Vec<u32>,
    logprobs: Vec<u32>,
}

/// Answers to [`PROMPT`], token by token with a cache, on the paused tape.
fn roll_out(model: &CausalLm<Tape<Cpu>>) -> Rollout {
    let tape = model.backend();
    let (config, heads, vocab) = (model.config(), model.trunk().heads(), model.config().vocab_size);
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, seed: 11, ..Sampling::default() };
    let identity = identity(tape.inner(), vocab);
    let pause = tape.pause();
    let mut cache = tape.kv_cache(config.num_hidden_layers, heads, 1, PROMPT.len() + TOKENS).unwrap();
    let mut sampler = tape.sampler(vocab, 1).unwrap();
    let (mut next, mut past) = (tape.tokens(&PROMPT).unwrap(), 0);
    let mut rollout = Rollout { ids: Vec::new(), logits: Vec::new(), logprobs: Vec::new() };
    for token in 0..TOKENS {
        let rows = if token == 0 { PROMPT.len() } else { 1 };
        let logits = model.forward_cached(&next, &Segments::continuation(rows, past, 0), &mut cache).unwrap();
        past += rows;
        let row = SampleRow { slot: 0, position: past as u32, sampling };
        next = tape.sample(&logits, &mut sampler, &[row]).unwrap();
        rollout.ids.extend(block_on(tape.read_tokens(std::slice::from_ref(&next))).unwrap());
        let logits = block_on(tape.read(&logits)).unwrap();
        let x = tape.inner().tensor([1, vocab], &logits).unwrap();
        let logprob = tape.inner().token_logprobs(&x, &identity, &next).unwrap();
        rollout.logprobs.extend(bits(logprob.values()));
        rollout.logits.extend(bits(&logits));
    }
    drop(pause);
    rollout
}

/// The unit matrix: logits go through it unchanged, so that their log-probabilities come from the very operation that a
/// model ends in.
fn identity(cpu: &Cpu, size: usize) -> cpu::Weight {
    let part = WeightPart { rows: size, encoding: Encoding::F32 };
    let mut weight = cpu.create_weight("identity", size, &[part]).unwrap();
    let values: Vec<f32> = (0..size * size).map(|i| f32::from(u8::from(i % (size + 1) == 0))).collect();
    cpu.write_values(&mut weight, 0, &values).unwrap();
    weight
}

/// The prompt and what was sampled without its last token, which tokens to predict at which rows.
struct Document {
    ids: Vec<u32>,
    rows: Vec<usize>,
    segments: Segments,
}

impl Document {
    fn of(rollout: &Rollout) -> Self {
        let ids = [&PROMPT[..], &rollout.ids[..TOKENS - 1]].concat();
        let rows = (PROMPT.len() - 1..ids.len()).collect();
        Self { segments: Segments::documents(&[ids.len()]), ids, rows }
    }
}

/// Fails unless a full recorded pass on the rollout's own tape gives its logits and its log-probabilities.
fn is_the_recorded_pass(trainer: &CpuTrainer, rollout: &Rollout) {
    let (tape, model, Document { ids, rows, segments }) =
        (trainer.tape(), trainer.objective().model(), Document::of(rollout));
    let ids = tape.tokens(&ids).unwrap();
    let logits = tape.select_rows(&model.forward(&ids, &segments).unwrap(), &rows).unwrap();
    assert!(bits(&block_on(tape.read(&logits)).unwrap()) == rollout.logits, "the cache changed a logit");
    tape.forget();
    let targets = tape.tokens(&rollout.ids).unwrap();
    let logprobs = model.token_logprobs(&ids, &segments, &rows, &targets).unwrap();
    assert_eq!(bits(&block_on(tape.read(&logprobs)).unwrap()), rollout.logprobs, "the cache changed a log-probability");
    tape.forget();
}

/// The gradients of the log-probability of a rollout.
fn gradients(trainer: &CpuTrainer, rollout: &Rollout) -> Vec<Vec<u32>> {
    let (tape, Document { ids, rows, segments }) = (trainer.tape(), Document::of(rollout));
    let (ids, targets) = (tape.tokens(&ids).unwrap(), tape.tokens(&rollout.ids).unwrap());
    let logprobs = trainer.objective().model().token_logprobs(&ids, &segments, &rows, &targets).unwrap();
    block_on(tape.backward(&[(&logprobs, vec![1.0; rows.len()])])).unwrap();
    let trained = tape.parameters().into_iter().filter(|info| info.trained);
    trained.map(|info| bits(&block_on(tape.read_gradient(info.id)).unwrap())).collect()
}

/// Rolls out before and after some steps of training; `make` loads the same model each time.
fn rollouts_are_the_policys(make: impl Fn() -> CpuTrainer) {
    let train = |trainer: &mut CpuTrainer| {
        for number in 1..=3 {
            step(trainer, number, 5e-3, &documents());
        }
    };
    let mut trainer = make();
    let before = roll_out(trainer.objective().model());
    is_the_recorded_pass(&trainer, &before);
    train(&mut trainer);
    let after = roll_out(trainer.objective().model());
    is_the_recorded_pass(&trainer, &after);
    assert_ne!(before.logprobs[0], after.logprobs[0], "the rollout knows nothing of the training");
    // What was paused leaves nothing behind: a model that made no rollouts learns the same from this one.
    let mut fresh = make();
    train(&mut fresh);
    let learned = gradients(&trainer, &after);
    assert!(learned.iter().all(|gradient| gradient.iter().any(|value| *value != 0)));
    assert!(learned == gradients(&fresh, &after), "a rollout changed a gradient");
}

#[test]
fn a_model_answers_with_the_weights_that_are_trained() {
    for name in ["sft", "llama-gqa-tied-sharded"] {
        for checkpointing in [false, true] {
            rollouts_are_the_policys(|| {
                let tape = TapeOptions { checkpointing, ..TapeOptions::default() };
                trainer(fixture_source(name), SftOptions { tape, ..SftOptions::default() })
            });
        }
    }
}

#[test]
fn adapters_on_a_trunk_of_4_bits_answer_as_they_are_trained() {
    for name in ["sft", "llama-gqa-tied-sharded"] {
        let file = GgufFile::at_4_bits(name);
        rollouts_are_the_policys(|| {
            let targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"].map(String::from).to_vec();
            let lora = Some(Lora { rank: 4, alpha: 8.0, targets, dropout: 0.0 });
            let trainer = trainer(file.source(), SftOptions { lora, seed: 5, ..SftOptions::default() });
            // With b of zeros an adapter does nothing.
            for info in adapter_parameters(trainer.tape()).iter().filter(|info| info.label.contains("lora_B")) {
                let values: Vec<f32> = (0..info.len()).map(|i| (i * 31 % 17) as f32 / 100.0 - 0.08).collect();
                trainer.tape().write_parameter(info.id, 0, &values).unwrap();
            }
            trainer
        });
    }
}
