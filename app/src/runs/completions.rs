//! The answers of an iteration: the lines of a `completions.jsonl`.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::format;

/// By what answers are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// What the reward model, or the program, gave.
    Score,
    /// What the cost model gave.
    Cost,
    /// How far the answer's log-probability is above the reference's.
    Kl,
}

/// A value that each token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The log-probability less the reference's: the token's part of the KL.
    Kl,
    /// What the policy followed.
    Advantage,
    /// What the reward critic expected.
    Value,
    /// The log-probability with which the token was drawn.
    LogProb,
}

impl Measure {
    /// All, with their names for people.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Kl, "KL to the reference"),
        (Self::Advantage, "Advantage"),
        (Self::Value, "Value"),
        (Self::LogProb, "Log-probability"),
    ];
}

/// An answer of which only what sorts it has been kept.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    line: Range<usize>,
    score: Option<f64>,
    cost: Option<f64>,
    kl: Option<f64>,
}

impl Entry {
    fn key(&self, order: Order) -> Option<f64> {
        match order {
            Order::Score => self.score,
            Order::Cost => self.cost,
            Order::Kl => self.kl,
        }
    }
}

/// A file of answers. It is kept as it came; a line is read again when its answer is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completions {
    bytes: Arc<Vec<u8>>,
    /// Where the lines begin that have not been looked at.
    rest: usize,
    entries: Vec<Entry>,
    /// Lines that are no answers.
    pub bad_lines: usize,
}

/// An answer to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// What was asked.
    pub prompt: String,
    /// Its reward or score.
    pub score: Option<f64>,
    /// Its cost.
    pub cost: Option<f64>,
    /// Its KL to the reference: the sum over its tokens.
    pub kl: Option<f64>,
    /// Why it ended, in words.
    pub stop_reason: String,
    /// What each token adds to the text.
    pub tokens: Vec<String>,
    /// One for each token, or none where the run has none.
    log_probs: Vec<f64>,
    reference: Vec<f64>,
    advantages: Vec<f64>,
    values: Vec<f64>,
}

