//! Headers at the limits of what is read, and the checks on what they say. Layout: llama.cpp's `gguf.md`.

use std::cell::Cell;
use std::ops::Range;

use pollster::block_on;

use super::*;
use crate::config::{Head, HeadSpec};
use crate::weights::MemorySource;
use crate::weights::tiny_model;

fn text(text: &str) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// A metadata key with a value of type `kind`.
fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(name).as_slice(), &kind.to_le_bytes(), value].concat()
}

fn number(name: &str, value: u32) -> Vec<u8> {
    key(name, 4, &value.to_le_bytes())
}

fn list(kind: u32, count: u64, items: &[u8]) -> Vec<u8> {
    key("a", 9, &[kind.to_le_bytes().as_slice(), &count.to_le_bytes(), items].concat())
}

/// A line of the tensor table, of type F32.
fn tensor(name: &str, dimensions: &[u64], offset: u64) -> Vec<u8> {
    let rank = (dimensions.len() as u32).to_le_bytes();
    let sizes: Vec<u8> = dimensions.iter().flat_map(|size| size.to_le_bytes()).collect();
    [text(name).as_slice(), &rank, &sizes, &0u32.to_le_bytes(), &offset.to_le_bytes()].concat()
}

fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
    let counts = [tensors.len() as u64, keys.len() as u64].map(u64::to_le_bytes).concat();
    [b"GGUF".as_slice(), &3u32.to_le_bytes(), &counts, &keys.concat(), &tensors.concat()].concat()
}

/// `header`, padded to `alignment`, and `count` bytes of data.
fn with_data(mut header: Vec<u8>, alignment: usize, count: usize) -> Vec<u8> {
    header.resize(header.len().next_multiple_of(alignment) + count, 0);
    header
}

fn complete(bytes: &[u8]) -> Header {
    match parse("m", bytes, bytes.len() as u64).unwrap() {
        Parsed::Complete(header) => header,
        Parsed::Incomplete => panic!("the header is complete"),
    }
}

fn refused(bytes: &[u8]) -> String {
    parse("m", bytes, bytes.len() as u64).unwrap_err().to_string()
}

fn numbers(values: [u64; 3]) -> Value {
    Value::Array(Array::Numbers(values.map(Number::Unsigned).to_vec()))
}

#[test]
fn a_header_may_end_with_the_file_and_not_beyond() {
    assert!(complete(&file(&[], &[])).tensors.is_empty());
    assert_eq!(complete(&file(&[key("a", 0, &[7])], &[])).metadata["a"], Value::Number(Number::Unsigned(7)));
    assert_eq!(complete(&file(&[list(0, 3, &[1, 2, 3])], &[])).metadata["a"], numbers([1, 2, 3]));
    assert!(refused(&file(&[key("a", 8, &1000u64.to_le_bytes())], &[])).contains("wants 1000 bytes"));
}

#[test]
fn counts_are_checked_before_items_are_read() {
    assert!(refused(&file(&[list(0, 4, &[1, 2, 3])], &[])).contains("4 list items, more than its 3 bytes"));
    assert!(refused(&file(&[list(8, 2, &[0; 15])], &[])).contains("2 list items, more than its 15 bytes"));
}

#[test]
fn lists_of_truth_values_are_read() {
    let bools = Value::Array(Array::Bools(vec![true, false]));
    assert_eq!(complete(&file(&[list(7, 2, &[1, 0])], &[])).metadata["a"], bools);
}

#[test]
fn names_and_ranks_have_limits() {
    assert_eq!(complete(&file(&[key(&"k".repeat(65536), 0, &[7])], &[])).metadata.len(), 1);
    assert!(refused(&file(&[key(&"k".repeat(65537), 0, &[7])], &[])).contains("not plausible"));
    let four = with_data(file(&[], &[tensor("t", &[1; 4], 0)]), 32, 4);
    assert_eq!(complete(&four).tensors["t"].dimensions, [1; 4]);
    assert!(refused(&with_data(file(&[], &[tensor("t", &[1; 5], 0)]), 32, 4)).contains("5 dimensions"));
}

#[test]
fn alignment_is_a_power_of_two_of_at_most_a_mebibyte() {
    let aligned = |alignment: u32| file(&[number("general.alignment", alignment)], &[]);
    for alignment in [64, 1 << 20] {
        complete(&aligned(alignment));
    }
    for alignment in [0, 48, 1 << 21] {
        assert!(refused(&aligned(alignment)).contains("power of two"), "{alignment}");
    }
    let header = file(&[number("general.alignment", 64)], &[tensor("a", &[1], 0), tensor("b", &[1], 64)]);
    let data = header.len().next_multiple_of(64) as u64;
    assert_eq!(complete(&with_data(header, 64, 68)).tensors["b"].offset, data + 64);
}

