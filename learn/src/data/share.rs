//! What of a step's batch a rank runs.

use super::{Example, MicroBatch};

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
        let lengths: Vec<usize> = batch.iter().map(|example| example.ids.len()).collect();
        let micro =
            |members: &[usize]| MicroBatch::of(&members.iter().map(|&index| (index, batch[index])).collect::<Vec<_>>());
        let Divided { passes, count } = divide(&lengths, rank, world_size, micro_batch_tokens);
        let passes = passes.iter().map(|(members, counts)| (micro(members), *counts)).collect();
        let targets = batch.iter().map(|example| example.targets.len()).sum();
        Self { passes, targets, micro_batches: count, tokens: batch.iter().map(|example| example.ids.len()).sum() }
    }

    /// The whole of a batch, for one that trains alone.
    pub fn whole(batch: &[&Example], micro_batch_tokens: usize) -> Self {
        Self::new(batch, 0, 1, micro_batch_tokens)
    }
}

/// What a rank runs of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Passes<T> {
    /// What runs together, and whether it counts: as in [`Share`].
    pub passes: Vec<(Vec<T>, bool)>,
    /// Passes of all ranks that count.
    pub count: usize,
}

impl<T: Clone> Passes<T> {
    /// The share of rank `rank` of `world_size` in `items`, in passes of at most `tokens` tokens; a longer item is a pass of
    /// its own.
    pub fn new(items: &[T], example: impl Fn(&T) -> &Example, [rank, world_size]: [usize; 2], tokens: usize) -> Self {
        let lengths: Vec<usize> = items.iter().map(|item| example(item).ids.len()).collect();
        let Divided { passes, count } = divide(&lengths, rank, world_size, tokens);
        let items = |members: Vec<usize>| members.into_iter().map(|index| items[index].clone()).collect();
        Self { passes: passes.into_iter().map(|(members, counts)| (items(members), counts)).collect(), count }
    }
}

/// How what is to be run is divided: the passes of one rank, as the items that run together, and whether a pass counts.
#[derive(Debug)]
pub(super) struct Divided {
    /// The rank's passes; all ranks have as many.
    pub passes: Vec<(Vec<usize>, bool)>,
    /// Passes of all ranks that count.
    pub count: usize,
}

/// Divides items of these `lengths` among `world_size` ranks, the longest first to the rank that has fewest tokens, and
/// each rank's, in their order, into passes of at most `tokens` tokens; a longer item is a pass of its own.
pub(super) fn divide(lengths: &[usize], rank: usize, world_size: usize, tokens: usize) -> Divided {
    let mut ranks: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); world_size.max(1)];
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    for index in longest_first {
        if let Some((tokens, indices)) = ranks.iter_mut().min_by_key(|(tokens, _)| *tokens) {
            *tokens += lengths[index];
            indices.push(index);
        }
    }
    let mut all: Vec<Vec<Vec<usize>>> = Vec::new();
    for (_, mut indices) in ranks {
        // In the batch's order, as one rank alone runs them.
        indices.sort_unstable();
        let mut passes: Vec<Vec<usize>> = Vec::new();
        let mut sum = 0;
        for index in indices {
            match passes.last_mut() {
                Some(pass) if sum + lengths[index] <= tokens => {
                    pass.push(index);
                    sum += lengths[index];
                }
                _ => {
                    passes.push(vec![index]);
                    sum = lengths[index];
                }
            }
        }
        all.push(passes);
    }
    let most = all.iter().map(Vec::len).max().unwrap_or_default();
    let length = |pass: &&Vec<usize>| pass.iter().map(|&index| lengths[index]).sum::<usize>();
    let filler = all.iter().flatten().min_by_key(length).cloned();
    let count = all.iter().map(Vec::len).sum();
    let mut passes: Vec<(Vec<usize>, bool)> =
        all.into_iter().nth(rank).unwrap_or_default().into_iter().map(|pass| (pass, true)).collect();
    if let Some(filler) = filler {
        passes.resize_with(most, || (filler.clone(), false));
    }
    Divided { passes, count }
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
    fn passes_fit_the_budget_and_lose_nothing() {
        let lengths = [3, 4, 2, 9, 1];
        let sums = |tokens| {
            let passes = divide(&lengths, 0, 1, tokens).passes;
            passes.iter().map(|(pass, _)| pass.iter().map(|at| lengths[*at]).sum::<usize>()).collect::<Vec<_>>()
        };
        assert_eq!(sums(7), [7, 2, 9, 1]);
        assert_eq!(sums(1), [3, 4, 2, 9, 1]);
        assert_eq!(sums(100), [19]);
    }

    #[test]
    fn one_alone_keeps_the_order() {
        let examples = examples(&[3, 9, 2]);
        let batch: Vec<&Example> = examples.iter().collect();
        let share = Share::whole(&batch, 100);
        assert_eq!(share.passes, [(MicroBatch::new(&batch), true)]);
        assert_eq!(share.micro_batches, 1);
    }

    #[test]
    fn items_go_to_the_rank_that_has_fewest_tokens() {
        let passes = |rank| divide(&[5, 9, 2, 7], rank, 2, 100).passes;
        assert_eq!([passes(0), passes(1)], [[(vec![1, 2], true)], [(vec![0, 3], true)]]);
    }
}
