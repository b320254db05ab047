//! The table of a checkpoint's tensors: names, shapes, encodings, and where their bytes lie. Each format's reader makes
//! one; [`super::Checkpoint`] reads by it.

use std::ops::Range;

use super::Encoding;
use super::diff::WeightDiff;
use crate::config::Param;
use crate::{Error, ModelConfig, Result};

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Hugging Face's name.
    pub name: String,
    /// Rows and columns; one-dimensional tensors have one row.
    pub shape: [usize; 2],
    /// How the rows are stored.
    pub encoding: Encoding,
}

impl TensorInfo {
    /// Bytes of one row.
    ///
    /// # Errors
    /// When the columns are not a whole number of blocks; never for a tensor that [`super::Checkpoint::open`] accepted.
    pub fn row_bytes(&self) -> Result<usize> {
        self.encoding.row_bytes(self.shape[1]).ok_or_else(|| Error::Shape {
            op: "row_bytes",
            expected: format!("columns in blocks of {}", self.encoding.block_values()),
            got: format!("{} of shape {:?} in {:?}", self.name, self.shape, self.encoding),
        })
    }

    /// Bytes of the whole tensor.
    ///
    /// # Errors
    /// As [`TensorInfo::row_bytes`].
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.row_bytes()? as u64 * self.shape[0] as u64)
    }
}

/// A tensor and where its bytes lie.
#[derive(Debug, Clone)]
pub(super) struct LocatedTensor {
    pub info: TensorInfo,
    /// In row order, without holes: `pieces[0].rows.start` is 0.
    pub pieces: Vec<TensorPiece>,
    /// Set when the rows of each head lie interleaved (GGUF's q and k): the width of a head.
    pub interleaved_heads: Option<usize>,
}

/// Consecutive rows of a tensor in one file.
#[derive(Debug, Clone)]
pub(super) struct TensorPiece {
    /// Index into [`TensorTable::files`].
    pub file: usize,
    /// First byte, from the start of the file.
    pub offset: u64,
    pub rows: Range<usize>,
}

/// What a format's reader finds.
#[derive(Debug)]
pub(super) struct TensorTable {
    pub config: ModelConfig,
    pub files: Vec<String>,
    /// One for each of `config.params()`, in that order.
    pub tensors: Vec<LocatedTensor>,
    /// Set when the tensors are a weight diff's.
    pub weight_diff: Option<WeightDiff>,
    /// What the user should know of how the checkpoint was read, a sentence each.
    pub notes: Vec<String>,
}

/// Checks a tensor that was found against what the configuration asks for. `shape` is the file's, of one or two
/// dimensions.
///
/// # Errors
/// [`Error::Tensor`] with both shapes when they differ, or the columns are not whole blocks.
pub(super) fn check_shape(param: &Param, shape: &[u64], encoding: Encoding) -> Result<TensorInfo> {
    let [rows, cols] = param.shape.map(|size| size as u64);
    let fits = match shape {
        [only] => rows == 1 && *only == cols,
        [first, second] => [*first, *second] == [rows, cols],
        _ => false,
    };
    if !fits {
        return Err(mismatch(param, format!("{shape:?}")));
    }
    if encoding.row_bytes(param.shape[1]).is_none() {
        return Err(mismatch(param, format!("{encoding:?}, whose blocks hold {} values", encoding.block_values())));
    }
    Ok(TensorInfo { name: param.name.clone(), shape: param.shape, encoding })
}

/// The error for a parameter that is absent or not as the configuration says.
pub(super) fn mismatch(param: &Param, found: impl Into<String>) -> Error {
    let [rows, cols] = param.shape;
    let expected = if rows == 1 { vec![cols] } else { vec![rows, cols] };
    Error::Tensor { name: param.name.clone(), expected, found: found.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_one_row_and_its_own_length() {
        let fits = |expected, found: &[u64]| {
            check_shape(&Param { name: "t".to_string(), shape: expected }, found, Encoding::F32).is_ok()
        };
        assert!(fits([1, 4], &[4]) && fits([1, 4], &[1, 4]) && fits([4, 4], &[4, 4]));
        assert!(!fits([1, 4], &[5]) && !fits([4, 4], &[4]) && !fits([4, 3], &[3, 4]) && !fits([1, 4], &[1, 1, 4]));
    }
}
