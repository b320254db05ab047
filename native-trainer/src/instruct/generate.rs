//! A run: requests in waves, answers into the journal, and what is kept of them.

use paddock_engine::instructions::Pool;
use serde::{Deserialize, Serialize};

use super::asking::{Budget, ask_all};
use super::journal::{Journal, Place};
use super::plan::{Next, Plan};
use super::teacher::Teacher;
use super::{Ask, Completion, Dropped, Method, Row, Usage};
use crate::Result;

/// Rouge-L above which an instruction says what another one says.
pub const MOST_SIMILAR: f64 = 0.7;
/// Similar instructions that are noted with each that is kept.
const NOTED: usize = 10;
/// Requests in a row that may give nothing.
const FRUITLESS: usize = 20;

/// An instruction that was kept, with where it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// The instruction and its answer.
    #[serde(flatten)]
    pub row: Row,
    /// The instructions that are most like it, with Rouge-L, the most similar first.
    pub most_similar_instructions: serde_json::Map<String, serde_json::Value>,
    /// The mean of Rouge-L over all seed tasks and instructions before it.
    pub avg_similarity_score: f64,
    /// Who made it.
    pub teacher: String,
    /// How.
    pub method: Method,
    /// The number of the request.
    pub request: usize,
    /// The seed tasks that the request showed, from 0 on.
    pub seed_tasks: Vec<usize>,
}

/// What a run has to say while it goes on.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Instructions kept.
    pub kept: usize,
    /// Requests whose answers have been looked at.
    pub requests: usize,
    /// Tokens so far.
    pub usage: Usage,
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When so many instructions are kept.
    pub count: usize,
    /// Before more is spent than this.
    pub budget: Budget,
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// There are enough instructions.
    Complete,
    /// Someone asked it to.
    Stopped,
    /// The next request could cost more than is allowed.
    Cost,
    /// Many requests in a row gave nothing.
    Fruitless,
}

/// What a run made.
#[derive(Debug)]
pub struct Outcome {
    /// What was kept.
    pub kept: Vec<Generated>,
    /// What was not.
    pub dropped: Dropped,
    /// Requests whose answers were looked at.
    pub requests: usize,
    /// What all answers in the journal took.
    pub usage: Usage,
    /// Why it ended.
    pub ended: Ended,
}

/// Goes on with the run of `journal` until one of `limits` is reached, or `stop` says so.
///
/// # Errors
/// When the teacher fails for good, or the journal cannot be written; what was answered is in the journal.
pub fn generate(
    plan: &Plan,
    journal: &mut Journal,
    teacher: &mut dyn Teacher,
    limits: Limits,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let mut pool = Pool::default();
    let mut texts: Vec<String> = plan.seeds.iter().map(|seed| seed.instruction.clone()).collect();
    texts.iter().for_each(|text| pool.push(text));
    let mut outcome = Outcome {
        kept: Vec::new(),
        dropped: Dropped::default(),
        requests: 0,
        usage: journal.usage(),
        ended: Ended::Complete,
    };
    let at_once = plan.requests_at_once();
    let mut fruitless = 0;
    while outcome.kept.len() < limits.count {
        if fruitless >= FRUITLESS {
            outcome.ended = Ended::Fruitless;
            break;
        }
        // Towards the end, not many more than are missing: answers may cost money.
        let missing = limits.count - outcome.kept.len();
        let wave = teacher.asks_at_once().min(2 * missing).max(1).next_multiple_of(at_once);
        let first = outcome.requests;
        let ended = ask_wave(plan, first..first + wave, journal, teacher, limits.budget, stop, &mut outcome.usage)?;
        for request in first..first + wave {
            if (request - first).is_multiple_of(at_once) && outcome.kept.len() >= limits.count {
                break;
            }
            let Some(rows) = rows(plan, request, journal, &mut outcome.dropped)? else { break };
            outcome.requests = request + 1;
            let before = outcome.kept.len();
            for row in rows {
                match novel(&pool, &texts, &row) {
                    Some((similar, mean)) => {
                        pool.push(&row.instruction);
                        texts.push(row.instruction.clone());
                        outcome.kept.push(Generated {
                            row,
                            most_similar_instructions: similar,
                            avg_similarity_score: mean,
                            teacher: teacher.name().to_string(),
                            method: plan.method,
                            request,
                            seed_tasks: plan.examples(request),
                        });
                    }
                    None => outcome.dropped.count("says what another one says (Rouge-L above 0.7)"),
                }
            }
            fruitless = if outcome.kept.len() > before { 0 } else { fruitless + 1 };
            progress(Progress { kept: outcome.kept.len(), requests: outcome.requests, usage: outcome.usage });
        }
        if let Some(ended) = ended {
            if outcome.kept.len() < limits.count {
                outcome.ended = ended;
            }
            break;
        }
    }
    Ok(outcome)
}

