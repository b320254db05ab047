//! Which rows of instruction data are worth keeping.

use std::collections::HashSet;

use paddock_engine::instructions::{MinHash, Pattern, Pool, words};
use rayon::prelude::*;

use super::Row;

/// Texts that are compared by one thread.
const SHARE: usize = 4096;

/// What an answer that is none begins with.
const REFUSALS: [&str; 14] = [
    "i'm sorry, but",
    "i am sorry, but",
    "i apologize, but",
    "sorry, i can",
    "i cannot ",
    "i can't ",
    "i can not ",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "i am not able to",
    "as an ai",
    "as a language model",
    "as a large language model",
];

/// What is asked of a row; what is `None` or empty is not asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Rows that say the same but for case, punctuation and spaces are kept once.
    pub duplicates: bool,
    /// Greatest Rouge-L with an instruction before it.
    pub rouge: Option<f64>,
    /// Jaccard index from which an instruction with its input is nearly that of another row.
    pub minhash: Option<f64>,
    /// Least and most words of an instruction.
    pub instruction_words: Option<[usize; 2]>,
    /// Least and most words of an output.
    pub output_words: Option<[usize; 2]>,
    /// The language, as ISO 639-3 has it, such as `eng`.
    pub language: Option<String>,
    /// Whether answers that refuse are left out; what they begin with may be added to.
    pub refusals: Option<Vec<String>>,
}

/// The languages that a [`Filter`] knows, by their codes.
pub fn languages() -> impl Iterator<Item = &'static str> {
    whatlang::Lang::all().iter().map(|language| language.code())
}

impl Filter {
    /// For each row, why it is left out; `None` for those that stay. Rows that `kept` holds were kept before.
    pub fn reasons(&self, rows: &[&Row], kept: &[&Row], mut progress: impl FnMut(usize)) -> Vec<Option<&'static str>> {
        let mut seen = Seen::new(self);
        kept.iter().for_each(|row| seen.add(row));
        let reason = |(index, row): (usize, &&Row)| {
            progress(index + 1);
            self.alone(row).or_else(|| seen.reason(row))
        };
        rows.iter().enumerate().map(reason).collect()
    }

    /// Why a row is left out whatever the others are.
    fn alone(&self, row: &Row) -> Option<&'static str> {
        let outside = |text: &str, bounds: Option<[usize; 2]>| {
            bounds.is_some_and(|[least, most]| !(least..=most).contains(&words(text)))
        };
        if outside(&row.instruction, self.instruction_words) {
            return Some("the length of the instruction");
        }
        if outside(&row.output, self.output_words) {
            return Some("the length of the output");
        }
        if let Some(more) = &self.refusals {
            let output = row.output.trim_start().to_lowercase().replace('’', "'");
            if REFUSALS.iter().copied().chain(more.iter().map(String::as_str)).any(|words| output.starts_with(words)) {
                return Some("the answer refuses");
            }
        }
        if let Some(language) = &self.language {
            let text = [row.instruction.as_str(), &row.input, &row.output].join("\n");
            // Of a short text nobody can say; it stays.
            let found = whatlang::detect(&text).filter(whatlang::Info::is_reliable);
            if found.is_some_and(|found| found.lang().code() != language) {
                return Some("the language");
            }
        }
        None
    }
}

/// Rows that were kept.
struct Seen<'a> {
    filter: &'a Filter,
    rows: HashSet<String>,
    near: Option<MinHash>,
    pool: Pool,
}

