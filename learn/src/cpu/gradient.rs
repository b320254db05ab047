//! Gradients of weights: dense f32.

use faer::MatMut;
use paddock_engine::{Error, Result};
use rayon::prelude::*;

use super::{PIECE, expect};

/// The gradient of a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    pub(super) shape: [usize; 2],
    pub(super) values: Vec<f32>,
}

impl Gradient {
    /// Zeros, if there is room.
    pub(super) fn zeros(label: &str, shape: [usize; 2]) -> Result<Self> {
        let size = shape[0].checked_mul(shape[1]).ok_or_else(|| no_room(label))?;
        let mut values = Vec::new();
        values.try_reserve_exact(size).map_err(|_| no_room(label))?;
        values.resize(size, 0.0);
        Ok(Self { shape, values })
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn write(&mut self, values: &[f32]) -> Result<()> {
        expect("write_gradient", "values of", [1, values.len()], [1, self.values.len()])?;
        self.values.copy_from_slice(values);
        Ok(())
    }

    /// Summed in pieces, so that the order of the sum does not depend on threads.
    pub(super) fn squared_norm(&self) -> f64 {
        let pieces = self.values.par_chunks(PIECE).map(squares);
        pieces.collect::<Vec<_>>().into_iter().sum()
    }

    pub(super) fn view_mut(&mut self) -> MatMut<'_, f32> {
        MatMut::from_row_major_slice_mut(&mut self.values, self.shape[0], self.shape[1])
    }
}

vectorised! {
    /// The sum of the squares.
    fn squares<'a>(values: &'a [f32]) -> f64 {
        // Eight sums side by side, which is what vectors add.
        let mut sums = [0.0f64; 8];
        let (eights, rest) = values.as_chunks::<8>();
        for eight in eights {
            for (sum, value) in sums.iter_mut().zip(eight) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
    }
}

/// The error of an allocation for `label` that failed.
pub(super) fn no_room(label: &str) -> Error {
    Error::Device {
        device: "CPU".to_string(),
        problem: format!("not enough memory to train {label}; choose a smaller model"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_squared_norm_is_the_sum_of_all_squares() {
        // Eights and a rest, in two pieces.
        let size = PIECE + 11;
        let mut gradient = Gradient::zeros("w", [1, size]).unwrap();
        let values: Vec<f32> = (0..size).map(|at| (at % 7) as f32 - 2.5).collect();
        gradient.write(&values).unwrap();
        assert_eq!(gradient.values(), values);
        assert_eq!(gradient.squared_norm(), values.iter().map(|value| f64::from(value * value)).sum::<f64>());
        assert!(gradient.write(&values[1..]).is_err());
    }
}
