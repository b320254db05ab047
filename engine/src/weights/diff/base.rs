//! The base model of a diff, with rows added where the tuned model's vocabulary is larger.

use std::ops::Range;

use crate::config::{Head, LM_HEAD};
use crate::weights::{Checkpoint, Encoding, Source, TensorInfo, dequantize, quantize, recode};
use crate::{Error, Result};

/// The base's tensor that goes with the other model's `name`: a head that is the embedding has no tensor of its own.
fn name_in<'a, S: Source>(base: &'a Checkpoint<S>, name: &'a str) -> &'a str {
    if name == LM_HEAD && base.config().head == Head::Tied { base.config().embedding() } else { name }
}

/// Checks that `base` has a tensor that can be the base of `other`.
///
/// # Errors
/// When the shapes differ in more than rows that a vocabulary has grown by.
pub(super) fn check_pair<S: Source>(base: &Checkpoint<S>, other: &TensorInfo) -> Result<()> {
    let refuse = |found: String| Err(Error::Tensor { name: other.name.clone(), expected: other.shape.to_vec(), found });
    let Some(base) = base.tensor(name_in(base, &other.name)) else {
        return refuse("nothing: the base lacks it; is it the right base?".to_string());
    };
    let [rows, columns] = base.shape;
    let grows = other.name.ends_with("embed_tokens.weight") || other.name == "lm_head.weight";
    if columns == other.shape[1] && (rows == other.shape[0] || grows && rows < other.shape[0]) {
        return Ok(());
    }
    if grows && columns == other.shape[1] {
        return refuse(format!(
            "{:?} in the base, which has more tokens: its vocabulary was padded, or it is the base of another model; give the \
             base as it was before",
            base.shape
        ));
    }
    refuse(format!("{:?} in the base; it is the base of another model", base.shape))
}

/// The mean of a matrix' rows, summed in PyTorch's order, so that new tokens begin as in `weight_diff.py`, bit for bit:
/// per column, groups of rows into a first sum, groups of those into a second, and so on (ATen `SumKernel.cpp`,
/// `multi_row_sum`; columns beyond the last whole group of eight are summed otherwise there).
#[derive(Debug, Default)]
struct Mean {
    levels: [Vec<f32>; 4],
    /// Rows so far.
    row: usize,
    rows: usize,
    /// Rows of a group are two to this power.
    power: u32,
}

impl Mean {
    fn new(rows: usize, columns: usize) -> Self {
        let bits = rows.next_power_of_two().trailing_zeros();
        Self { levels: [(); 4].map(|()| vec![0.0; columns]), row: 0, rows, power: (bits / 4).max(4) }
    }

    fn add(&mut self, row: &[f32]) {
        let [first, ..] = &mut self.levels;
        first.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        self.row += 1;
        let group = (1 << self.power) - 1;
        if self.row & group != 0 {
            return;
        }
        for level in 1..self.levels.len() {
            let (below, above) = self.levels.split_at_mut(level);
            let (Some(below), Some(above)) = (below.last_mut(), above.first_mut()) else { return };
            above.iter_mut().zip(below).for_each(|(above, below)| *above += std::mem::take(below));
            if self.row & group << (level as u32 * self.power) != 0 {
                return;
            }
        }
    }

    fn finish(&self) -> Vec<f32> {
        let [first, others @ ..] = &self.levels;
        let mut sums = first.clone();
        for level in others {
            sums.iter_mut().zip(level).for_each(|(sum, value)| *sum += value);
        }
        sums.iter().map(|sum| sum / self.rows as f32).collect()
    }
}

/// A base model whose rows are read in a chosen encoding.
#[derive(Debug)]
pub(super) struct Base<S: Source> {
    pub checkpoint: Checkpoint<S>,
    /// Of the tensor that is being read, if it grows.
    mean: Mean,
}

impl<S: Source> Base<S> {
    pub fn new(checkpoint: Checkpoint<S>) -> Self {
        Self { checkpoint, mean: Mean::default() }
    }

    /// How tensor `name` is stored.
    pub fn encoding(&self, name: &str) -> Encoding {
        self.checkpoint.tensor(name_in(&self.checkpoint, name)).map_or(Encoding::F32, |info| info.encoding)
    }

    /// Rows of `name`, which grows to `all` rows, as `wanted`. What the base lacks is the mean of its rows, as
    /// `weight_diff.py` initialises new tokens; rows are then asked for in order, so that the mean is known by the end.
    ///
    /// # Errors
    /// What the checkpoint reports, and numbers that `wanted` cannot hold.
    pub async fn rows(&mut self, name: &str, rows: Range<usize>, all: usize, wanted: Encoding) -> Result<Vec<u8>> {
        let name = name_in(&self.checkpoint, name).to_string();
        let name = name.as_str();
        let missing = || Error::Request(format!("the base has no tensor {name}"));
        let info = self.checkpoint.tensor(name).cloned().ok_or_else(missing)?;
        let [own, columns] = info.shape;
        let stored = rows.start.min(own)..rows.end.min(own);
        let grown = rows.len() - stored.len();
        let bytes = self.checkpoint.read_rows(name, stored.clone()).await?;
        if own < all {
            if rows.start == 0 {
                self.mean = Mean::new(own, columns);
            }
            let mut values = vec![0.0; stored.len() * columns];
            dequantize(info.encoding, &bytes, &mut values)?;
            values.chunks(columns).for_each(|row| self.mean.add(row));
        }
        let mut bytes = recode(bytes, info.encoding, wanted)?;
        if grown > 0 {
            let mean = quantize(wanted, &self.mean.finish())?;
            (0..grown).for_each(|_| bytes.extend_from_slice(&mean));
        }
        Ok(bytes)
    }
}
