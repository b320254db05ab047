//! What a pack holds and where: decided from shapes alone, before anything is read.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, json};

use super::weights::Weights;
use crate::config::Head;
use crate::weights::manifest::{PieceRecord, SHARD_BYTES, TensorRecord};
use crate::weights::{Encoding, TensorInfo};
use crate::{Error, ModelConfig, Result};

/// Room in a shard for its header: [`SHARD_TENSORS`] entries of at most 200 bytes.
const HEADER_BYTES: u64 = 1 << 20;
const SHARD_TENSORS: usize = 4096;

/// How a pack's matrices are stored. Vectors (norms, biases) and score heads are F32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quantize {
    /// As the checkpoint has them.
    #[default]
    Keep,
    /// Q4_1, and Q8_0 for the table that gives the logits.
    Q4,
    /// Q8_0.
    Q8,
    /// F16.
    F16,
}

impl Quantize {
    /// How a pack stores `stored`, a tensor as the checkpoint has it. F16 where the columns are no whole blocks.
    pub fn encoding(self, stored: &TensorInfo, config: &ModelConfig) -> Encoding {
        let wanted = self.wanted(stored, config);
        if wanted.row_bytes(stored.shape[1]).is_some() { wanted } else { Encoding::F16 }
    }

    /// How it would be stored if its columns were always whole blocks.
    fn wanted(self, stored: &TensorInfo, config: &ModelConfig) -> Encoding {
        match self {
            _ if is_small(stored, config) => Encoding::F32,
            Self::Keep => stored.encoding,
            Self::F16 => Encoding::F16,
            Self::Q8 => Encoding::Q8_0,
            Self::Q4 if gives_logits(stored, config) => Encoding::Q8_0,
            Self::Q4 => Encoding::Q4_1,
        }
    }
}

impl FromStr for Quantize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "keep" => Ok(Self::Keep),
            "q4" => Ok(Self::Q4),
            "q8" => Ok(Self::Q8),
            "f16" => Ok(Self::F16),
            other => Err(Error::Request(format!("\"{other}\" is no quantisation; expected keep, q4, q8 or f16"))),
        }
    }
}

impl fmt::Display for Quantize {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::Keep => "keep",
            Self::Q4 => "q4",
            Self::Q8 => "q8",
            Self::F16 => "f16",
        })
    }
}

/// The tensors of a pack and where they lie.
#[derive(Debug, Clone)]
pub struct PackPlan {
    /// The tensors, in the order of [`ModelConfig::params`].
    pub tensors: Vec<TensorRecord>,
    /// One sentence for each tensor that could not be stored as requested.
    pub notes: Vec<String>,
    /// The safetensors header of each shard, length prefix and all.
    pub(super) headers: Vec<Vec<u8>>,
}

impl PackPlan {
    /// Decides encodings and places; reads nothing.
    ///
    /// # Errors
    /// For a weight diff that is to be stored otherwise than it is: it must keep its numbers.
    pub fn new(weights: &impl Weights, quantize: Quantize) -> Result<Self> {
        let is_diff = weights.weight_diff().is_some();
        if is_diff && quantize != Quantize::Keep {
            return Err(Error::Request("a weight diff must keep its numbers; pack it without --quantize".to_string()));
        }
        let mut plan = Self { tensors: Vec::new(), notes: Vec::new(), headers: Vec::new() };
        let mut shards = vec![Shard::default()];
        for info in &weights.tensors() {
            let encoding = if is_diff { info.encoding } else { plan.encoding(info, weights.config(), quantize) };
            let stored = TensorInfo { encoding, ..info.clone() };
            let pieces = place(&mut shards, &stored)?;
            plan.tensors.push(TensorRecord { name: stored.name, shape: stored.shape, encoding, pieces });
        }
        for shard in &shards {
            let header = shard.header()?;
            plan.headers.push(header);
        }
        for tensor in &mut plan.tensors {
            for piece in &mut tensor.pieces {
                piece.offset += plan.headers.get(piece.shard).map_or(0, |header| header.len() as u64);
            }
        }
        Ok(plan)
    }

