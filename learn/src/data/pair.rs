//! Pairs of documents that a loss compares, as ragged batches.

use std::ops::Range;

use paddock_engine::backend::Segments;

use super::share::{Divided, divide};
use crate::dropout::row_key;

/// Two documents that are compared: two answers to one prompt; or an answer, and one to another prompt that KTO measures
/// the model's drift by.
#[derive(Debug, Clone, PartialEq)]
pub struct PairExample {
    /// Tokens of both: first the better or the safer one's.
    pub ids: [Vec<u32>; 2],
    /// Positions of the tokens of each answer, in order; never 0, which nothing comes before.
    pub targets: [Vec<usize>; 2],
    /// By how much the first is to score higher, at least.
    pub margin: f64,
    /// Which of them are safe; for a single answer, whether it is wanted.
    pub safe: [bool; 2],
}

impl PairExample {
    /// The first position at which the two differ.
    pub fn divergence(&self) -> usize {
        let [first, second] = &self.ids;
        first.iter().zip(second).take_while(|(first, second)| first == second).count()
    }

    /// Tokens of both.
    pub fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

/// Which positions of a pair's documents count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The answers' tokens.
    Answers,
    /// The answers' tokens from the first that differs on.
    Divergence,
    /// What Safe-RLHF's DPO takes in the place of [`Extent::Divergence`]: all one token later, so that the first that
    /// differs is left out and, except in rows as long as the longest of the whole batch, a padding token is added.
    Upstream {
        /// The padding token.
        pad: u32,
    },
    /// The tokens whose scores are those of the documents.
    Ends {
        /// The token that does not count as the last one.
        pad: Option<u32>,
    },
    /// From the first token that differs to the last of the shorter document, if it comes that far; and once more the last
    /// token of each.
    Shared,
}

/// A token that is predicted: the position of the row that predicts it, and the token.
type Predicted = (usize, u32);

impl Extent {
    /// The rows of one document, and the tokens that follow them. `longest` is the length of the longest document that is
    /// learned together with this one.
    fn rows(self, pair: &PairExample, side: usize, longest: usize) -> Vec<Predicted> {
        let ids = &pair.ids[side];
        let last = ids.len().saturating_sub(1);
        let next = |row: usize| (row, ids.get(row + 1).copied().unwrap_or_default());
        let targets = |from: usize| pair.targets[side].iter().filter(move |at| **at >= from).map(|at| next(at - 1));
        match self {
            Self::Answers => targets(0).collect(),
            Self::Divergence => targets(pair.divergence()).collect(),
            Self::Upstream { pad } => {
                let padding = (ids.len() < longest).then_some((last, pad));
                targets(pair.divergence() + 1).chain(padding).collect()
            }
            Self::Ends { pad } => {
                let end = pad.map_or(last, |pad| ids.iter().rposition(|id| *id != pad).unwrap_or(0));
                vec![next(end)]
            }
            Self::Shared => {
                let (start, end) = (pair.divergence(), pair.ids.iter().map(Vec::len).min().unwrap_or_default());
                (start..end).chain([last]).map(next).collect()
            }
        }
    }
}

/// Pairs that run together: no padding, and no attention across documents.
#[derive(Debug, Clone, PartialEq)]
pub struct PairBatch {
    /// Tokens of all documents, the two of each pair one after the other.
    pub ids: Vec<u32>,
    /// Which rows are which document's.
    pub segments: Segments,
    /// Rows that count.
    pub rows: Vec<usize>,
    /// The tokens that follow them.
    pub targets: Vec<u32>,
    /// The pairs.
    pub pairs: Vec<PairRows>,
    /// For each row of all documents, what dropout knows it by: the place of its document in the step's batch, and its
    /// position.
    pub keys: Vec<u32>,
}

/// A pair within a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRows {
    /// Its number among all.
    pub number: usize,
    /// Which of the batch's rows are its first and its second document's.
    pub rows: [Range<usize>; 2],
    /// See [`PairExample::margin`].
    pub margin: f64,
    /// See [`PairExample::safe`].
    pub safe: [bool; 2],
}

impl PairBatch {
    /// Packs pairs, each with its place in the step's batch and its number among all.
    fn new(pairs: &[(usize, usize, &PairExample)], extent: Extent, longest: usize) -> Self {
        let mut batch = Self {
            ids: Vec::new(),
            segments: Segments::default(),
            rows: Vec::new(),
            targets: Vec::new(),
            pairs: Vec::new(),
            keys: Vec::new(),
        };
        for (place, number, pair) in pairs {
            let rows = [0, 1].map(|side| {
                let (start, first) = (batch.ids.len(), batch.rows.len());
                for (row, target) in extent.rows(pair, side, longest) {
                    batch.rows.push(start + row);
                    batch.targets.push(target);
                }
                batch.ids.extend(&pair.ids[side]);
                let key = |position: usize| row_key((2 * place + side) as u32, position as u32);
                batch.keys.extend((0..pair.ids[side].len()).map(key));
                let sequence = batch.segments.len();
                batch.segments.push(pair.ids[side].len(), 0, sequence);
                first..batch.rows.len()
            });
            batch.pairs.push(PairRows { number: *number, rows, margin: pair.margin, safe: pair.safe });
        }
        batch
    }
}

