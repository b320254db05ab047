//! Rouge-L between instructions, to the bit of the package `rouge-score` (rouge_scorer.py, without stemming), and fast:
//! the longest common subsequence is found 64 tokens at a time (Hyyrö 2004, "Bit-Parallel LCS-length Computation
//! Revisited"), and pairs whose lengths or common tokens rule a high score out are not compared at all.

use std::collections::HashMap;

/// The tokens of a text: lower case, runs of anything but ASCII letters and digits are gaps.
pub fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(str::to_string).collect()
}

/// Rouge-L's F-measure of sequences of `m` and `n` tokens whose longest common subsequence has `common`: the expression
/// of the reference in its order, because at scores such as 0.7 the last bit decides.
pub fn f_measure(common: usize, m: usize, n: usize) -> f64 {
    if m == 0 || n == 0 || common == 0 {
        return 0.0;
    }
    let (precision, recall) = (common as f64 / n as f64, common as f64 / m as f64);
    2.0 * precision * recall / (precision + recall)
}

/// Rouge-L's F-measure of two texts, from 0 to 1.
pub fn rouge_l(a: &str, b: &str) -> f64 {
    let mut pool = Pool::default();
    pool.push(a);
    pool.similarities(&pool.pattern(b))[0]
}

/// Texts that others are compared with.
#[derive(Debug, Default, Clone)]
pub struct Pool {
    words: HashMap<String, u32>,
    /// Tokens of all texts, one text after the other.
    ids: Vec<u32>,
    /// Where each text ends in `ids`.
    ends: Vec<usize>,
}

/// A text to be compared with a [`Pool`].
#[derive(Debug, Clone)]
pub struct Pattern {
    length: usize,
    /// 64-bit words of a mask.
    blocks: usize,
    /// Where the masks of a word of the pool begin, from 1 on; 0 for words that the text does not have.
    places: Vec<u32>,
    /// For each of its different words, the positions where it stands.
    masks: Vec<u64>,
}

impl Pool {
    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        for word in tokens(text) {
            let next = self.words.len() as u32;
            self.ids.push(*self.words.entry(word).or_insert(next));
        }
        self.ends.push(self.ids.len());
    }

    /// How many texts it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Prepares a text for comparisons with the texts that the pool holds now.
    pub fn pattern(&self, text: &str) -> Pattern {
        let words = tokens(text);
        let blocks = words.len().div_ceil(64);
        let (mut places, mut masks) = (vec![0; self.words.len()], Vec::new());
        for (position, word) in words.iter().enumerate() {
            // A word that no text of the pool has cannot be common to both.
            let Some(&id) = self.words.get(word) else { continue };
            let place = &mut places[id as usize];
            if *place == 0 {
                *place = 1 + masks.len() as u32;
                masks.resize(masks.len() + blocks, 0u64);
            }
            masks[*place as usize - 1 + position / 64] |= 1 << (position % 64);
        }
        Pattern { length: words.len(), blocks, places, masks }
    }

    /// The F-measure with each text, in the order in which they were added.
    pub fn similarities(&self, pattern: &Pattern) -> Vec<f64> {
        let score = |index| {
            let text = self.text(index);
            f_measure(pattern.common(text), pattern.length, text.len())
        };
        (0..self.len()).map(score).collect()
    }

    /// Whether the F-measure with one of the texts `range` is above `limit`.
    pub fn has_similar(&self, pattern: &Pattern, limit: f64, range: std::ops::Range<usize>) -> bool {
        let m = pattern.length;
        range.clone().any(|index| {
            let text = self.text(index);
            let n = text.len();
            f_measure(m.min(n), m, n) > limit
                && f_measure(pattern.shared(text).min(m), m, n) > limit
                && f_measure(pattern.common(text), m, n) > limit
        })
    }

    fn text(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.ids[start..self.ends[index]]
    }
}

impl Pattern {
    /// How many tokens of `text` the pattern has anywhere: at least the length of what they have in common.
    fn shared(&self, text: &[u32]) -> usize {
        text.iter().filter(|id| self.place(**id) != 0).count()
    }

    /// The length of the longest common subsequence.
    fn common(&self, text: &[u32]) -> usize {
        match self.blocks {
            0 => 0,
            1 => {
                // A zero bit of `row` is a position at which the common subsequence grows by one.
                let mut row = !0u64;
                for id in text {
                    if let place @ 1.. = self.place(*id) {
                        let matches = row & self.masks[place - 1];
                        row = row.wrapping_add(matches) | (row - matches);
                    }
                }
                row.count_zeros() as usize
            }
            blocks => {
                let mut row = vec![!0u64; blocks];
                for id in text {
                    let place @ 1.. = self.place(*id) else { continue };
                    let mut carry = false;
                    for (bits, mask) in row.iter_mut().zip(&self.masks[place - 1..]) {
                        let matches = *bits & mask;
                        let (sum, first) = bits.overflowing_add(matches);
                        let (sum, second) = sum.overflowing_add(u64::from(carry));
                        carry = first || second;
                        *bits = sum | (*bits - matches);
                    }
                }
                row.iter().map(|bits| bits.count_zeros() as usize).sum()
            }
        }
    }

