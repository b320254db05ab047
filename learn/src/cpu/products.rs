//! Matrix products of the adjoints, by the `gemm` kernels behind faer.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Every thread of the machine.
#[cfg(not(target_arch = "wasm32"))]
fn threads() -> Par {
    Par::rayon(0)
}

/// A browser's worker has one thread.
#[cfg(target_arch = "wasm32")]
fn threads() -> Par {
    Par::Seq
}

/// A matrix whose rows lie one after the other.
pub(super) fn view(values: &[f32], shape: [usize; 2]) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, shape[0], shape[1])
}

/// `a · b` into a new row-major matrix.
pub(super) fn product(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Vec<f32> {
    let (rows, cols) = (a.nrows(), b.ncols());
    let mut out = vec![0.0; rows * cols];
    matmul(MatMut::from_row_major_slice_mut(&mut out, rows, cols), Accum::Replace, a, b, 1.0, threads());
    out
}

/// `out += a · b`.
pub(super) fn add_product(out: MatMut<'_, f32>, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(out, Accum::Add, a, b, 1.0, threads());
}
