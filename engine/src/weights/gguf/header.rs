//! The header of a GGUF file: metadata and the table of tensors, from the bytes read so far.

use std::collections::{BTreeMap, HashMap};

use super::names;
use crate::weights::first_bytes::other_format;
use crate::{Error, Result};

/// The result of parsing the beginning of a file.
#[derive(Debug)]
pub enum Parsed {
    /// The whole header.
    Complete(Header),
    /// The header goes on beyond the bytes given.
    Incomplete,
}

/// A parsed header.
#[derive(Debug, Default)]
pub struct Header {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by GGUF name.
    pub tensors: HashMap<String, TensorEntry>,
}

/// One tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Dimensions, fastest first (the reverse of Hugging Face's).
    pub dimensions: Vec<u64>,
    /// `ggml_type` number.
    pub kind: u32,
    /// The file that it lies in: of a split model the number of the part, from 0.
    pub part: usize,
    /// First byte, from the start of the file.
    pub offset: u64,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number of any width.
    Number(Number),
    /// A boolean.
    Bool(bool),
    /// Text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// A list.
    Array(Array),
}

/// A number as the file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Unsigned integers and those that are not negative.
    Unsigned(u64),
    /// Negative integers.
    Signed(i64),
    /// Floats.
    Float(f64),
}

/// A list whose items are of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Numbers.
    Numbers(Vec<Number>),
    /// Booleans.
    Bools(Vec<bool>),
    /// Texts.
    Texts(Vec<String>),
}

/// Tensor names of llama.cpp have at most 64 bytes; keys are longer, but not by much.
const NAME_LIMIT: u64 = 1 << 16;

/// Tensors, keys and list items together; the largest vocabularies make a third of this. Keeps a hostile header from
/// taking far more memory than its own size.
const ITEM_LIMIT: u64 = 1 << 22;

/// Parses `bytes`, the beginning of a GGUF file of `size` bytes.
///
/// # Errors
/// When it is no GGUF file, of an unknown version, or its counts, lengths and offsets contradict `size` or each other.
pub fn parse(file: &str, bytes: &[u8], size: u64) -> Result<Parsed> {
    match header(&mut Reader { file, bytes, at: 0, size, items_left: ITEM_LIMIT }) {
        Ok(header) => Ok(Parsed::Complete(header)),
        Err(Stop::Incomplete) => Ok(Parsed::Incomplete),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// Why parsing stopped.
enum Stop {
    /// At the end of the bytes at hand; the file has more.
    Incomplete,
    Wrong(Error),
}

/// A cursor over the beginning of a file.
struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
    size: u64,
    items_left: u64,
}

impl Reader<'_> {
    fn wrong(&self, problem: impl Into<String>) -> Stop {
        Stop::Wrong(Error::format(self.file, problem))
    }

    /// The next `count` bytes.
    fn take(&mut self, count: u64) -> Result<&[u8], Stop> {
        if count > self.size.saturating_sub(self.at as u64) {
            let (at, size) = (self.at, self.size);
            return Err(self.wrong(format!(
                "its header wants {count} bytes at {at}, but the file has {size}; it is truncated or damaged"
            )));
        }
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)).ok_or(Stop::Incomplete)?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Incomplete)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N as u64)?.try_into().map_err(|_| Stop::Incomplete)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, Stop> {
        let length = self.u64()?;
        self.take(length).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A key or a tensor's name.
    fn name(&mut self) -> Result<String, Stop> {
        let length = self.u64()?;
        if length > NAME_LIMIT {
            return Err(self.wrong(format!("a name of {length} bytes is not plausible; the file is damaged")));
        }
        let name = self.take(length)?.to_vec();
        String::from_utf8(name).map_err(|_| self.wrong("a name is not UTF-8; the file is damaged"))
    }

    /// A count of items of at least `least` bytes each, checked against what is left of the file.
    fn count(&mut self, what: &str, least: u64) -> Result<u64, Stop> {
        let count = self.u64()?;
        let left = self.size.saturating_sub(self.at as u64);
        if count > left / least {
            return Err(self.wrong(format!("it claims {count} {what}, more than its {left} bytes can hold")));
        }
        self.items_left = self
            .items_left
            .checked_sub(count)
            .ok_or_else(|| self.wrong(format!("it claims {count} {what}; expected at most {ITEM_LIMIT} in all")))?;
        Ok(count)
    }

    fn number(&mut self, kind: u32) -> Result<Number, Stop> {
        let signed = |value: i64| u64::try_from(value).map_or(Number::Signed(value), Number::Unsigned);
        Ok(match kind {
            0 => Number::Unsigned(u64::from(self.array::<1>()?[0])),
            1 => signed(i64::from(self.array().map(i8::from_le_bytes)?)),
            2 => Number::Unsigned(u64::from(self.array().map(u16::from_le_bytes)?)),
            3 => signed(i64::from(self.array().map(i16::from_le_bytes)?)),
            4 => Number::Unsigned(u64::from(self.u32()?)),
            5 => signed(i64::from(self.array().map(i32::from_le_bytes)?)),
            6 => Number::Float(f64::from(self.array().map(f32::from_le_bytes)?)),
            10 => Number::Unsigned(self.u64()?),
            11 => signed(self.array().map(i64::from_le_bytes)?),
            12 => Number::Float(self.array().map(f64::from_le_bytes)?),
            other => return Err(self.wrong(format!("value type {other} is unknown; expected 0 to 12"))),
        })
    }

    fn value(&mut self) -> Result<Value, Stop> {
        Ok(match self.u32()? {
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 => Value::Array(self.list()?),
            kind => Value::Number(self.number(kind)?),
        })
    }

    fn list(&mut self) -> Result<Array, Stop> {
        let kind = self.u32()?;
        if kind == 9 {
            return Err(self.wrong("a list of lists in its metadata; no LLaMA model has one"));
        }
        let count = self.count("list items", if kind == 8 { 8 } else { 1 })?;
        Ok(match kind {
            7 => Array::Bools(self.items(count, |reader| Ok(reader.array::<1>()?[0] != 0))?),
            8 => Array::Texts(self.items(count, Self::text)?),
            _ => Array::Numbers(self.items(count, |reader| reader.number(kind))?),
        })
    }

    /// `count` items; memory grows with what is really there, not with the count.
    fn items<T>(&mut self, count: u64, mut item: impl FnMut(&mut Self) -> Result<T, Stop>) -> Result<Vec<T>, Stop> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

fn header(reader: &mut Reader) -> Result<Header, Stop> {
    let first = reader.bytes.get(..4).unwrap_or(reader.bytes);
    if reader.size < 24 && b"GGUF".starts_with(first) {
        let size = reader.size;
        return Err(reader.wrong(format!("it has only {size} bytes and is cut off; copy or download it again")));
    }
    if reader.size < 24 || reader.array()? != *b"GGUF" {
        let other = other_format(reader.bytes).map_or_else(String::new, |format| format!("; it is {format}"));
        return Err(reader.wrong(format!("it does not begin with \"GGUF\"; expected a GGUF model{other}")));
    }
    match reader.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err(reader.wrong("it is big-endian; convert it on the machine it was made for"));
        }
        version => return Err(reader.wrong(format!("GGUF version {version}; expected 2 or 3, convert the model anew"))),
    }
    let tensor_count = reader.count("tensors", 24)?;
    let key_count = reader.count("metadata keys", 13)?;
    let mut header = Header::default();
    for _ in 0..key_count {
        let key = reader.name()?;
        let value = reader.value()?;
        if let Some(key) = header.metadata.insert(key.clone(), value).map(|_| key) {
            return Err(reader.wrong(format!("metadata key {key} is listed twice")));
        }
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(tensor(reader)?);
    }
    place(reader, &mut header, tensors)?;
    Ok(header)
}