    /// Where the masks of a word begin, from 1 on; 0 without any.
    fn place(&self, id: u32) -> usize {
        self.places.get(id as usize).map_or(0, |place| *place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the textbook.
    fn table(a: &[String], b: &[String]) -> usize {
        let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                rows[i + 1][j + 1] = if x == y { rows[i][j] + 1 } else { rows[i][j + 1].max(rows[i + 1][j]) };
            }
        }
        rows[a.len()][b.len()]
    }

    /// Texts of 0 to `longest` words out of `vocabulary`.
    fn texts(count: u32, longest: u32, vocabulary: u32) -> Vec<String> {
        let noise = |a: u32, b: u32| crate::backend::pcg_hash(a.wrapping_mul(7919) ^ crate::backend::pcg_hash(b));
        let text = |i: u32| {
            let length = noise(i, 0) % (longest + 1);
            (1..=length).map(|j| format!("w{}", noise(i, j) % vocabulary)).collect::<Vec<_>>().join(" ")
        };
        (0..count).map(text).collect()
    }

    #[test]
    fn the_tokens_are_those_of_the_reference() {
        assert_eq!(
            tokens("  Don't re-write: 3.5% of_it, Ä\u{212a}!\n"),
            ["don", "t", "re", "write", "3", "5", "of", "it", "k"]
        );
        assert!(tokens("…—😀").is_empty());
    }

    #[test]
    fn it_equals_the_table_for_one_block_and_for_several() {
        for (longest, vocabulary) in [(12, 5), (70, 9), (200, 30)] {
            let texts = texts(40, longest, vocabulary);
            let mut pool = Pool::default();
            texts.iter().for_each(|text| pool.push(text));
            for text in &texts {
                let found = pool.similarities(&pool.pattern(text));
                for (other, found) in texts.iter().zip(found) {
                    let (a, b) = (tokens(text), tokens(other));
                    assert_eq!(found, f_measure(table(&a, &b), a.len(), b.len()), "{text} | {other}");
                }
            }
        }
    }

    #[test]
    fn what_is_ruled_out_early_would_be_ruled_out_anyway() {
        let texts = texts(120, 14, 4);
        let mut pool = Pool::default();
        texts.iter().for_each(|text| pool.push(text));
        for limit in [0.3, 0.5, 0.7, 0.9] {
            for text in &texts {
                let pattern = pool.pattern(text);
                let most = pool.similarities(&pattern).into_iter().fold(0.0, f64::max);
                assert_eq!(pool.has_similar(&pattern, limit, 0..pool.len()), most > limit, "{text}");
            }
        }
        assert!(!pool.has_similar(&pool.pattern("w1 w2"), 0.7, 0..0));
    }

    #[test]
    fn words_that_the_pool_does_not_know_count_in_the_length() {
        let mut pool = Pool::default();
        pool.push("name three colours");
        let pattern = pool.pattern("name three shiny colours please");
        pool.push("please add a word that came later");
        assert_eq!(pool.similarities(&pattern)[0], f_measure(3, 5, 3));
        assert_eq!(rouge_l("", "a"), 0.0);
    }

    /// The pairs of tests/fixtures/make_rouge.py.
    fn recorded_pairs() -> Vec<(String, String)> {
        let mut state = 1u64;
        let mut below = |count: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % count as u64) as usize
        };
        let mut pairs = Vec::new();
        for index in 0..10_000 {
            let (longest, vocabulary) = ([12, 30, 70, 150][index % 4], [5, 20, 60, 200][index / 4 % 4]);
            let length = below(longest + 1);
            let first: Vec<String> = (0..length).map(|_| format!("w{}", below(vocabulary))).collect();
            let second: Vec<String> = if below(2) == 0 {
                let length = below(longest + 1);
                (0..length).map(|_| format!("w{}", below(vocabulary))).collect()
            } else {
                let changed = |word: &String| match below(4) {
                    0 => format!("w{}", below(vocabulary)),
                    _ => word.clone(),
                };
                first.iter().map(changed).collect()
            };
            pairs.push((first.join(" "), second.join(" ")));
        }
        for (m, n) in (1..=150).flat_map(|m| (1..=150).map(move |n| (m, n))) {
            for common in (1..=m.min(n)).filter(|common| 20 * common == 7 * (m + n)) {
                let words = |letter, count| (0..count).map(move |i| format!("{letter}{i}"));
                let text =
                    |letter, length| words('s', common).chain(words(letter, length - common)).collect::<Vec<_>>();
                pairs.push((text('a', m).join(" "), text('b', n).join(" ")));
            }
        }
        pairs
    }

    #[test]
    fn every_bit_is_that_of_the_reference() {
        let recorded = include_bytes!("../../../tests/fixtures/instruct/rouge_l.f64");
        let pairs = recorded_pairs();
        let (recorded, _) = recorded.as_chunks::<8>();
        assert_eq!(pairs.len(), recorded.len());
        for ((a, b), expected) in pairs.iter().zip(recorded) {
            assert_eq!(rouge_l(a, b), f64::from_le_bytes(*expected), "{a} | {b}");
        }
    }
}
