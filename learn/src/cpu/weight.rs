//! Values of the engine's weights, as adjoints read and training writes them.

use std::borrow::Cow;
use std::ops::Range;

use half::bf16;
use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{Values, ValuesMut, Weight};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::{PIECE, expect};

/// All values, row by row without gaps; copied only where the weight is not of dense f32.
pub(super) fn floats<'w>(cpu: &Cpu, weight: &'w Weight) -> Result<Cow<'w, [f32]>> {
    let [rows, cols] = weight.shape();
    if let (Some(Values::F32(values)), true) = (weight.values(), weight.stride() == cols) {
        return Ok(Cow::Borrowed(values));
    }
    let mut out = vec![0.0; rows * cols];
    read_rows(cpu, weight, 0..rows, &mut out)?;
    Ok(Cow::Owned(out))
}

/// Rows in any encoding as f32, on all threads.
pub(super) fn read_rows(cpu: &Cpu, weight: &Weight, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
    let cols = weight.shape()[1].max(1);
    let step = (PIECE / cols).max(1);
    out.par_chunks_mut(step * cols).enumerate().try_for_each(|(index, out)| {
        let first = rows.start + index * step;
        weight.read_rows(cpu, first..(first + step).min(rows.end), out)
    })
}

/// The only row of a vector of `len` values.
pub(super) fn vector<'w>(cpu: &Cpu, op: &'static str, weight: &'w Weight, len: usize) -> Result<Cow<'w, [f32]>> {
    expect(op, "a vector", weight.shape(), [1, len])?;
    floats(cpu, weight)
}

/// Puts `values` at the row-major places from `first` on.
pub(super) fn write_values(weight: &mut Weight, first: usize, values: &[f32]) -> Result<()> {
    let ([rows, cols], stride) = (weight.shape(), weight.stride());
    if first.checked_add(values.len()).is_none_or(|end| end > rows * cols) {
        let (expected, got) =
            (format!("values within {:?}", [rows, cols]), format!("{} from {first} on", values.len()));
        return Err(Error::Shape { op: "write_values", expected, got });
    }
    match weight.values_mut()? {
        ValuesMut::F32(own) => scatter(own, first, values, [cols, stride], |value| value),
        ValuesMut::Bf16(own) => scatter(own, first, values, [cols, stride], bf16::from_f32),
    }
    Ok(())
}

/// Copies to rows of `cols` values that are `stride` apart.
fn scatter<T>(own: &mut [T], first: usize, values: &[f32], [cols, stride]: [usize; 2], convert: impl Fn(f32) -> T) {
    let (mut place, mut rest) = (first, values);
    while !rest.is_empty() {
        let (row, col) = (place / cols, place % cols);
        let (now, after) = rest.split_at(rest.len().min(cols - col));
        let out = &mut own[row * stride + col..][..now.len()];
        out.iter_mut().zip(now).for_each(|(out, value)| *out = convert(*value));
        (place, rest) = (place + now.len(), after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{numbers, weight};

    #[test]
    fn rows_that_do_not_fill_groups_are_written_and_read_without_gaps() {
        let cpu = Cpu::with_threads(1);
        for [rows, cols] in [[3, 5], [2, 32], [4, 33], [1, 100]] {
            let values = numbers(rows * cols, 3);
            let mut matrix = weight([rows, cols], &vec![0.0; rows * cols]);
            for start in (0..values.len()).step_by(7) {
                write_values(&mut matrix, start, &values[start..(start + 7).min(values.len())]).unwrap();
            }
            assert_eq!(*floats(&cpu, &matrix).unwrap(), values);
            assert!(write_values(&mut matrix, rows * cols, &[1.0]).is_err());
        }
    }
}
