//! Trainable matrices in memory.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use half::bf16;
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::{PIECE, expect, vectorised};
use crate::optim::{Precision, join, split};

/// A matrix, row by row: a weight in any precision; a gradient or a moment in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub(super) shape: [usize; 2],
    /// Empty when the values are in bf16.
    pub(super) values: Vec<f32>,
    pub(super) bf16: Option<Bf16>,
}

/// The values of a weight in bf16.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bf16 {
    pub high: Vec<bf16>,
    /// What [`split`] cut off, where a step is to have the precision of f32.
    pub low: Option<Vec<i16>>,
}

impl Dense {
    /// A matrix of zeros, if there is room.
    pub(super) fn zeros(label: &str, shape: [usize; 2], precision: Precision) -> Result<Self> {
        let no_room = || Error::Device {
            device: "CPU".to_string(),
            problem: format!("not enough memory to train {label}; choose a smaller model"),
        };
        let size = shape[0].checked_mul(shape[1]).ok_or_else(no_room)?;
        let (mut values, mut high, mut low) = (Vec::new(), Vec::new(), Vec::new());
        let reserved = match precision {
            Precision::F32 => values.try_reserve_exact(size),
            Precision::Bf16Stochastic => high.try_reserve_exact(size),
            Precision::Bf16Split => high.try_reserve_exact(size).and_then(|()| low.try_reserve_exact(size)),
        };
        reserved.map_err(|_| no_room())?;
        if precision == Precision::F32 {
            values.resize(size, 0.0);
            return Ok(Self { shape, values, bf16: None });
        }
        high.resize(size, bf16::ZERO);
        low.resize(if precision == Precision::Bf16Split { size } else { 0 }, 0);
        let low = (precision == Precision::Bf16Split).then_some(low);
        Ok(Self { shape, values, bf16: Some(Bf16 { high, low }) })
    }

    pub(super) fn write(&mut self, first: usize, values: &[f32]) -> Result<()> {
        let size = self.shape[0] * self.shape[1];
        let Some(end) = first.checked_add(values.len()).filter(|end| *end <= size) else {
            let (shape, got) = (self.shape, format!("{} values from {first} on", values.len()));
            return Err(Error::Shape { op: "write_param", expected: format!("values within {shape:?}"), got });
        };
        match &mut self.bf16 {
            None => self.values[first..end].copy_from_slice(values),
            Some(Bf16 { high, low: None }) => {
                high[first..end].iter_mut().zip(values).for_each(|(high, value)| *high = bf16::from_f32(*value));
            }
            Some(Bf16 { high, low: Some(low) }) => {
                let places = high[first..end].iter_mut().zip(&mut low[first..end]);
                places.zip(values).for_each(|((high, low), value)| (*high, *low) = split(*value));
            }
        }
        Ok(())
    }

    /// The values that a model computes with.
    pub(super) fn floats(&self) -> Cow<'_, [f32]> {
        let Some(Bf16 { high, .. }) = &self.bf16 else { return Cow::Borrowed(&self.values) };
        let mut values = vec![0.0; high.len()];
        values.par_chunks_mut(PIECE).zip(high.par_chunks(PIECE)).for_each(|(values, high)| {
            vectorised(|| values.iter_mut().zip(high).for_each(|(value, high)| *value = widen(*high)));
        });
        Cow::Owned(values)
    }

    /// The values that steps are added to, where the model computes with rounded ones.
    pub(super) fn master(&self) -> Option<Vec<f32>> {
        let Some(Bf16 { high, low: Some(low) }) = &self.bf16 else { return None };
        Some(high.iter().zip(low).map(|(high, low)| join(*high, *low)).collect())
    }

    /// Appends the values of a row; false when there is no such row.
    pub(super) fn copy_row(&self, row: usize, out: &mut Vec<f32>) -> bool {
        let [rows, cols] = self.shape;
        if row >= rows {
            return false;
        }
        let place = row * cols..(row + 1) * cols;
        match &self.bf16 {
            None => out.extend_from_slice(&self.values[place]),
            Some(Bf16 { high, .. }) => out.extend(high[place].iter().map(|high| widen(*high))),
        }
        true
    }

    /// The only row of a vector.
    pub(super) fn vector(&self, op: &'static str, len: usize) -> Result<Cow<'_, [f32]>> {
        expect(op, "a vector", self.shape, [1, len])?;
        Ok(self.floats())
    }

    /// In pieces, so that the order of the sum does not depend on threads.
    pub(super) fn squared_norm(&self) -> f64 {
        let pieces = self.values.par_chunks(PIECE).map(|piece| {
            vectorised(|| {
                // Eight sums side by side, which is what vectors add.
                let mut sums = [0.0f64; 8];
                let (eights, rest) = piece.as_chunks::<8>();
                for eight in eights {
                    for (sum, value) in sums.iter_mut().zip(eight) {
                        *sum += f64::from(*value) * f64::from(*value);
                    }
                }
                sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
            })
        });
        pieces.collect::<Vec<_>>().into_iter().sum()
    }

    pub(super) fn view_mut(&mut self) -> MatMut<'_, f32> {
        MatMut::from_row_major_slice_mut(&mut self.values, self.shape[0], self.shape[1])
    }
}

/// A bf16's value; a shift, where `half`'s own conversion minds the bits of NaNs.
#[inline(always)]
pub(super) fn widen(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// A matrix whose rows lie one after the other.
pub(super) fn view(values: &[f32], shape: [usize; 2]) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, shape[0], shape[1])
}

/// `a · b` into a new row-major matrix, on all threads.
pub(super) fn product(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Vec<f32> {
    let (rows, cols) = (a.nrows(), b.ncols());
    let mut out = vec![0.0; rows * cols];
    matmul(MatMut::from_row_major_slice_mut(&mut out, rows, cols), Accum::Replace, a, b, 1.0, Par::rayon(0));
    out
}

/// `out += a · b`, on all threads.
pub(super) fn add_product(out: MatMut<'_, f32>, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(out, Accum::Add, a, b, 1.0, Par::rayon(0));
}