    /// The bytes of all weights.
    pub fn bytes(&self) -> u64 {
        let rows = |tensor: &TensorRecord| tensor.encoding.row_bytes(tensor.shape[1]).unwrap_or(0) as u64;
        self.tensors.iter().map(|tensor| rows(tensor) * tensor.shape[0] as u64).sum()
    }

    /// How `info` is stored.
    fn encoding(&mut self, info: &TensorInfo, config: &ModelConfig, quantize: Quantize) -> Encoding {
        let wanted = quantize.wanted(info, config);
        let encoding = quantize.encoding(info, config);
        if encoding != wanted {
            self.notes.push(format!(
                "{} stays F16: its {} columns are not a multiple of {}.",
                info.name,
                info.shape[1],
                wanted.block_values()
            ));
        }
        encoding
    }

    /// The encoding that most bytes are in.
    pub(super) fn main_encoding(&self) -> Option<Encoding> {
        let mut values: Vec<(Encoding, usize)> = Vec::new();
        for tensor in &self.tensors {
            let count = tensor.shape[0] * tensor.shape[1];
            match values.iter_mut().find(|(encoding, _)| *encoding == tensor.encoding) {
                Some((_, sum)) => *sum += count,
                None => values.push((tensor.encoding, count)),
            }
        }
        values.into_iter().max_by_key(|(_, count)| *count).map(|(encoding, _)| encoding)
    }
}

/// Whether `info` is too small to be worth quantising: vectors, and all of a score head.
fn is_small(info: &TensorInfo, config: &ModelConfig) -> bool {
    let of_score = config
        .score_head()
        .is_some_and(|head| head.params(config.hidden_size).iter().any(|param| param.name == info.name));
    of_score || info.shape[0] == 1
}

/// Whether `info` is the table on which the last hidden state is projected.
fn gives_logits(info: &TensorInfo, config: &ModelConfig) -> bool {
    match config.head {
        Head::Untied => info.name == "lm_head.weight",
        Head::Tied => info.name == "model.embed_tokens.weight",
        Head::Score(_) => false,
    }
}

/// A shard while it is planned.
#[derive(Default)]
struct Shard {
    bytes: u64,
    /// Name, safetensors type, shape and first byte of each piece.
    entries: Vec<(String, &'static str, Vec<usize>, u64)>,
}

impl Shard {
    fn room(&self) -> u64 {
        if self.entries.len() < SHARD_TENSORS { (SHARD_BYTES - HEADER_BYTES).saturating_sub(self.bytes) } else { 0 }
    }

