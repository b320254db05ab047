//! Changes that are made to a checkpoint's tensors as their rows are read: what an adapter adds to a model.

use std::ops::Range;

/// `scale · b · a`, which is added to a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Factor of the product.
    pub scale: f32,
    /// Rows of `a`, columns of `b`.
    pub rank: usize,
    /// `[rank, columns]`.
    pub a: Vec<f32>,
    /// `[rows, rank]`.
    pub b: Vec<f32>,
}

/// What changes in a tensor, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorChange {
    /// All of its values.
    pub replaced: Option<Vec<f32>>,
    /// What is added.
    pub added: Vec<LowRank>,
    /// The length that each row is given afterwards (DoRA, arXiv 2402.09353).
    pub row_lengths: Option<Vec<f32>>,
}

impl TensorChange {
    /// Whether it fits a tensor of `rows` and `columns`.
    pub(super) fn fits(&self, [rows, columns]: [usize; 2]) -> bool {
        self.replaced.as_ref().is_none_or(|values| values.len() == rows * columns)
            && self.row_lengths.as_ref().is_none_or(|lengths| lengths.len() == rows)
            && self
                .added
                .iter()
                .all(|added| added.a.len() == added.rank * columns && added.b.len() == rows * added.rank)
    }

    /// Changes `values`, which are the rows `rows` of the tensor.
    pub(super) fn apply(&self, rows: Range<usize>, columns: usize, values: &mut [f32]) {
        if let Some(replaced) = self.replaced.as_ref().and_then(|all| all.get(rows.start * columns..rows.end * columns))
        {
            values.copy_from_slice(replaced);
        }
        for (row, values) in rows.zip(values.chunks_exact_mut(columns.max(1))) {
            for LowRank { scale, rank, a, b } in &self.added {
                let factors = b.get(row * rank..(row + 1) * rank).unwrap_or_default();
                for (factor, a) in factors.iter().zip(a.chunks_exact(columns.max(1))) {
                    let factor = factor * scale;
                    values.iter_mut().zip(a).for_each(|(value, a)| *value += factor * a);
                }
            }
            if let Some(length) = self.row_lengths.as_ref().and_then(|lengths| lengths.get(row)) {
                let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                let factor = (f64::from(*length) / norm) as f32;
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_replaced_added_to_and_given_their_length() {
        let added = LowRank { scale: 2.0, rank: 1, a: vec![1.0, -1.0], b: vec![0.5, 3.0] };
        let mut change = TensorChange { added: vec![added], ..TensorChange::default() };
        assert!(change.fits([2, 2]) && !change.fits([2, 3]) && !change.fits([3, 2]));
        let mut values = [1.0, 1.0];
        change.apply(1..2, 2, &mut values);
        assert_eq!(values, [7.0, -5.0]);
        change.replaced = Some(vec![0.0, 0.0, 10.0, 10.0]);
        let mut values = [1.0; 4];
        change.apply(0..2, 2, &mut values);
        assert_eq!(values, [1.0, -1.0, 16.0, 4.0]);
        change.row_lengths = Some(vec![2.0, 2.0]);
        change.apply(0..2, 2, &mut values);
        assert!(values.chunks(2).all(|row| (row[0].hypot(row[1]) - 2.0).abs() < 1e-6), "{values:?}");
    }

    #[test]
    fn later_rows_are_replaced_by_their_own() {
        let change =
            TensorChange { replaced: Some((0..6).map(|value| value as f32).collect()), ..TensorChange::default() };
        let mut values = [9.0; 2];
        change.apply(2..3, 2, &mut values);
        assert_eq!(values, [4.0, 5.0]);
    }

    #[test]
    fn each_part_of_a_change_must_fit() {
        let change = |replaced, lengths| TensorChange {
            replaced: Some(vec![0.0; replaced]),
            row_lengths: Some(vec![1.0; lengths]),
            ..TensorChange::default()
        };
        assert!(change(4, 2).fits([2, 2]));
        assert!(!change(3, 2).fits([2, 2]));
        assert!(!change(4, 3).fits([2, 2]));
    }
}