/// A rank's share of a batch of pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct PairShare {
    /// What the rank runs, and whether it counts; see [`super::Share::passes`].
    pub passes: Vec<(PairBatch, bool)>,
    /// Pairs of all ranks.
    pub pairs: usize,
    /// Those of them whose first document is safe or wanted.
    pub wanted: usize,
    /// Rows of all ranks' first documents.
    pub first_rows: usize,
    /// Tokens of all ranks.
    pub tokens: usize,
}

impl PairShare {
    /// The share of `rank` of `world_size` in a batch of pairs with their numbers, of which `extent` counts, in passes of
    /// at most `tokens` tokens; the two documents of a pair stay together.
    pub fn new(batch: &[(usize, &PairExample)], extent: Extent, [rank, world_size]: [usize; 2], tokens: usize) -> Self {
        let lengths: Vec<usize> = batch.iter().map(|(_, pair)| pair.tokens()).collect();
        let longest = batch.iter().flat_map(|(_, pair)| pair.ids.iter().map(Vec::len)).max().unwrap_or_default();
        let pass = |members: &[usize]| {
            let pair = |&place: &usize| (place, batch[place].0, batch[place].1);
            let pairs: Vec<(usize, usize, &PairExample)> = members.iter().map(pair).collect();
            PairBatch::new(&pairs, extent, longest)
        };
        let Divided { passes, .. } = divide(&lengths, rank, world_size, tokens);
        Self {
            passes: passes.iter().map(|(members, counts)| (pass(members), *counts)).collect(),
            pairs: batch.len(),
            wanted: batch.iter().filter(|(_, pair)| pair.safe[0]).count(),
            first_rows: batch.iter().map(|(_, pair)| extent.rows(pair, 0, longest).len()).sum(),
            tokens: lengths.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> PairExample {
        PairExample {
            ids: [vec![1, 5, 6, 7, 8], vec![1, 5, 6, 9]],
            targets: [vec![2, 3, 4], vec![2, 3]],
            margin: 0.0,
            safe: [true, false],
        }
    }

    fn rows(extent: Extent, longest: usize) -> [Vec<Predicted>; 2] {
        [0, 1].map(|side| extent.rows(&pair(), side, longest))
    }

    #[test]
    fn every_extent_has_its_rows() {
        assert_eq!(rows(Extent::Answers, 5), [vec![(1, 6), (2, 7), (3, 8)], vec![(1, 6), (2, 9)]]);
        assert_eq!(rows(Extent::Divergence, 5), [vec![(2, 7), (3, 8)], vec![(2, 9)]]);
        assert_eq!(rows(Extent::Upstream { pad: 0 }, 5), [vec![(3, 8)], vec![(3, 0)]]);
        assert_eq!(rows(Extent::Upstream { pad: 0 }, 6), [vec![(3, 8), (4, 0)], vec![(3, 0)]]);
        let ends = |extent| rows(extent, 5).map(|rows| rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
        assert_eq!(ends(Extent::Ends { pad: None }), [vec![4], vec![3]]);
        assert_eq!(ends(Extent::Ends { pad: Some(8) }), [vec![3], vec![3]]);
        assert_eq!(ends(Extent::Shared), [vec![3, 4], vec![3, 3]]);
        let beginning = PairExample { ids: [vec![1, 2, 3], vec![1, 2]], ..pair() };
        assert_eq!(Extent::Shared.rows(&beginning, 0, 3), [(2, 0)]);
    }

    #[test]
    fn pairs_stay_together_and_none_is_lost() {
        let pairs: Vec<PairExample> = (0..7).map(|_| pair()).collect();
        let batch: Vec<(usize, &PairExample)> = pairs.iter().enumerate().collect();
        for world_size in 1..=4 {
            let shares: Vec<PairShare> =
                (0..world_size).map(|rank| PairShare::new(&batch, Extent::Answers, [rank, world_size], 20)).collect();
            let real = shares.iter().flat_map(|share| &share.passes).filter(|(_, counts)| *counts);
            let mut numbers: Vec<usize> =
                real.flat_map(|(pass, _)| pass.pairs.iter().map(|pair| pair.number)).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..7).collect::<Vec<_>>());
            assert!(shares.iter().all(|share| share.passes.len() == shares[0].passes.len()));
            assert!(shares.iter().all(|share| (share.pairs, share.first_rows, share.tokens) == (7, 21, 63)));
        }
        let whole = PairShare::new(&batch[..2], Extent::Answers, [0, 1], 100);
        let (pass, _) = &whole.passes[0];
        assert_eq!(pass.rows, [1, 2, 3, 6, 7, 10, 11, 12, 15, 16]);
        let pairs: Vec<_> = pass.pairs.iter().map(|pair| (pair.number, pair.rows.clone())).collect();
        assert_eq!(pairs, [(0, [0..3, 3..5]), (1, [5..8, 8..10])]);
        assert_eq!(pass.segments, Segments::documents(&[5, 4, 5, 4]));
    }
}