/// Has everything answered that the requests `wave` ask and the journal does not know.
fn ask_wave(
    plan: &Plan,
    wave: std::ops::Range<usize>,
    journal: &mut Journal,
    teacher: &mut dyn Teacher,
    budget: Budget,
    stop: &dyn Fn() -> bool,
    usage: &mut Usage,
) -> Result<Option<Ended>> {
    loop {
        let mut asks: Vec<(Place, Ask)> = Vec::new();
        for request in wave.clone() {
            let answers = answers(plan, request, journal)?;
            let known: Vec<&Completion> = answers.iter().collect();
            if let Next::Ask(ask) = plan.next(request, &known, &mut Dropped::default()) {
                asks.push((Place { request, turn: known.len() }, ask));
            }
        }
        if asks.is_empty() {
            return Ok(None);
        }
        let ended = ask_all(&asks, journal, teacher, budget, stop, usage, &mut |_| {})?;
        if ended.is_some() {
            return Ok(ended);
        }
    }
}

/// The answers that the journal has of a request, in order.
fn answers(plan: &Plan, request: usize, journal: &Journal) -> Result<Vec<Completion>> {
    let mut answers: Vec<Completion> = Vec::new();
    loop {
        let known: Vec<&Completion> = answers.iter().collect();
        let Next::Ask(ask) = plan.next(request, &known, &mut Dropped::default()) else { return Ok(answers) };
        match journal.answer(Place { request, turn: answers.len() }, &ask)? {
            Some(completion) => answers.push(completion.clone()),
            None => return Ok(answers),
        }
    }
}

/// What a request gave; `None` while it is not answered.
fn rows(plan: &Plan, request: usize, journal: &Journal, dropped: &mut Dropped) -> Result<Option<Vec<Row>>> {
    let answers = answers(plan, request, journal)?;
    match plan.next(request, &answers.iter().collect::<Vec<_>>(), dropped) {
        Next::Rows(rows) => Ok(Some(rows)),
        Next::Ask(_) => Ok(None),
    }
}

type Similar = serde_json::Map<String, serde_json::Value>;

/// The instructions most like that of `row`, and the mean likeness; `None` if one is too much like it.
fn novel(pool: &Pool, texts: &[String], row: &Row) -> Option<(Similar, f64)> {
    let scores = pool.similarities(&pool.pattern(&row.instruction));
    if scores.iter().any(|score| *score > MOST_SIMILAR) {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equal ones the later come first, as when a sorted list is read from its end.
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(b.cmp(a)));
    let similar = order.iter().take(NOTED).map(|index| (texts[*index].clone(), scores[*index].into())).collect();
    Some((similar, mean(&scores)))
}

