//! Rotary position embedding.

/// Rotates the heads of one row, `head_dim` wide each, by `position · frequencies`: pairs `(i, i + head_dim / 2)`, of which
/// `frequencies` has one each.
#[inline(never)]
pub fn rope(heads: &mut [f32], head_dim: usize, position: u32, frequencies: &[f32]) {
    let turns: Vec<(f32, f32)> = frequencies.iter().map(|frequency| (position as f32 * frequency).sin_cos()).collect();
    for head in heads.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(turns.len());
        for ((a, b), (sin, cos)) in first.iter_mut().zip(second).zip(&turns) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
