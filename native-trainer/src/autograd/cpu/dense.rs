//! Trainable matrices in memory.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::{PIECE, expect, vectorised};

/// A matrix of f32, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub(super) shape: [usize; 2],
    pub(super) values: Vec<f32>,
}

impl Dense {
    /// A matrix of zeros, if there is room.
    pub(super) fn zeros(label: &str, shape: [usize; 2]) -> Result<Self> {
        let mut values = Vec::new();
        let room = shape[0].checked_mul(shape[1]).filter(|size| values.try_reserve_exact(*size).is_ok());
        let Some(size) = room else {
            return Err(Error::Device {
                device: "CPU".to_string(),
                problem: format!("not enough memory to train {label}; choose a smaller model"),
            });
        };
        values.resize(size, 0.0);
        Ok(Self { shape, values })
    }

    pub(super) fn write(&mut self, first: usize, values: &[f32]) -> Result<()> {
        let shape = self.shape;
        let end = first.checked_add(values.len());
        let Some(place) = end.and_then(|end| self.values.get_mut(first..end)) else {
            let got = format!("{} values from {first} on", values.len());
            return Err(Error::Shape { op: "write_param", expected: format!("values within {shape:?}"), got });
        };
        place.copy_from_slice(values);
        Ok(())
    }

    /// The only row of a vector.
    pub(super) fn vector(&self, op: &'static str, len: usize) -> Result<&[f32]> {
        expect(op, "a vector", self.shape, [1, len])?;
        Ok(&self.values)
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

    pub(super) fn view(&self) -> MatRef<'_, f32> {
        view(&self.values, self.shape)
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