impl Completions {
    /// A file that has not been looked at.
    pub fn new(bytes: Arc<Vec<u8>>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Looks at further lines, at least one, until it is `enough` or there are no more; whether there are.
    pub fn look_on(&mut self, enough: impl Fn() -> bool) -> bool {
        while let Some(rest) = self.bytes.get(self.rest..).filter(|rest| !rest.is_empty()) {
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let line = self.rest..self.rest + length;
            self.rest = line.end + 1;
            match Completion::read(&rest[..length]) {
                Some(Completion { score, cost, kl, .. }) => self.entries.push(Entry { line, score, cost, kl }),
                None => self.bad_lines += usize::from(!rest[..length].trim_ascii().is_empty()),
            }
            if enough() {
                return self.rest < self.bytes.len();
            }
        }
        false
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first `count` answers in this order; those without a value are last.
    pub fn sorted(&self, order: Order, highest_first: bool, count: usize) -> Vec<Completion> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| match (a.key(order), b.key(order)) {
            (Some(a), Some(b)) if highest_first => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        entries.into_iter().take(count).filter_map(|entry| Completion::read(&self.bytes[entry.line.clone()])).collect()
    }
}

impl Completion {
    /// Reads a line; `None` if it is no answer.
    fn read(line: &[u8]) -> Option<Self> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let ids = line.get("ids")?.as_array()?;
        let numbers = |field: &str| -> Vec<f64> {
            let list = line.get(field).and_then(Value::as_array);
            list.into_iter().flatten().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
        };
        let token = |(index, id): (usize, &Value)| {
            let text = line.get("tokens").and_then(|tokens| tokens.get(index)?.as_str());
            text.map_or_else(|| format!("[{id}]"), str::to_string)
        };
        let mut answer = Self {
            prompt: line.get("prompt")?.as_str()?.to_string(),
            score: line.get("score").and_then(Value::as_f64),
            cost: line.get("cost").and_then(Value::as_f64),
            kl: None,
            stop_reason: match line.get("stop_reason").and_then(Value::as_str) {
                Some("eos") => "ended by itself".to_string(),
                Some("length") => "cut at the longest length".to_string(),
                other => other.unwrap_or("end unknown").to_string(),
            },
            tokens: ids.iter().enumerate().map(token).collect(),
            log_probs: numbers("log_probs"),
            reference: numbers("ref_log_probs"),
            advantages: numbers("advantages"),
            values: numbers("values"),
        };
        let kl = (0..answer.tokens.len()).map(|token| answer.value(Measure::Kl, token)).sum::<Option<f64>>();
        // The sum of nothing is −0.
        answer.kl = kl.map(|kl| kl + 0.0);
        Some(answer)
    }

    /// The value of a token; `None` where the run has none.
    pub fn value(&self, measure: Measure, token: usize) -> Option<f64> {
        let value = match measure {
            Measure::Kl => self.log_probs.get(token)? - self.reference.get(token)?,
            Measure::Advantage => *self.advantages.get(token)?,
            Measure::Value => *self.values.get(token)?,
            Measure::LogProb => *self.log_probs.get(token)?,
        };
        value.is_finite().then_some(value)
    }

    /// What is known of the answer as a whole, in words.
    pub fn facts(&self) -> String {
        let named = [("score", self.score), ("cost", self.cost), ("KL", self.kl)];
        let named =
            named.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", format::score(value? as f32))));
        let rest = [format::count(self.tokens.len(), "token"), self.stop_reason.clone()];
        named.chain(rest).collect::<Vec<_>>().join(" · ")
    }
}

/// The size that has the full colour: nearly all of the tokens' values are smaller. A few that are larger by far do not
/// make the others pale. At least a millionth.
pub fn full_colour(answers: &[Completion], measure: Measure) -> f64 {
    let values = |answer: &Completion| {
        (0..answer.tokens.len()).filter_map(|token| answer.value(measure, token)).collect::<Vec<_>>()
    };
    let mut sizes: Vec<f64> = answers.iter().flat_map(values).map(f64::abs).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() * 98 / 100).copied().unwrap_or_default().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"prompt":"Hi","text":"a b","ids":[5,6],"tokens":["a"," b"],"log_probs":[-1.0,-0.5],"ref_log_probs":[-1.5,-0.25],"values":[0.5,1.0],"advantages":[1.0,-2.0],"score":1.5,"cost":-0.5,"stop_reason":"eos"}"#,
        "\nnot json\n",
        r#"{"prompt":"Ho","text":"c","ids":[7],"log_probs":[-2.0],"ref_log_probs":[-4.0],"values":[],"advantages":[0.5],"score":null,"cost":2.0,"stop_reason":"length"}"#,
        "\n\n",
        r#"{"prompt":"Hu","text":"","ids":[],"log_probs":[],"ref_log_probs":[],"advantages":[],"score":2.5,"cost":null,"stop_reason":"eos"}"#,
        "\n"
    );

    fn completions(text: &str) -> Completions {
        let mut completions = Completions::new(text.as_bytes().to_vec().into());
        assert!(!completions.look_on(|| false));
        completions
    }

    fn prompts(order: Order, highest_first: bool, count: usize) -> Vec<String> {
        completions(LINES).sorted(order, highest_first, count).into_iter().map(|answer| answer.prompt).collect()
    }

    #[test]
    fn answers_are_sorted_and_those_without_a_value_are_last() {
        assert_eq!(prompts(Order::Score, true, 9), ["Hu", "Hi", "Ho"]);
        assert_eq!(prompts(Order::Score, false, 9), ["Hi", "Hu", "Ho"]);
        assert_eq!(prompts(Order::Cost, true, 9), ["Ho", "Hi", "Hu"]);
        assert_eq!(prompts(Order::Kl, true, 9), ["Ho", "Hi", "Hu"]);
        assert_eq!(prompts(Order::Kl, false, 1), ["Hu"]);
    }

    #[test]
    fn kl_is_the_sum_over_the_tokens_of_the_log_ratios() {
        let completions = completions(LINES);
        assert_eq!((completions.len(), completions.bad_lines), (3, 1));
        let answers = completions.sorted(Order::Kl, true, 3);
        assert_eq!(answers.iter().map(|answer| answer.kl).collect::<Vec<_>>(), [Some(2.0), Some(0.25), Some(0.0)]);
        let own = &answers[1];
        assert_eq!([0, 1, 2].map(|token| own.value(Measure::Kl, token)), [Some(0.5), Some(-0.25), None]);
        assert_eq!([0, 1].map(|token| own.value(Measure::Advantage, token)), [Some(1.0), Some(-2.0)]);
        assert_eq!(own.facts(), "score 1.500 · cost −0.500 · KL 0.250 · 2 tokens · ended by itself");
        assert_eq!(
            (answers[0].tokens.as_slice(), answers[0].value(Measure::Value, 0)),
            (&["[7]".to_string()][..], None)
        );
        assert_eq!(full_colour(&answers, Measure::LogProb), 2.0);
        assert_eq!(full_colour(&[], Measure::Kl), 1e-6);
    }

    #[test]
    fn a_file_can_be_looked_through_line_by_line() {
        let whole = completions(LINES);
        for text in [LINES, LINES.trim_end()] {
            let mut parts = Completions::new(text.as_bytes().to_vec().into());
            let mut seen = vec![parts.len()];
            while parts.look_on(|| true) {
                seen.push(parts.len());
            }
            assert_eq!(seen, [0, 1, 1, 2, 2]);
            assert_eq!((parts.entries, parts.bad_lines), (whole.entries.clone(), whole.bad_lines));
        }
    }

    #[test]
    fn what_is_no_answer_does_no_harm() {
        for text in ["", "\n", "[]", "{}", "{\"prompt\":1,\"ids\":[]}", "{\"prompt\":\"\",\"ids\":{}}", "\u{0}"] {
            assert!(completions(text).is_empty(), "{text}");
        }
        let odd = r#"{"prompt":"","ids":["x",null],"log_probs":[null,-1],"ref_log_probs":[0],"tokens":[3]}"#;
        let odd = completions(odd).sorted(Order::Score, true, 1);
        assert_eq!((odd[0].tokens.len(), odd[0].kl, odd[0].value(Measure::Kl, 0)), (2, None, None));
    }
}