/// A file that begins with `header` and goes on with zeros.
struct Zeros {
    header: Vec<u8>,
    size: u64,
    reads: Cell<usize>,
}

impl Zeros {
    /// With one text of `count` bytes.
    fn new(count: u64) -> Self {
        let header = file(&[key("a", 8, &count.to_le_bytes())], &[]);
        Self { size: header.len() as u64 + count, header, reads: Cell::new(0) }
    }
}

impl Source for Zeros {
    fn list(&self) -> Vec<String> {
        Vec::new()
    }

    async fn size(&self, _: &str) -> Result<Option<u64>> {
        Ok(Some(self.size))
    }

    async fn read(&self, _: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < 10, "each read doubles what is known");
        let rest = self.header.get(range.start as usize..).unwrap_or_default();
        let mut bytes = rest.to_vec();
        bytes.resize((range.end - range.start) as usize, 0);
        Ok(bytes)
    }
}

#[test]
fn a_long_header_is_read_in_growing_pieces_up_to_a_limit() {
    let source = Zeros::new(9 << 20);
    assert_eq!(block_on(read_header(&source, "m")).unwrap().metadata.len(), 1);
    // The first bytes, then up to 4, 8 and 9 MiB.
    assert_eq!(source.reads.get(), 4);
    let endless = block_on(read_header(&Zeros::new(1 << 30), "m")).unwrap_err().to_string();
    assert!(endless.contains("does not end within"), "{endless}");
}

/// A model in `count` parts of one tensor each that promises `promised` tensors.
fn join(count: u32, promised: u32) -> Result<usize> {
    let part = |part: u32| {
        let keys = [number("split.no", part), number("split.count", count), number("split.tensors.count", promised)];
        (part.to_string(), with_data(file(&keys, &[tensor(&format!("t{part}"), &[1], 0)]), 32, 4))
    };
    let source = MemorySource { files: (0..count).map(part).collect() };
    let files = source.list();
    let mut header = block_on(read_header(&source, "0"))?;
    block_on(join_parts(&source, &mut header, &files))?;
    Ok(header.tensors.len())
}

#[test]
fn the_parts_hold_as_many_tensors_as_promised() {
    assert_eq!(join(2, 2).unwrap(), 2);
    assert!(join(2, 3).unwrap_err().to_string().contains("hold 2 tensors, expected 3"));
    // Of a model in one file the number says nothing.
    assert_eq!(join(1, 5).unwrap(), 1);
}

fn entry(dimensions: &[u64], kind: u32) -> TensorEntry {
    TensorEntry { dimensions: dimensions.to_vec(), kind, part: 0, offset: 0 }
}

#[test]
fn a_score_model_may_have_its_old_head_and_nothing_else() {
    let mut config = tiny_model::config(3);
    config.head = Head::Score(HeadSpec::classifier());
    let params = config.params();
    let names = params.iter().filter_map(|param| gguf_name(&param.name)).chain(["output.weight".to_string()]);
    let mut header = Header::default();
    header.tensors.extend(names.map(|name| (name, entry(&[1], 0))));
    assert_eq!(check_tensors("m", &header, &config, &params).unwrap(), None);
    header.tensors.insert("blk.0.other.weight".to_string(), entry(&[1], 0));
    assert!(check_tensors("m", &header, &config, &params).is_err());
}

#[test]
fn rotary_divisors_are_positive_numbers_one_for_each_pair() {
    let config = tiny_model::config(3);
    let read = |values: [f32; 4], dimensions: &[u64], kind: u32| {
        let mut header = Header::default();
        header.tensors.insert("rope_freqs.weight".to_string(), entry(dimensions, kind));
        let bytes = values.map(f32::to_le_bytes).concat();
        let source = MemorySource { files: [("m".to_string(), bytes)].into() };
        block_on(rope_factors(&source, &["m".to_string()], &header, &config))
    };
    let good = [1.0, 2.0, 4.0, 8.0];
    assert_eq!(read(good, &[4], 0).unwrap(), Some(good.to_vec()));
    for (dimensions, kind) in [([3], 0), ([4], 1)] {
        assert!(read(good, &dimensions, kind).unwrap_err().to_string().contains("expected shape [4]"));
    }
    for wrong in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        assert!(read([1.0, wrong, 1.0, 1.0], &[4], 0).unwrap_err().to_string().contains("not a positive number"));
    }
}
