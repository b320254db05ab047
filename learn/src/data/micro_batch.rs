//! Examples as ragged batches.

use paddock_engine::backend::Segments;

use super::Example;

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
}

impl MicroBatch {
    /// Packs `examples`.
    pub fn new(examples: &[&Example]) -> Self {
        let (mut ids, mut rows, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let mut segments = Segments::default();
        for (sequence, example) in examples.iter().enumerate() {
            let start = ids.len();
            rows.extend(example.targets.iter().map(|position| start + position - 1));
            targets.extend(example.targets.iter().map(|&position| example.ids[position]));
            ids.extend(&example.ids);
            segments.push(example.ids.len(), 0, sequence);
        }
        Self { ids, segments, rows, targets }
    }
}

/// Cuts a batch into runs of at most `tokens` tokens; a longer example is a run of its own.
pub fn micro_batches(batch: &[&Example], tokens: usize) -> Vec<MicroBatch> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (index, example) in batch.iter().enumerate() {
        if index > start && sum + example.ids.len() > tokens {
            runs.push(MicroBatch::new(&batch[start..index]));
            (start, sum) = (index, 0);
        }
        sum += example.ids.len();
    }
    if start < batch.len() {
        runs.push(MicroBatch::new(&batch[start..]));
    }
    runs
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
    }

    #[test]
    fn runs_fit_the_budget_and_lose_nothing() {
        let examples: Vec<Example> =
            [3, 4, 2, 9, 1].iter().map(|&len| Example { ids: vec![7; len], targets: vec![] }).collect();
        let batch: Vec<&Example> = examples.iter().collect();
        let lengths = |tokens| micro_batches(&batch, tokens).iter().map(|run| run.ids.len()).collect::<Vec<_>>();
        assert_eq!(lengths(7), [7, 2, 9, 1]);
        assert_eq!(lengths(1), [3, 4, 2, 9, 1]);
        assert_eq!(lengths(100), [19]);
    }
}
