//! Ragged batches: which rows belong to which document.

use std::ops::Range;

/// Consecutive rows of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First row in the batch.
    pub start: usize,
    /// Number of rows; at least 1.
    pub len: usize,
    /// Tokens of the document that came before and lie in the cache.
    pub past: usize,
    /// Which sequence of the cache the document is.
    pub sequence: usize,
}

impl Segment {
    /// The segment's rows in the batch.
    pub fn rows(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// The documents of a batch, in row order and without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    list: Vec<Segment>,
}

impl Segments {
    /// Documents of the given lengths, each from its first token on; document `i` is sequence `i`.
    pub fn documents(lengths: &[usize]) -> Self {
        let mut segments = Self::default();
        for (sequence, len) in lengths.iter().enumerate() {
            segments.push(*len, 0, sequence);
        }
        segments
    }

    /// `len` further tokens of sequence `sequence`, which has `past` tokens in the cache.
    pub fn continuation(len: usize, past: usize, sequence: usize) -> Self {
        let mut segments = Self::default();
        segments.push(len, past, sequence);
        segments
    }

    /// Adds a document's rows after those so far. A length of 0 adds nothing.
    pub fn push(&mut self, len: usize, past: usize, sequence: usize) {
        if len > 0 {
            self.list.push(Segment { start: self.rows(), len, past, sequence });
        }
    }

    /// Rows of the whole batch.
    pub fn rows(&self) -> usize {
        self.list.last().map_or(0, |s| s.start + s.len)
    }

    /// The segments in row order.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter()
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True without any rows.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The last row of each segment.
    pub fn last_rows(&self) -> Vec<usize> {
        self.list.iter().map(|s| s.start + s.len - 1).collect()
    }

    /// Position of each row in its document.
    pub fn positions(&self) -> Vec<u32> {
        self.list.iter().flat_map(|s| (s.past..s.past + s.len).map(|p| p as u32)).collect()
    }
}
