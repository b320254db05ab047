//! Checks of operands that every backend shares, so that all of them refuse the same things with the same words.

use super::{HeadLayout, SampleRow, Segments, WeightPart};
use crate::{Error, Result};

fn mismatch(op: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Shape { op, expected: expected.into(), got: got.into() }
}

/// `got` has the shape `expected`.
///
/// # Errors
/// [`Error::Shape`] when it has not.
pub fn shape(op: &'static str, what: &str, got: [usize; 2], expected: [usize; 2]) -> Result<()> {
    if got == expected { Ok(()) } else { Err(mismatch(op, format!("{what} {expected:?}"), format!("{got:?}"))) }
}

/// A weight `[out, in]` takes rows of `x`; a bias has one value an output.
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn linear(op: &'static str, x: [usize; 2], weight: [usize; 2], bias: Option<[usize; 2]>) -> Result<()> {
    if x[1] != weight[1] {
        return Err(mismatch(op, format!("x with {} columns for a weight {weight:?}", weight[1]), format!("{x:?}")));
    }
    bias.map_or(Ok(()), |bias| shape(op, "a bias", bias, [1, weight[0]]))
}

/// A block of `shape` at the row and column `at` lies within a matrix of shape `within`.
///
/// # Errors
/// [`Error::Shape`] when it does not.
pub fn block(op: &'static str, at: [usize; 2], shape: [usize; 2], within: [usize; 2]) -> Result<()> {
    if (0..2).all(|axis| at[axis].checked_add(shape[axis]).is_some_and(|end| end <= within[axis])) {
        return Ok(());
    }
    Err(mismatch(op, format!("a block within {within:?}"), format!("{shape:?} from {at:?} on")))
}

/// Fused rows fit the heads and the segments.
///
/// # Errors
/// [`Error::Shape`] when they do not.
pub fn fused_rows(op: &'static str, qkv: [usize; 2], heads: HeadLayout, segments: &Segments) -> Result<()> {
    shape(op, "fused rows", qkv, [segments.rows(), heads.qkv_dim()])
}

/// Every segment, its past included, fits a cache of `sequences` sequences of `capacity` tokens.
///
/// # Errors
/// [`Error::Shape`] when one does not.
pub fn cache_room(op: &'static str, segments: &Segments, sequences: usize, capacity: usize) -> Result<()> {
    for segment in segments.iter() {
        if segment.sequence >= sequences || segment.past + segment.len > capacity {
            return Err(mismatch(
                op,
                format!("segments within {sequences} sequences of {capacity} tokens"),
                format!("{} + {} tokens of sequence {}", segment.past, segment.len, segment.sequence),
            ));
        }
    }
    Ok(())
}

/// A fork is between two sequences of a cache of `sequences` sequences of `capacity` tokens.
///
/// # Errors
/// [`Error::Shape`] when it is not.
pub fn cache_fork(from: usize, to: usize, tokens: usize, sequences: usize, capacity: usize) -> Result<()> {
    if from.max(to) >= sequences || from == to || tokens > capacity {
        return Err(mismatch(
            "cache_fork",
            format!("two of {sequences} sequences of {capacity} tokens"),
            format!("{tokens} tokens from sequence {from} to {to}"),
        ));
    }
    Ok(())
}

/// A slot that has seen `ids` is one of `slots`, and the ids are in the vocabulary.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Request`] when they are not.
pub fn seen(slot: usize, ids: &[u32], vocab: usize, slots: usize) -> Result<()> {
    if slot >= slots {
        return Err(mismatch("set_seen", format!("a slot below {slots}"), format!("slot {slot}")));
    }
    match ids.iter().find(|id| **id as usize >= vocab) {
        Some(id) => Err(Error::Request(format!("token {id} is not in the vocabulary of {vocab} tokens"))),
        None => Ok(()),
    }
}

/// There are `rows` for `logits`, each with a slot of its own.
///
/// # Errors
/// [`Error::Shape`] when there are not.
pub fn sample(logits: [usize; 2], rows: &[SampleRow], vocab: usize, slots: usize) -> Result<()> {
    shape("sample", "logits", logits, [rows.len(), vocab])?;
    let mut taken = vec![false; slots];
    for SampleRow { slot, .. } in rows {
        match taken.get_mut(*slot) {
            Some(taken) if !*taken => *taken = true,
            _ => {
                return Err(mismatch(
                    "sample",
                    format!("rows of different slots below {slots}"),
                    format!("slot {slot}"),
                ));
            }
        }
    }
    Ok(())
}

/// Where in a weight's parts `bytes` from `first_row` on belong: (part, row within the part, number of rows).
///
/// # Errors
/// [`Error::Shape`] when they are not whole rows of one part.
pub fn rows_of_part(
    label: &str,
    cols: usize,
    parts: &[WeightPart],
    first_row: usize,
    bytes: usize,
) -> Result<(usize, usize, usize)> {
    let mut start = 0;
    for (index, part) in parts.iter().enumerate() {
        if first_row < start + part.rows {
            let row_bytes = row_bytes(label, cols, part)?;
            let rows = bytes / row_bytes;
            if !bytes.is_multiple_of(row_bytes) || first_row + rows > start + part.rows {
                return Err(mismatch(
                    "write_rows",
                    format!("whole rows of {row_bytes} bytes within rows {start} to {} of {label}", start + part.rows),
                    format!("{bytes} bytes from row {first_row} on"),
                ));
            }
            return Ok((index, first_row - start, rows));
        }
        start += part.rows;
    }
    Err(mismatch("write_rows", format!("a row below {start} of {label}"), format!("row {first_row}")))
}

/// Bytes of one row of a part.
///
/// # Errors
/// [`Error::Unsupported`] when a row is not whole blocks.
pub fn row_bytes(label: &str, cols: usize, part: &WeightPart) -> Result<usize> {
    part.encoding.row_bytes(cols).filter(|bytes| *bytes > 0).ok_or_else(|| {
        Error::Unsupported(format!(
            "{label}: rows of {cols} values are not whole blocks of {:?} ({} values); use another quantisation",
            part.encoding,
            part.encoding.block_values()
        ))
    })
}
