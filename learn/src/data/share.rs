//! What of a step's batch a rank runs.

use super::{Example, MicroBatch, micro_batches};

/// A rank's share of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What the rank runs, and whether it counts: ranks that share a model run equally often, so those with less to do
    /// fill up with passes that add nothing.
    pub passes: Vec<(MicroBatch, bool)>,
    /// Tokens of all ranks that are to be predicted.
    pub targets: usize,
    /// Micro-batches of all ranks that count.
    pub micro_batches: usize,
    /// Tokens of all ranks.
    pub tokens: usize,
}

impl Share {
    /// The share of rank `rank` of `world_size` in `batch`, whose examples all have something to learn, in micro-batches
    /// of at most `micro_batch_tokens` tokens. The examples go, the longest first, to the rank that has fewest tokens.
    pub fn new(batch: &[&Example], rank: usize, world_size: usize, micro_batch_tokens: usize) -> Self {
        let mut ranks: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); world_size.max(1)];
        let mut longest_first: Vec<usize> = (0..batch.len()).collect();
        longest_first.sort_by_key(|&index| std::cmp::Reverse(batch[index].ids.len()));
        for index in longest_first {
            if let Some((tokens, indices)) = ranks.iter_mut().min_by_key(|(tokens, _)| *tokens) {
                *tokens += batch[index].ids.len();
                indices.push(index);
            }
        }
        let mut all: Vec<Vec<MicroBatch>> = Vec::new();
        for (_, mut indices) in ranks {
            // In the batch's order, as one rank alone runs them.
            indices.sort_unstable();
            let examples: Vec<(usize, &Example)> = indices.iter().map(|&index| (index, batch[index])).collect();
            all.push(micro_batches(&examples, micro_batch_tokens));
        }
        let most = all.iter().map(Vec::len).max().unwrap_or_default();
        let filler = all.iter().flatten().min_by_key(|micro| micro.ids.len()).cloned();
        let micro_batch_count = all.iter().map(Vec::len).sum();
        let mut passes: Vec<(MicroBatch, bool)> =
            all.into_iter().nth(rank).unwrap_or_default().into_iter().map(|micro| (micro, true)).collect();
        if let Some(filler) = filler {
            passes.resize_with(most, || (filler.clone(), false));
        }
        let targets = batch.iter().map(|example| example.targets.len()).sum();
        Self {
            passes,
            targets,
            micro_batches: micro_batch_count,
            tokens: batch.iter().map(|example| example.ids.len()).sum(),
        }
    }

    /// The whole of a batch, for one that trains alone.
    pub fn whole(batch: &[&Example], micro_batch_tokens: usize) -> Self {
        Self::new(batch, 0, 1, micro_batch_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let example = |(index, len): (usize, &usize)| Example { ids: vec![index as u32; *len], targets: vec![1] };
        lengths.iter().enumerate().map(example).collect()
    }

    #[test]
    fn every_example_runs_once_and_ranks_run_equally_often() {
        let examples = examples(&[5, 9, 2, 7, 7, 3, 2]);
        let batch: Vec<&Example> = examples.iter().collect();
        for world_size in 1..=9 {
            let shares: Vec<Share> = (0..world_size).map(|rank| Share::new(&batch, rank, world_size, 10)).collect();
            let real = shares.iter().flat_map(|share| &share.passes).filter(|(_, real)| *real);
            let mut ids: Vec<u32> = real.flat_map(|(micro, _)| micro.ids.clone()).collect();
            ids.sort_unstable();
            assert_eq!(ids.len(), 35);
            ids.dedup();
            assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6]);
            assert!(shares.iter().all(|share| share.passes.len() == shares[0].passes.len()));
            assert!(shares.iter().all(|share| (share.targets, share.tokens) == (7, 35)));
            assert!(shares.iter().all(|share| share.passes.iter().all(|(micro, _)| micro.ids.len() <= 10)));
        }
    }

    #[test]
    fn one_alone_keeps_the_order() {
        let examples = examples(&[3, 9, 2]);
        let batch: Vec<&Example> = examples.iter().collect();
        let share = Share::whole(&batch, 100);
        assert_eq!(share.passes, [(MicroBatch::new(&batch), true)]);
        assert_eq!(share.micro_batches, 1);
    }
}
