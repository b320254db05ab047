//! Trainable matrices in memory.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::storage::{Packed, PieceMut};
use super::{PIECE, expect, vectorised};
use crate::optim::Precision;

/// A matrix, row by row: a weight or a moment in any precision; a gradient in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub(super) shape: [usize; 2],
    /// Empty when the values are packed.
    pub(super) values: Vec<f32>,
    packed: Option<Packed>,
}

impl Dense {
    /// A matrix of zeros, if there is room.
    pub(super) fn zeros(label: &str, shape: [usize; 2], precision: Precision) -> Result<Self> {
        let no_room = || Error::Device {
            device: "CPU".to_string(),
            problem: format!("not enough memory to train {label}; choose a smaller model"),
        };
        let size = shape[0].checked_mul(shape[1]).ok_or_else(no_room)?;
        let packed = Packed::zeros(precision, size).map_err(|_| no_room())?;
        let mut values = Vec::new();
        if packed.is_none() {
            values.try_reserve_exact(size).map_err(|_| no_room())?;
            values.resize(size, 0.0);
        }
        Ok(Self { shape, values, packed })
    }

    /// A matrix of f32.
    #[cfg(test)]
    pub(super) fn from_values(shape: [usize; 2], values: Vec<f32>) -> Self {
        assert_eq!(shape[0] * shape[1], values.len());
        Self { shape, values, packed: None }
    }

    pub(super) fn write(&mut self, first: usize, values: &[f32]) -> Result<()> {
        let size = self.shape[0] * self.shape[1];
        let Some(end) = first.checked_add(values.len()).filter(|end| *end <= size) else {
            let (shape, got) = (self.shape, format!("{} values from {first} on", values.len()));
            return Err(Error::Shape { op: "write_param", expected: format!("values within {shape:?}"), got });
        };
        match &mut self.packed {
            None => self.values[first..end].copy_from_slice(values),
            Some(packed) => packed.write(first, values),
        }
        Ok(())
    }

    /// The values that a model computes with.
    pub(super) fn floats(&self) -> Cow<'_, [f32]> {
        self.packed.as_ref().map_or(Cow::Borrowed(&self.values), |packed| Cow::Owned(packed.floats()))
    }

    /// The values that steps are added to, where the model computes with rounded ones.
    pub(super) fn master(&self) -> Option<Vec<f32>> {
        self.packed.as_ref()?.master()
    }

    /// Appends the values of a row; false when there is no such row.
    pub(super) fn copy_row(&self, row: usize, out: &mut Vec<f32>) -> bool {
        let [rows, cols] = self.shape;
        if row >= rows {
            return false;
        }
        let places = row * cols..(row + 1) * cols;
        match &self.packed {
            None => out.extend_from_slice(&self.values[places]),
            Some(packed) => packed.copy(places, out),
        }
        true
    }

    /// The values in pieces of [`PIECE`], to be changed.
    pub(super) fn pieces_mut(&mut self) -> Vec<PieceMut<'_>> {
        match &mut self.packed {
            None => self.values.chunks_mut(PIECE).map(PieceMut::F32).collect(),
            Some(packed) => packed.pieces_mut(),
        }
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
