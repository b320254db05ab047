//! Rotary position embedding.

use super::Tensor;
use crate::Result;
use crate::backend::{HeadLayout, Segments, check};

pub(super) fn rope(qkv: &Tensor, heads: HeadLayout, segments: &Segments, frequencies: &Tensor) -> Result<Tensor> {
    let half = heads.head_dim / 2;
    check::fused_rows("rope", qkv.shape, heads, segments)?;
    check::shape("rope", "frequencies", frequencies.shape, [1, half])?;
    let mut out = qkv.values.to_vec();
    let rotated = heads.q_dim() + heads.kv_dim();
    for (row, position) in out.chunks_exact_mut(heads.qkv_dim()).zip(segments.positions()) {
        paddock_kernels::rope(&mut row[..rotated], heads.head_dim, position, &frequencies.values);
    }
    Ok(Tensor::new(qkv.shape, out))
}

#[cfg(test)]
mod tests {
    use std::f32::consts::FRAC_PI_2;

    use super::*;
    use crate::backend::cpu::testing::numbers;

    const HEADS: HeadLayout = HeadLayout { heads: 2, kv_heads: 1, head_dim: 4 };

    #[test]
    fn a_quarter_turn_swaps_the_halves_of_queries_and_keys_only() {
        let row: Vec<f32> = (1..=16).map(|v| v as f32).collect();
        let qkv = Tensor::new([2, 16], [row.clone(), row.clone()].concat());
        let frequencies = Tensor::new([1, 2], vec![FRAC_PI_2, 2.0 * FRAC_PI_2]);
        let out = rope(&qkv, HEADS, &Segments::documents(&[2]), &frequencies).unwrap();
        assert_eq!(out.values[..16], row, "position 0 does not turn");
        // Pair (0, 2) turns by 90°: (a, b) becomes (-b, a). Pair (1, 3) turns by 180°.
        let expected = [-3.0, -2.0, 1.0, -4.0, -7.0, -6.0, 5.0, -8.0, -11.0, -10.0, 9.0, -12.0, 13.0, 14.0, 15.0, 16.0];
        for (got, expected) in out.values[16..].iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{got} not {expected}");
        }
    }

    #[test]
    fn positions_count_from_the_past_of_each_segment() {
        let frequencies = Tensor::new([1, 2], vec![1.0, 0.1]);
        let values = numbers(5 * 16, 3);
        let whole =
            rope(&Tensor::new([5, 16], values.clone()), HEADS, &Segments::documents(&[5]), &frequencies).unwrap();
        let mut split = Segments::default();
        split.push(2, 3, 0);
        split.push(3, 0, 1);
        let order = [3, 4, 0, 1, 2];
        let shuffled = order.iter().flat_map(|row| values[row * 16..][..16].to_vec()).collect();
        let out = rope(&Tensor::new([5, 16], shuffled), HEADS, &split, &frequencies).unwrap();
        for (i, row) in order.iter().enumerate() {
            assert_eq!(out.values[i * 16..][..16], whole.values[row * 16..][..16]);
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let qkv = Tensor::new([1, 16], vec![0.0; 16]);
        let frequencies = Tensor::new([1, 2], vec![1.0; 2]);
        assert!(rope(&qkv, HEADS, &Segments::documents(&[2]), &frequencies).is_err());
        assert!(rope(&qkv, HEADS, &Segments::documents(&[1]), &Tensor::new([1, 1], vec![1.0])).is_err());
    }
}
