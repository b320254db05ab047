//! Sums of two matrices.

/// `a + b`, value by value.
#[inline(never)]
pub fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
