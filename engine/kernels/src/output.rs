//! A matrix that several threads fill at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The values of a matrix, each of which is written by one thread. They are atomics because that is how threads may share
/// what they write without `unsafe`; relaxed stores cost what plain ones do.
#[derive(Debug)]
pub struct Output {
    values: Vec<AtomicU32>,
    cols: usize,
}

impl Output {
    /// Zeros.
    #[inline(never)]
    pub fn zeros([rows, cols]: [usize; 2]) -> Arc<Self> {
        Arc::new(Self { values: (0..rows * cols).map(|_| AtomicU32::new(0)).collect(), cols })
    }

    /// Puts `values` into row `row` from column `col` on.
    #[inline(always)]
    pub(crate) fn write(&self, row: usize, col: usize, values: &[f32]) {
        for (place, value) in self.values[row * self.cols + col..][..values.len()].iter().zip(values) {
            place.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// The values, row by row, once no thread holds the matrix any more; otherwise a copy of them.
    #[inline(never)]
    pub fn into_values(self: Arc<Self>) -> Vec<f32> {
        match Arc::try_unwrap(self) {
            Ok(output) => output.values.into_iter().map(|value| f32::from_bits(value.into_inner())).collect(),
            Err(shared) => shared.values.iter().map(|value| f32::from_bits(value.load(Ordering::Relaxed))).collect(),
        }
    }
}
