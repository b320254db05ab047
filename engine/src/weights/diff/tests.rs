//! Diffs of a tiny model: what is recovered, and what is said when it is not the tuned model.

use std::collections::HashMap;

use pollster::block_on;

use super::base::{Base, check_pair};
use super::numbers::{Tally, add_bits, subtract_bits};
use super::*;
use crate::prompt::TemplateKind;
use crate::weights::pack::Weights;
use crate::weights::tiny_model::{EMBEDDING, NORM, Q, folder, pack};
use crate::weights::{Checkpoint, Encoding, MemorySource, TensorInfo};

const VOCAB: usize = 5;

/// Sixty-fourths, so that sums are exact; no two rows are equal.
fn value(name: &str, index: usize) -> f32 {
    ((name.len() * 31 + index * 7919) % 1009) as f32 / 64.0 - 7.0
}

fn tuned(name: &str, index: usize) -> f32 {
    value(name, index) + ((index * 37) % 101) as f32 / 64.0
}

/// [`value`] with the rows of each head of q in another order: row `row` of a head is the model's row `order(row)`.
fn reordered(order: fn(usize) -> usize) -> MemorySource {
    folder(VOCAB, move |name, index| {
        let (row, column) = (index / 16, index % 16);
        value(name, if name == Q { (row / 8 * 8 + order(row % 8)) * 16 + column } else { index })
    })
}

fn open(source: MemorySource) -> Checkpoint<MemorySource> {
    block_on(Checkpoint::open(source)).unwrap()
}

fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// The diff of the models `tuned` and `value`, with its description.
fn diff() -> Checkpoint<MemorySource> {
    let mut made = Difference::new(open(folder(VOCAB, value)), open(folder(VOCAB, tuned)), Method::Sum).unwrap();
    let mut digests = Vec::new();
    let mut rows = HashMap::new();
    for info in made.tensors(Encoding::F32) {
        rows.insert(info.name.clone(), block_on(made.rows(&info.name, 0..info.shape[0], Encoding::F32)).unwrap());
        digests.push(made.finish(&info.name));
    }
    let number = |name: &str, index: usize| f32::from_le_bytes(*rows[name][4 * index..].first_chunk().unwrap());
    let mut source = folder(VOCAB, number);
    let description = serde_json::to_vec(&WeightDiff::new(Method::Sum, digests)).unwrap();
    source.files.insert(WEIGHT_DIFF.to_string(), description);
    open(source)
}

fn recovery(base: MemorySource) -> Recovery<MemorySource, MemorySource> {
    Recovery::new(open(base), diff()).unwrap()
}

/// What is said of q when the base is `base`.
fn refusal(base: MemorySource) -> String {
    let mut recovery = recovery(base);
    block_on(recovery.rows(Q, 0..16, Encoding::F32)).unwrap();
    block_on(recovery.finish(Q)).unwrap_err().to_string()
}

#[test]
fn rows_in_another_rotary_order_are_recognised_and_others_are_not() {
    // The halves of Hugging Face's order lie alternately in Meta's: row j × 4 + i of a head of eight at 2 × i + j.
    let interleaved = refusal(reordered(|row| row % 2 * 4 + row / 2));
    assert!(interleaved.contains("wrong rotary layout"), "{interleaved}");
    let split = refusal(reordered(|row| row % 4 * 2 + row / 4));
    assert!(split.contains("wrong rotary layout"), "{split}");
    let other = refusal(folder(VOCAB, |name, index| value(name, index) + if index == 5 { 1.0 } else { 0.0 }));
    assert!(other.contains("wrong base") && !other.contains("rotary"), "{other}");
}

