//! What a file of instruction data holds, in figures.

use serde::Serialize;

use super::{Repeats, Row, words};
use crate::Result;
use crate::tokenizer::Tokenizer;

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Rows.
    pub rows: usize,
    /// Those with an input.
    pub with_input: usize,
    /// Rows that are equal to one before them.
    pub duplicates: usize,
    /// Rows whose instruction and input are those of one before them but for case, punctuation and spaces.
    pub near_duplicates: usize,
    /// Words of instructions.
    pub instruction_words: Lengths,
    /// Words of outputs.
    pub output_words: Lengths,
    /// Tokens of instruction, input and output together, without a prompt format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Lengths>,
    /// Rows that have more tokens than was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longer: Option<usize>,
}

/// How long texts are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// The mean.
    pub mean: f64,
    /// Half are at most this long.
    pub median: usize,
    /// 95 in 100 are at most this long.
    pub p95: usize,
    /// The longest.
    pub longest: usize,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |share: f64| {
            let rank = (share * lengths.len() as f64).ceil() as usize;
            lengths.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
        Self { mean, median: at(0.5), p95: at(0.95), longest: at(1.0) }
    }
}

impl Stats {
    /// Counts `rows`, of which some repeat others.
    pub fn of(rows: &[&Row], repeats: &Repeats) -> Self {
        let count = |repeats: &[Option<usize>]| repeats.iter().flatten().count();
        Self {
            rows: rows.len(),
            with_input: rows.iter().filter(|row| !row.input.is_empty()).count(),
            duplicates: count(&repeats.equal),
            near_duplicates: count(&repeats.near),
            instruction_words: Lengths::of(rows.iter().map(|row| words(&row.instruction)).collect()),
            output_words: Lengths::of(rows.iter().map(|row| words(&row.output)).collect()),
            tokens: None,
            longer: None,
        }
    }

    /// Counts the tokens of `rows`, too; `limit` is the length that `longer` is about.
    ///
    /// # Errors
    /// When a text cannot be tokenized.
    pub fn count_tokens(&mut self, rows: &[&Row], tokenizer: &Tokenizer, limit: Option<usize>) -> Result<()> {
        let count = |row: &&Row| -> Result<usize> {
            let texts = [&row.instruction, &row.input, &row.output].map(|text| tokenizer.encode(text, false));
            texts.into_iter().try_fold(0, |sum, ids| Ok(sum + ids?.len()))
        };
        let tokens = rows.iter().map(count).collect::<Result<Vec<_>>>()?;
        self.longer = limit.map(|limit| tokens.iter().filter(|count| **count > limit).count());
        self.tokens = Some(Lengths::of(tokens));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_duplicates_are_counted() {
        let row = |instruction: &str, input: &str| Row {
            instruction: instruction.into(),
            input: input.into(),
            output: "a b".into(),
        };
        let rows = [row("one two three", ""), row("One two, three!", ""), row("one two three", ""), row("one", "x")];
        let rows: Vec<&Row> = rows.iter().collect();
        let repeats = Repeats::of(&rows);
        assert_eq!((repeats.equal[2], &repeats.near[..]), (Some(0), &[None, Some(0), Some(0), None][..]));
        let stats = Stats::of(&rows, &repeats);
        assert_eq!((stats.rows, stats.with_input, stats.duplicates, stats.near_duplicates), (4, 1, 1, 2));
        assert_eq!(stats.instruction_words, Lengths { mean: 2.5, median: 3, p95: 3, longest: 3 });
        assert_eq!(Lengths::of(vec![]), Lengths { mean: 0.0, median: 0, p95: 0, longest: 0 });
        assert_eq!(Lengths::of((1..=100).collect()), Lengths { mean: 50.5, median: 50, p95: 95, longest: 100 });
    }
}