impl<'a> Seen<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self { filter, rows: HashSet::new(), near: filter.minhash.map(MinHash::new), pool: Pool::default() }
    }

    /// Takes in a row that was kept before, whatever it is like.
    fn add(&mut self, row: &Row) {
        let text = row.gist();
        if let Some(near) = &mut self.near {
            near.insert(&text);
        }
        self.keep(row, text);
    }

    fn keep(&mut self, row: &Row, text: String) {
        if self.filter.rouge.is_some() {
            self.pool.push(&row.instruction);
        }
        self.rows.insert(text);
    }

    /// Why a row is left out because of those before it; one that is not joins them.
    fn reason(&mut self, row: &Row) -> Option<&'static str> {
        let text = row.gist();
        if self.filter.duplicates && self.rows.contains(&text) {
            return Some("a duplicate");
        }
        if let Some(limit) = self.filter.rouge {
            let pattern = self.pool.pattern(&row.instruction);
            if has_similar(&self.pool, &pattern, limit) {
                return Some("an instruction too much like another (Rouge-L)");
            }
        }
        if self.near.as_mut().is_some_and(|near| near.insert(&text).is_some()) {
            return Some("nearly a duplicate (MinHash)");
        }
        self.keep(row, text);
        None
    }
}

/// Whether one of the pool's texts is more like the pattern than `limit`, by all threads where there is enough to do.
fn has_similar(pool: &Pool, pattern: &Pattern, limit: f64) -> bool {
    let shares = pool.len().div_ceil(SHARE);
    let one = |share: usize| pool.has_similar(pattern, limit, share * SHARE..pool.len().min((share + 1) * SHARE));
    if shares < 2 { (0..shares).any(one) } else { (0..shares).into_par_iter().any(one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instruction: &str, output: &str) -> Row {
        Row { instruction: instruction.into(), input: String::new(), output: output.into() }
    }

    fn reasons(filter: &Filter, rows: &[Row]) -> Vec<Option<&'static str>> {
        filter.reasons(&rows.iter().collect::<Vec<_>>(), &[], |_| {})
    }

    #[test]
    fn each_rule_leaves_out_what_it_names() {
        let rows = [
            row("Name the three primary colours of light.", "Red, green and blue."),
            row("name the three primary colours  of light", "Red!"),
            row("Please name the three primary colours of light.", "Red."),
            row("Write a poem about the sea at night.", "I’m sorry, but I can't."),
            row("Hi", "Hello there, how are you?"),
            row(
                "Schreibe einen kurzen Text über die Geschichte der Stadt Bremen.",
                "Bremen ist eine alte Hansestadt an der Weser.",
            ),
        ];
        assert_eq!(reasons(&Filter::default(), &rows), [None; 6]);
        let one = |filter: Filter| {
            let left: Vec<(usize, &str)> =
                reasons(&filter, &rows).into_iter().enumerate().filter_map(|(i, reason)| Some((i, reason?))).collect();
            left
        };
        assert_eq!(one(Filter { duplicates: true, ..Filter::default() }), [(1, "a duplicate")]);
        let similar = "an instruction too much like another (Rouge-L)";
        assert_eq!(one(Filter { rouge: Some(0.7), ..Filter::default() }), [(1, similar), (2, similar)]);
        assert_eq!(one(Filter { minhash: Some(0.8), ..Filter::default() })[0], (1, "nearly a duplicate (MinHash)"));
        assert_eq!(
            one(Filter { instruction_words: Some([2, 10]), ..Filter::default() }),
            [(4, "the length of the instruction")]
        );
        assert_eq!(one(Filter { output_words: Some([2, 5]), ..Filter::default() })[0], (1, "the length of the output"));
        assert_eq!(
            one(Filter { refusals: Some(vec!["hello".into()]), ..Filter::default() }),
            [(3, "the answer refuses"), (4, "the answer refuses")]
        );
        assert_eq!(one(Filter { language: Some("eng".into()), ..Filter::default() }), [(5, "the language")]);
    }

    #[test]
    fn what_was_kept_before_counts() {
        let old = row("Name the three primary colours of light.", "");
        let new = row("Name the three primary colours of light", "Red");
        let filter = Filter { rouge: Some(0.7), ..Filter::default() };
        assert!(filter.reasons(&[&new], &[&old], |_| {})[0].is_some());
    }
}
