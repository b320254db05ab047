//! What PiSSA and OLoRA take out of a weight before training, so that the untrained adapter changes nothing (PEFT
//! `tuners/lora/layer.py`, `pissa_init` and `olora_init`). Both remove the projection on a subspace of the columns' space.

use faer::{Mat, MatRef};
use paddock_engine::weights::LowRank;

use super::config::Initial;
use crate::{Error, Result};

/// The product that is taken out of `weight`, `[rows, columns]`, by an adapter of rank `rank` that is added `scale` times. PiSSA
/// spreads the projection over the scaled product; OLoRA makes the matrices first, and takes out as much as is added.
///
/// # Errors
/// When the decomposition does not converge, as for a weight that is not finite.
pub(super) fn removed(
    initial: Initial,
    weight: &[f32],
    [rows, columns]: [usize; 2],
    rank: usize,
    scale: f32,
) -> Result<LowRank> {
    let weight: Vec<f64> = weight.iter().copied().map(f64::from).collect();
    let weight = MatRef::from_row_major_slice(&weight, rows, columns);
    let failed = || Error::Request("a weight of the base cannot be decomposed; is it damaged?".to_string());
    // Orthonormal columns that span the subspace.
    let basis: Mat<f64> = match initial {
        Initial::Unchanged => Mat::zeros(rows, 0),
        Initial::Pissa => {
            let svd = weight.thin_svd().map_err(|_| failed())?;
            svd.U().subcols(0, rank.min(rows.min(columns))).to_owned()
        }
        Initial::Olora => {
            let leading = weight.subcols(0, rank.min(rows.min(columns)));
            leading.qr().compute_thin_Q()
        }
    };
    let projected = basis.transpose() * weight;
    let row_major = |matrix: MatRef<'_, f64>| -> Vec<f32> {
        (0..matrix.nrows())
            .flat_map(|row| (0..matrix.ncols()).map(move |column| matrix[(row, column)] as f32))
            .collect()
    };
    let scale = if initial == Initial::Olora { -scale } else { -1.0 };
    Ok(LowRank { scale, rank: basis.ncols(), a: row_major(projected.as_ref()), b: row_major(basis.as_ref()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the weight after the removal: numbers whose sum of squares is known.
    fn left(initial: Initial, weight: &[f32], [rows, columns]: [usize; 2], rank: usize, scale: f32) -> Vec<f32> {
        let LowRank { scale, rank, a, b } = removed(initial, weight, [rows, columns], rank, scale).unwrap();
        let entry = |row: usize, column: usize| {
            let product: f32 = (0..rank).map(|k| b[row * rank + k] * a[k * columns + column]).sum();
            weight[row * columns + column] + scale * product
        };
        (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect()
    }

    #[test]
    fn pissa_removes_the_largest_direction() {
        // diag(3, 2) with a row of zeros.
        let weight = [3.0, 0.0, 0.0, 2.0, 0.0, 0.0];
        for scale in [1.0, 2.0] {
            let left = left(Initial::Pissa, &weight, [3, 2], 1, scale);
            assert!(left.iter().zip([0.0, 0.0, 0.0, 2.0, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{left:?}");
        }
    }

    #[test]
    fn olora_removes_the_span_of_the_first_columns() {
        // The first column is (1, 1); of the second, (4, 2), its part along it is (3, 3).
        for (scale, expected) in [(1.0, [0.0, 1.0, 0.0, -1.0]), (2.0, [-1.0, -2.0, -1.0, -4.0])] {
            let left = left(Initial::Olora, &[1.0, 4.0, 1.0, 2.0], [2, 2], 1, scale);
            assert!(left.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{scale}: {left:?}");
        }
    }
}
