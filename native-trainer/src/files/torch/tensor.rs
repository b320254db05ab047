//! A tensor of a PyTorch file: a strided view of a storage, read by rows.

use std::ops::Range;

use paddock_engine::weights::Source;
use paddock_engine::{Error, Result};

/// Dtypes: the name in PyTorch's pickles, the name in safetensors, and bytes a value.
pub(super) const DTYPES: [(&str, &str, u64); 10] = [
    ("torch.FloatStorage", "F32", 4),
    ("torch.HalfStorage", "F16", 2),
    ("torch.BFloat16Storage", "BF16", 2),
    ("torch.DoubleStorage", "F64", 8),
    ("torch.LongStorage", "I64", 8),
    ("torch.IntStorage", "I32", 4),
    ("torch.ShortStorage", "I16", 2),
    ("torch.CharStorage", "I8", 1),
    ("torch.ByteStorage", "U8", 1),
    ("torch.BoolStorage", "BOOL", 1),
];

/// A tensor in a PyTorch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchTensor {
    /// Its name.
    pub name: String,
    /// Type in safetensors' spelling, as `F32`.
    pub dtype: &'static str,
    /// Dimensions, slowest first.
    pub shape: Vec<u64>,
    /// Elements from one index of a dimension to the next.
    pub(super) strides: Vec<u64>,
    /// Bytes of a value.
    pub(super) value_bytes: u64,
    /// Offset of the first value, from the start of the file.
    pub(super) offset: u64,
}

impl TorchTensor {
    /// Number of rows: the first of two or more dimensions; a vector is one row.
    pub fn rows(&self) -> u64 {
        if self.shape.len() < 2 { 1 } else { self.shape.first().copied().unwrap_or(1) }
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        self.row_shape().iter().product::<u64>() * self.value_bytes
    }

    fn row_shape(&self) -> &[u64] {
        self.shape.get(usize::from(self.shape.len() >= 2)..).unwrap_or_default()
    }

    /// Elements that a row spans in the storage.
    fn row_span(&self) -> u64 {
        let strides = self.strides.get(usize::from(self.shape.len() >= 2)..).unwrap_or_default();
        self.row_shape().iter().zip(strides).map(|(size, stride)| size.saturating_sub(1) * stride).sum()
    }

    /// The bytes of some rows, in row-major order whatever the strides.
    ///
    /// # Errors
    /// When there are no such rows, or the source cannot deliver the bytes.
    pub async fn read<S: Source>(&self, source: &S, file: &str, rows: Range<u64>) -> Result<Vec<u8>> {
        if rows.start > rows.end || rows.end > self.rows() {
            return Err(Error::Request(format!("{} has {} rows; {rows:?} are not among them", self.name, self.rows())));
        }
        let row_bytes = self.row_bytes();
        if rows.is_empty() || row_bytes == 0 {
            return Ok(Vec::new());
        }
        let stride = if self.shape.len() < 2 { 0 } else { self.strides.first().copied().unwrap_or(0) };
        let first = self.offset + rows.start * stride * self.value_bytes;
        let span = ((rows.end - rows.start - 1) * stride + self.row_span() + 1) * self.value_bytes;
        let stored = source.read(file, first..first + span).await?;
        if span == (rows.end - rows.start) * row_bytes && self.is_row_major() {
            return Ok(stored);
        }
        let mut bytes = Vec::with_capacity(((rows.end - rows.start) * row_bytes) as usize);
        let mut indices = vec![0; self.row_shape().len()];
        for row in 0..rows.end - rows.start {
            self.gather(&stored, row * stride, &mut indices, &mut bytes);
        }
        Ok(bytes)
    }

    /// Whether the tensor is contiguous.
    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == expected;
            expected *= size;
            fits
        })
    }

    /// Appends the values of one row, which begins at element `start` of `stored`.
    fn gather(&self, stored: &[u8], start: u64, indices: &mut [u64], bytes: &mut Vec<u8>) {
        let strides = self.strides.get(self.strides.len() - indices.len()..).unwrap_or_default();
        let values = self.row_shape().iter().product::<u64>();
        for _ in 0..values {
            let at = start + indices.iter().zip(strides).map(|(index, stride)| index * stride).sum::<u64>();
            let at = (at * self.value_bytes) as usize;
            bytes.extend_from_slice(stored.get(at..at + self.value_bytes as usize).unwrap_or_default());
            for (index, size) in indices.iter_mut().zip(self.row_shape()).rev() {
                *index += 1;
                if *index < *size {
                    break;
                }
                *index = 0;
            }
        }
    }
}

/// Whether the values that `shape` and `strides` reach from `offset` are within a storage of `stored` values, and no more
/// than it holds.
pub(super) fn fits(shape: &[u64], strides: &[u64], offset: u64, stored: u64) -> bool {
    if shape.len() != strides.len() || shape.len() > 8 {
        return false;
    }
    // Sizes of zero count as one, so that no product of the others overflows later either.
    let values = shape.iter().try_fold(1_u64, |product, size| product.checked_mul((*size).max(1)));
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (size, stride)| last.checked_add(size.saturating_sub(1).checked_mul(*stride)?));
    match (values, last) {
        (Some(values), _) if shape.contains(&0) => values <= u64::from(u32::MAX),
        // With expanded views, a small file could claim any amount of memory.
        (Some(values), Some(last)) => values <= stored && last < stored,
        _ => false,
    }
}
