//! A tensor that is stored in several parts, as model-parallel checkpoints have it.

use std::ops::Range;

use paddock_engine::Result;
use paddock_engine::weights::{Source, half_split};

use super::TorchTensor;

/// How the parts of a tensor make a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// One below the other; also used for a tensor of one part.
    Rows,
    /// Side by side.
    Columns,
}

/// A tensor of the model, from parts in one or several files.
#[derive(Debug)]
pub(super) struct Joined {
    /// Hugging Face's name.
    pub name: String,
    pub join: Join,
    /// Each with its file. All have the same shape and type.
    pub parts: Vec<(String, TorchTensor)>,
    /// Rows of a head, where the rows of each head are interleaved (Meta's q and k).
    pub interleaved_heads: Option<u64>,
}

impl Joined {
    /// The first part.
    pub fn part(&self) -> Option<&TorchTensor> {
        self.parts.first().map(|(_, part)| part)
    }

    fn factor(&self, join: Join) -> u64 {
        if self.join == join { self.parts.len() as u64 } else { 1 }
    }

    /// The shape of the whole.
    pub fn shape(&self) -> Vec<u64> {
        let mut shape = self.part().map(|part| part.shape.clone()).unwrap_or_default();
        let along = if self.join == Join::Rows { shape.first_mut() } else { shape.last_mut() };
        if let Some(size) = along {
            *size *= self.parts.len() as u64;
        }
        shape
    }

    /// Rows of the whole.
    pub fn rows(&self) -> u64 {
        self.part().map_or(0, TorchTensor::rows) * self.factor(Join::Rows)
    }

    /// Bytes of one row of the whole.
    pub fn row_bytes(&self) -> u64 {
        self.part().map_or(0, TorchTensor::row_bytes) * self.factor(Join::Columns)
    }

    /// Rows in Hugging Face's order.
    pub async fn read<S: Source>(&self, source: &S, rows: Range<u64>) -> Result<Vec<u8>> {
        let Some(head) = self.interleaved_heads else { return self.stored(source, rows).await };
        let first = rows.start / head * head;
        let whole = self.stored(source, first..rows.end.div_ceil(head) * head).await?;
        let wanted = (rows.start - first) as usize..(rows.end - first) as usize;
        Ok(half_split(&whole, self.row_bytes() as usize, head as usize, wanted))
    }

    /// Rows in the order of the files.
    async fn stored<S: Source>(&self, source: &S, rows: Range<u64>) -> Result<Vec<u8>> {
        let count = self.part().map_or(0, TorchTensor::rows);
        let mut bytes = Vec::new();
        if self.join == Join::Rows {
            for ((file, part), first) in self.parts.iter().zip((0..).map(|index: u64| index * count)) {
                let within = rows.start.clamp(first, first + count)..rows.end.clamp(first, first + count);
                if !within.is_empty() {
                    bytes.append(&mut part.read(source, file, within.start - first..within.end - first).await?);
                }
            }
            return Ok(bytes);
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        for (file, part) in &self.parts {
            parts.push((part.read(source, file, rows.clone()).await?, part.row_bytes() as usize));
        }
        for row in 0..(rows.end - rows.start) as usize {
            for (part, length) in &parts {
                bytes.extend_from_slice(part.get(row * length..(row + 1) * length).unwrap_or_default());
            }
        }
        Ok(bytes)
    }
}
