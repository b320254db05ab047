//! What precedes the tensors of a GGUF file (llama.cpp `gguf.md`, version 3).

use paddock_engine::weights::Encoding;
use paddock_engine::weights::gguf::ggml_type;

/// Tensors begin at multiples of this many bytes.
pub(super) const ALIGNMENT: usize = 32;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Ints(Vec<i32>),
}

/// Metadata and the table of tensors, in order.
#[derive(Debug, Default)]
pub(super) struct Header {
    metadata: Vec<(String, Meta)>,
    tensors: Vec<Tensor>,
    /// Bytes of the tensors so far, with their padding.
    length: u64,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    shape: [usize; 2],
    kind: u32,
    offset: u64,
}

impl Header {
    /// Adds a key.
    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.push((key.to_string(), value));
    }

    /// Adds a tensor of rows and columns, which lies after the others and takes `bytes`; one row is a vector.
    pub fn tensor(&mut self, name: &str, shape: [usize; 2], encoding: Encoding, bytes: u64) {
        let tensor = Tensor { name: name.to_string(), shape, kind: ggml_type(encoding), offset: self.length };
        self.tensors.push(tensor);
        self.length += bytes.next_multiple_of(ALIGNMENT as u64);
    }

    /// The header, padded to where the first tensor begins.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            push_text(&mut out, key);
            push_value(&mut out, value);
        }
        for Tensor { name, shape: [rows, columns], kind, offset } in &self.tensors {
            push_text(&mut out, name);
            let dimensions = if *rows == 1 { vec![*columns] } else { vec![*columns, *rows] };
            out.extend((dimensions.len() as u32).to_le_bytes());
            out.extend(dimensions.iter().flat_map(|size| (*size as u64).to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &Meta) {
    let list = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Meta::U32(number) => {
            out.extend(4u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Meta::F32(number) => {
            out.extend(6u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Meta::Bool(flag) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*flag));
        }
        Meta::Text(text) => {
            out.extend(8u32.to_le_bytes());
            push_text(out, text);
        }
        Meta::Texts(texts) => {
            list(out, 8, texts.len());
            texts.iter().for_each(|text| push_text(out, text));
        }
        Meta::Floats(numbers) => {
            list(out, 6, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Meta::Ints(numbers) => {
            list(out, 5, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
}