#[test]
fn what_is_packed_is_the_tuned_model_and_verified_with_the_last_row() {
    let mut good = recovery(folder(VOCAB, value));
    let names: Vec<String> = Weights::tensors(&good).into_iter().map(|info| info.name).collect();
    assert!(names.len() == 11 && names.contains(&Q.to_string()), "{names:?}");
    let halves = [0..8, 8..16].map(|rows| block_on(Weights::read_rows(&mut good, Q, rows)).unwrap());
    assert_eq!(halves.concat(), bytes((0..256).map(|index| tuned(Q, index))));
    let norm = block_on(Weights::read_rows(&mut good, NORM, 0..1)).unwrap();
    assert_eq!(norm, bytes((0..16).map(|index| tuned(NORM, index))));

    let mut wrong = recovery(folder(VOCAB, |name, index| value(name, index) + 1.0));
    block_on(Weights::read_rows(&mut wrong, Q, 0..8)).unwrap();
    assert!(block_on(Weights::read_rows(&mut wrong, Q, 8..16)).is_err());
}

#[test]
fn a_packed_diff_keeps_its_prompt_format_and_its_digests_are_checked() {
    let base = || open(folder(3, value));
    let mut recovery = Recovery::new(base(), open(pack())).unwrap();
    assert_eq!(Weights::template(&recovery), TemplateKind::Alpaca);
    assert!(block_on(recovery.finish_files()).is_err());
    let mut recovery = Recovery::new(base(), open(pack())).unwrap();
    assert!(block_on(Weights::finish(&mut recovery)).is_err());
}

#[test]
fn new_tokens_are_the_mean_of_the_base_s_rows() {
    let mut base = Base::new(open(folder(3, value)));
    let rows = block_on(base.rows(EMBEDDING, 0..5, 5, Encoding::F32)).unwrap();
    let own = (0..48).map(|index| value(EMBEDDING, index));
    let mean = (0..16).map(|column| (0..3).map(|row| value(EMBEDDING, row * 16 + column)).sum::<f32>() / 3.0);
    assert_eq!(rows, bytes(own.chain(mean.clone()).chain(mean)));
}

#[test]
fn a_base_with_more_tokens_is_told_from_another_model() {
    let base = open(folder(3, value));
    let refusal = |name: &str, shape| {
        let other = TensorInfo { name: name.to_string(), shape, encoding: Encoding::F32 };
        check_pair(&base, &other).unwrap_err().to_string()
    };
    assert!(refusal(EMBEDDING, [2, 16]).contains("more tokens"));
    for other in [refusal(EMBEDDING, [3, 15]), refusal(Q, [17, 16])] {
        assert!(other.contains("another model") && !other.contains("more tokens"), "{other}");
    }
}

#[test]
fn the_diff_has_the_numbers_that_are_asked_for() {
    let made = Difference::new(open(folder(3, value)), open(folder(3, tuned)), Method::Sum).unwrap();
    assert!(made.tensors(Encoding::F16).iter().all(|info| info.encoding == Encoding::F16));
}

#[test]
fn a_description_of_another_version_or_of_blocks_is_refused() {
    let parse = |version: u32, encoding: &str| {
        let text = format!(
            r#"{{"version":{version},"method":"sum","tensors":[{{"name":"a","encoding":"{encoding}","base_encoding":"F32","sha256":""}}]}}"#
        );
        WeightDiff::parse(text.as_bytes())
    };
    assert!(parse(1, "F32").is_ok());
    assert!(parse(2, "F32").is_err());
    assert!(parse(1, "Q8_0").is_err());
}

#[test]
fn the_sum_counts_every_value_once() {
    let mut tally = Tally::default();
    tally.add(&[], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
    tally.add(&[], &[512.0]);
    assert_eq!(tally.sum, 1023.0);
}

#[test]
fn patterns_borrow_and_carry_within_one_number_only() {
    for (encoding, difference) in [(Encoding::F32, [0xff, 0xff, 0, 0]), (Encoding::BF16, [0xff, 0xff, 1, 0])] {
        let mut pattern = [0, 0, 1, 0];
        subtract_bits(encoding, &mut pattern, &[1, 0, 0, 0]);
        assert_eq!(pattern, difference, "{encoding:?}");
        add_bits(encoding, &mut pattern, &[1, 0, 0, 0]);
        assert_eq!(pattern, [0, 0, 1, 0], "{encoding:?}");
    }
}
