//! Examples as ragged batches.

use paddock_engine::backend::Segments;

use super::Example;
use crate::dropout::row_key;

/// Examples that run together: no padding, and no attention across documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroBatch {
    /// Tokens of all documents, one after the other.
    pub ids: Vec<u32>,
    /// Which rows are which document's.
    pub segments: Segments,
    /// Rows that predict a token to be learned.
    pub rows: Vec<usize>,
    /// That token, for each of them.
    pub targets: Vec<u32>,
    /// For each row, what dropout knows it by: the place of its document in the step's batch, and its position.
    pub keys: Vec<u32>,
}

impl MicroBatch {
    /// Packs `examples`, which are the step's batch.
    pub fn new(examples: &[&Example]) -> Self {
        Self::of(&examples.iter().copied().enumerate().collect::<Vec<_>>())
    }

    /// Packs examples with their places in the step's batch.
    pub(super) fn of(examples: &[(usize, &Example)]) -> Self {
        let (mut ids, mut rows, mut targets, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut segments = Segments::default();
        for (sequence, (place, example)) in examples.iter().enumerate() {
            let start = ids.len();
            rows.extend(example.targets.iter().map(|position| start + position - 1));
            targets.extend(example.targets.iter().map(|&position| example.ids[position]));
            ids.extend(&example.ids);
            keys.extend((0..example.ids.len()).map(|position| row_key(*place as u32, position as u32)));
            segments.push(example.ids.len(), 0, sequence);
        }
        Self { ids, segments, rows, targets, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_rows_and_targets() {
        let first = Example { ids: vec![1, 10, 11], targets: vec![2] };
        let second = Example { ids: vec![1, 20, 21, 22], targets: vec![1, 3] };
        let batch = MicroBatch::new(&[&first, &second]);
        assert_eq!(batch.ids, [1, 10, 11, 1, 20, 21, 22]);
        assert_eq!((batch.rows, batch.targets), (vec![1, 3, 5], vec![11, 20, 22]));
        assert_eq!(batch.segments, Segments::documents(&[3, 4]));
        // Every row is known by another key, and by the same one wherever its example runs.
        let alone = MicroBatch::of(&[(1, &second)]);
        assert_eq!(batch.keys[3..], alone.keys);
        assert!((0..7).all(|i| !batch.keys[..i].contains(&batch.keys[i])));
    }
}