/// The mean as NumPy sums it, by halves, so that the last digits are the original's.
fn mean(values: &[f64]) -> f64 {
    fn sum(values: &[f64]) -> f64 {
        match values.len() {
            0..8 => values.iter().sum(),
            8..=128 => {
                let (eights, rest) = values.as_chunks::<8>();
                let mut lanes = eights[0];
                for eight in &eights[1..] {
                    lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += value);
                }
                let [a, b, c, d, e, f, g, h] = lanes;
                rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
            }
            count => {
                let half = count / 2 - count / 2 % 8;
                sum(&values[..half]) + sum(&values[half..])
            }
        }
    }
    if values.is_empty() { 0.0 } else { sum(values) / values.len() as f64 }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Wording;
    use super::super::journal::JOURNAL;
    use super::*;
    use crate::Error;

    /// Gives tasks whose words follow from the seed of what it is asked, and fails after a number of answers.
    struct Fake {
        asked: usize,
        left: usize,
        at_once: usize,
    }

    impl Fake {
        fn lasting(left: usize) -> Self {
            Self { asked: 0, left, at_once: 5 }
        }
    }

    impl Teacher for Fake {
        fn name(&self) -> &str {
            "fake"
        }

        fn asks_at_once(&self) -> usize {
            self.at_once
        }

        fn ask(
            &mut self,
            asks: &[&Ask],
            _: &dyn Fn() -> bool,
            each: &mut dyn FnMut(usize, Completion) -> Result<bool>,
        ) -> Result<()> {
            // Answers come in another order than questions.
            for (index, ask) in asks.iter().enumerate().rev() {
                if self.left == 0 {
                    return Err(Error::Request("the teacher has gone".to_string()));
                }
                self.left -= 1;
                self.asked += 1;
                let word = |i: u32| format!("w{}", (ask.seed >> i) % 97);
                let words = |n: u32| (0..n).map(word).collect::<Vec<_>>().join(" ");
                let text = format!(
                    " Say {}\n4. Input:\n<noinput>\n4. Output:\n{}\n###\n5. Instruction: Say {} again\n5. Input:\nx\n5. Output:\ny",
                    words(6),
                    words(3),
                    words(9)
                );
                let usage = Some(Usage { prompt_tokens: 100, completion_tokens: 20, estimated: false });
                if !each(index, Completion { text, cut: false, usage })? {
                    return Ok(());
                }
            }
            Ok(())
        }
    }

    fn plan() -> Plan {
        let seed = |i: usize| Row { instruction: format!("Name the thing number {i}"), ..Row::default() };
        Plan {
            method: Method::Alpaca,
            wording: Wording::AlpacaReleased,
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 16,
            seed: 3,
            seeds: (0..8).map(seed).collect(),
        }
    }

    fn limits(count: usize) -> Limits {
        Limits { count, budget: Budget::default() }
    }

    fn run(folder: &std::path::Path, teacher: &mut Fake, limits: Limits) -> Result<Outcome> {
        generate(&plan(), &mut Journal::open(folder)?, teacher, limits, &|| false, &mut |_| {})
    }

    fn undisturbed(count: usize) -> Vec<Generated> {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &mut Fake::lasting(usize::MAX), limits(count)).unwrap().kept
    }

    #[test]
    fn nothing_is_lost_and_nothing_asked_twice() {
        let expected = undisturbed(40);
        assert!(expected.len() >= 40);
        let folder = tempfile::tempdir().unwrap();
        let mut asked = 0;
        let outcome = loop {
            // Ends in the middle of a wave, every time at another place.
            let mut teacher = Fake::lasting(7);
            let outcome = run(folder.path(), &mut teacher, limits(40));
            asked += teacher.asked;
            if let Ok(outcome) = outcome {
                break outcome;
            }
        };
        assert_eq!(outcome.kept, expected);
        let mut undisturbed = Fake::lasting(usize::MAX);
        run(tempfile::tempdir().unwrap().path(), &mut undisturbed, limits(40)).unwrap();
        assert_eq!(asked, undisturbed.asked);
        // The journal alone gives the same.
        assert_eq!(run(folder.path(), &mut Fake::lasting(0), limits(40)).unwrap().kept, expected);
    }

    #[test]
    fn a_journal_that_is_cut_at_any_byte_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let expected = run(folder.path(), &mut Fake::lasting(usize::MAX), limits(6)).unwrap().kept;
        let path = folder.path().join(JOURNAL);
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(97) {
            fs::write(&path, &whole[..length]).unwrap();
            let mut teacher = Fake::lasting(usize::MAX);
            assert_eq!(run(folder.path(), &mut teacher, limits(6)).unwrap().kept, expected, "{length} bytes");
            let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines(&fs::read(&path).unwrap()), lines(&whole));
            assert!(teacher.asked > 0);
        }
    }

    #[test]
    fn how_many_are_asked_at_once_changes_nothing() {
        let expected = undisturbed(30);
        for at_once in [1, 7, 64] {
            let folder = tempfile::tempdir().unwrap();
            let found = run(folder.path(), &mut Fake { at_once, ..Fake::lasting(usize::MAX) }, limits(30)).unwrap();
            assert_eq!(found.kept, expected, "{at_once}");
        }
    }

    #[test]
    fn a_run_ends_before_it_costs_too_much() {
        let folder = tempfile::tempdir().unwrap();
        // An answer costs (100 · 2 + 20 · 5) / 10⁶ = 0.0003.
        let budget = Budget { max_cost: Some(0.002), prices: [2.0, 5.0] };
        let limits = Limits { count: 1000, budget };
        let outcome = run(folder.path(), &mut Fake::lasting(usize::MAX), limits).unwrap();
        assert_eq!(outcome.ended, Ended::Cost);
        assert!((budget.cost(outcome.usage) - 0.0021).abs() < 1e-12, "{}", budget.cost(outcome.usage));
        let again = run(folder.path(), &mut Fake::lasting(0), limits).unwrap();
        assert_eq!((again.ended, again.kept), (Ended::Cost, outcome.kept));
    }

    #[test]
    fn a_run_that_gives_nothing_ends() {
        struct Silent;
        impl Teacher for Silent {
            fn name(&self) -> &str {
                "silent"
            }
            fn asks_at_once(&self) -> usize {
                4
            }
            fn ask(
                &mut self,
                asks: &[&Ask],
                _: &dyn Fn() -> bool,
                each: &mut dyn FnMut(usize, Completion) -> Result<bool>,
            ) -> Result<()> {
                (0..asks.len())
                    .try_for_each(|i| each(i, Completion { text: String::new(), cut: false, usage: None }).map(|_| ()))
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let outcome = generate(&plan(), &mut journal, &mut Silent, limits(5), &|| false, &mut |_| {}).unwrap();
        assert_eq!((outcome.ended, outcome.kept.len()), (Ended::Fruitless, 0));
        assert_eq!(outcome.dropped.total(), outcome.requests);
    }

    #[test]
    fn other_seeds_are_noticed_in_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &mut Fake::lasting(usize::MAX), limits(5)).unwrap();
        let other = Plan { seed: 4, ..plan() };
        let mut journal = Journal::open(folder.path()).unwrap();
        let error =
            generate(&other, &mut journal, &mut Fake::lasting(9), limits(5), &|| false, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("request 0 was another one"), "{error}");
    }

    /// Means of 1 / (i + 3) for i below 7, 100 and 1000 by numpy.mean (NumPy 2.4).
    #[test]
    fn the_mean_is_numpys() {
        let values = |count: i32| (0..count).map(|i| 1.0 / f64::from(i + 3)).collect::<Vec<_>>();
        assert_eq!([7, 100, 1000].map(|count| mean(&values(count))), NUMPY);
        assert_eq!(mean(&[]), 0.0);
    }

    const NUMPY: [f64; 3] = [0.18985260770975057, 0.03707082429307257, 0.0059874678655413615];
}