    /// The safetensors header: length, JSON, padded with spaces so that the data begins at a multiple of 8.
    fn header(&self) -> Result<Vec<u8>> {
        let mut map = Map::new();
        let ends = self.entries.iter().skip(1).map(|entry| entry.3).chain([self.bytes]);
        for ((name, dtype, shape, start), end) in self.entries.iter().zip(ends) {
            map.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
        }
        let mut json = serde_json::to_vec(&map)
            .map_err(|error| Error::format("safetensors header", format!("it cannot be written: {error}")))?;
        json.resize(json.len().next_multiple_of(8), b' ');
        Ok([(json.len() as u64).to_le_bytes().as_slice(), &json].concat())
    }
}

/// Places a tensor: whole, in a new shard when the last one has not the room; split between rows when none has.
fn place(shards: &mut Vec<Shard>, info: &TensorInfo) -> Result<Vec<PieceRecord>> {
    let row_bytes = info.row_bytes()? as u64;
    let fits = |room: u64| usize::try_from(room / row_bytes.max(1)).unwrap_or(usize::MAX);
    let mut pieces = Vec::new();
    let mut row = 0;
    while row < info.shape[0] {
        let left = info.shape[0] - row;
        if shards.last().is_none_or(|shard| fits(shard.room()) < left && !shard.entries.is_empty()) {
            shards.push(Shard::default());
        }
        let number = shards.len() - 1;
        let Some(shard) = shards.last_mut() else { break };
        let rows = fits(shard.room()).clamp(1, left);
        let whole = rows == info.shape[0];
        let name = if whole { info.name.clone() } else { format!("{}#rows {row}..{}", info.name, row + rows) };
        let (dtype, cols) = match info.encoding {
            Encoding::F32 => ("F32", info.shape[1]),
            Encoding::F16 => ("F16", info.shape[1]),
            Encoding::BF16 => ("BF16", info.shape[1]),
            _ => ("U8", info.row_bytes()?),
        };
        let vector = info.shape[0] == 1 && dtype != "U8";
        let shape = if vector { vec![cols] } else { vec![rows, cols] };
        shard.entries.push((name, dtype, shape, shard.bytes));
        pieces.push(PieceRecord { shard: number, offset: shard.bytes, rows });
        shard.bytes += rows as u64 * row_bytes;
        row += rows;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HeadSpec;
    use crate::weights::tiny_model;

    fn info(name: &str, shape: [usize; 2], encoding: Encoding) -> TensorInfo {
        TensorInfo { name: name.to_string(), shape, encoding }
    }

    #[test]
    fn the_main_encoding_is_that_of_most_values() {
        let tensor = |shape, encoding| TensorRecord { name: String::new(), shape, encoding, pieces: Vec::new() };
        let tensors = vec![
            tensor([2, 300], Encoding::F16),
            tensor([64, 2], Encoding::F32),
            tensor([16, 32], Encoding::Q8_0),
            tensor([16, 32], Encoding::Q8_0),
        ];
        let mut plan = PackPlan { tensors, notes: Vec::new(), headers: Vec::new() };
        assert_eq!(plan.main_encoding(), Some(Encoding::Q8_0));
        plan.tensors.clear();
        assert_eq!(plan.main_encoding(), None);
    }

    #[test]
    fn vectors_and_score_heads_are_not_quantised() {
        let mut config = tiny_model::config(3);
        config.head = Head::Score(HeadSpec { score_dim: 2, ..HeadSpec::classifier() });
        let is_small = |name, shape| is_small(&info(name, shape, Encoding::F32), &config);
        assert!(is_small("score.weight", [2, 16]) && is_small("model.norm.weight", [1, 16]));
        assert!(!is_small(tiny_model::Q, [16, 16]));
    }

    #[test]
    fn a_shard_holds_a_limited_number_of_tensors() {
        let entry = (String::new(), "F32", vec![1], 0);
        let shard = |count| Shard { bytes: 0, entries: vec![entry.clone(); count] };
        assert_eq!(shard(4095).room(), 31 << 20);
        assert_eq!(shard(4096).room(), 0);
    }

    #[test]
    fn a_tensor_that_fills_the_shard_stays_whole() {
        let full = (31 << 20) - 4 * 8;
        let entry = ("first".to_string(), "F32", vec![1], 0);
        let mut shards = vec![Shard { bytes: full, entries: vec![entry] }];
        let pieces = place(&mut shards, &info("t", [2, 4], Encoding::F32)).unwrap();
        assert_eq!(pieces, [PieceRecord { shard: 0, offset: full, rows: 2 }]);
        let pieces = place(&mut shards, &info("u", [1, 1], Encoding::F32)).unwrap();
        assert_eq!(pieces, [PieceRecord { shard: 1, offset: 0, rows: 1 }]);
    }

    #[test]
    fn floats_lie_as_such_and_blocks_as_rows_of_bytes() {
        for (encoding, shape, dtype, stored) in [
            (Encoding::F32, [1, 4], "F32", vec![4]),
            (Encoding::F16, [2, 4], "F16", vec![2, 4]),
            (Encoding::BF16, [1, 4], "BF16", vec![4]),
            (Encoding::Q8_0, [1, 64], "U8", vec![1, 68]),
        ] {
            let mut shards = Vec::new();
            place(&mut shards, &info("t", shape, encoding)).unwrap();
            assert_eq!(shards[0].entries, [("t".to_string(), dtype, stored, 0)]);
        }
    }
}