/// One line of the tensor table; its offset is still relative to the data.
fn tensor(reader: &mut Reader) -> Result<(String, TensorEntry), Stop> {
    let name = reader.name()?;
    let rank = reader.u32()?;
    if rank > 4 {
        return Err(reader.wrong(format!("tensor {name} has {rank} dimensions; expected at most 4")));
    }
    let dimensions = reader.items(u64::from(rank), Reader::u64)?;
    let kind = reader.u32()?;
    let offset = reader.u64()?;
    Ok((name, TensorEntry { dimensions, kind, part: 0, offset }))
}

/// Makes offsets absolute and checks that every tensor lies within the file, aligned, and apart from the others.
fn place(reader: &Reader, header: &mut Header, tensors: Vec<(String, TensorEntry)>) -> Result<(), Stop> {
    let alignment = match header.metadata.get("general.alignment") {
        None => 32,
        Some(Value::Number(Number::Unsigned(n))) if n.is_power_of_two() && *n <= 1 << 20 => *n,
        Some(other) => return Err(reader.wrong(format!("alignment {other:?}; expected a power of two"))),
    };
    let data = (reader.at as u64).next_multiple_of(alignment);
    let mut spans = Vec::new();
    for (name, mut entry) in tensors {
        let misplaced =
            || reader.wrong(format!("tensor {name} does not lie within the file; it is truncated or damaged"));
        if !entry.offset.is_multiple_of(alignment) {
            return Err(reader.wrong(format!("tensor {name} is not aligned to {alignment} bytes")));
        }
        entry.offset = entry.offset.checked_add(data).filter(|at| *at <= reader.size).ok_or_else(misplaced)?;
        if let Some(encoding) = names::encoding(entry.kind) {
            let values = entry.dimensions.iter().try_fold(1u64, |product, &d| product.checked_mul(d));
            let blocks = values.map(|values| values.div_ceil(encoding.block_values() as u64));
            let bytes = blocks.and_then(|blocks| blocks.checked_mul(encoding.block_bytes() as u64));
            let end = bytes.and_then(|bytes| bytes.checked_add(entry.offset)).filter(|end| *end <= reader.size);
            spans.push((entry.offset, end.ok_or_else(misplaced)?, name.clone()));
        }
        if header.tensors.insert(name.clone(), entry).is_some() {
            return Err(reader.wrong(format!("tensor {name} is listed twice")));
        }
    }
    spans.sort();
    for pair in spans.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            return Err(reader.wrong(format!("tensors {first} and {second} overlap")));
        }
    }
    Ok(())
}
