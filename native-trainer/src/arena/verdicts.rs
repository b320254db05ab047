//! What a language model says of the answers: which of two is better, asked in both orders, and a rating of each. The marks
//! that end its words, `[[A]]` and `[[7]]`, are those of MT-bench (arXiv 2306.05685), which also shows why both orders are asked:
//! judges favour places.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Rate, Results, Round};
use crate::Result;
use crate::instruct::teacher::Teacher;
use crate::instruct::{Ask, Budget, Completion, Ended, Journal, Place, Prompt, Usage, ask_all};

/// What a judge is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum JudgeMode {
    /// Which answer is better, in both orders.
    #[default]
    Pairs,
    /// How good each answer is, from 1 to 10.
    Scores,
    /// Both.
    Both,
}

/// What a judge says of two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The answer of the model that is compared with is better.
    Red,
    /// The other's is.
    Blue,
    /// Neither is.
    Tie,
    /// There is no verdict to be read in what it says.
    Unread,
}

/// Verdicts on a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Who wins: whom both orders say; a tie when they differ, and unread when one of them is.
    pub winner: Verdict,
    /// With the red answer in the first place, and in the second; none of equal answers, which are not asked about.
    pub orders: Option<[Verdict; 2]>,
}

/// Verdicts on all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairCounts {
    /// Rounds that blue wins, of those that could be read.
    pub blue_wins: Rate,
    /// Rounds that red wins, of the same.
    pub red_wins: Rate,
    /// Rounds that neither wins.
    pub ties: usize,
    /// Those of them in which the first place won in both orders, and the second: the judge looks at places.
    pub same_place: [usize; 2],
    /// Rounds with a verdict that could not be read.
    pub unread: usize,
}

/// Ratings of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratings {
    /// Their mean; `None` when none could be read.
    pub mean: Option<f64>,
    /// Ratings that could be read.
    pub count: usize,
    /// Those that could not.
    pub unread: usize,
}

/// All that a judge said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeSummary {
    /// Its name.
    pub judge: String,
    /// Which answers are better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairCounts>,
    /// Ratings of red's and blue's answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratings: Option<[Ratings; 2]>,
    /// Tokens that it read and wrote.
    pub usage: Usage,
}

/// How a judge is asked.
#[derive(Debug, Clone, Copy)]
pub struct Judging {
    /// What.
    pub mode: JudgeMode,
    /// Most tokens of what it says.
    pub max_tokens: usize,
    /// What it may cost.
    pub budget: Budget,
}

impl Judging {
    /// How many questions there are about `results`.
    pub fn questions(&self, results: &Results) -> usize {
        self.asks(results).len()
    }

    /// Has `teacher` judge the rounds of `results`, and puts there what it says. What is in the journal is not asked again.
    /// `answered` is told how many questions have an answer. Returns why it ended when there are questions left.
    ///
    /// # Errors
    /// When the judge fails for good, or the journal cannot be written or is of other answers.
    pub fn judge(
        &self,
        results: &mut Results,
        journal: &mut Journal,
        teacher: &mut dyn Teacher,
        stop: &dyn Fn() -> bool,
        answered: &mut dyn FnMut(usize),
    ) -> Result<Option<Ended>> {
        let asks = self.asks(results);
        let mut usage = journal.usage();
        let ended = ask_all(&asks, journal, teacher, self.budget, stop, &mut usage, answered)?;
        if ended.is_some() {
            return Ok(ended);
        }
        let answer =
            |(place, ask): &(Place, Ask)| Some(journal.answer(*place, ask).transpose()?.map(|one| (*place, one)));
        let answers: BTreeMap<Place, &Completion> = asks.iter().filter_map(answer).collect::<Result<_>>()?;
        let of = |request: usize, turn: usize| answers.get(&Place { request, turn }).copied();
        for (index, round) in results.rounds.iter_mut().enumerate() {
            if self.mode != JudgeMode::Scores {
                round.verdict = Some(match asks_about_pair(round) {
                    true => Verdicts::of([of(index, 0), of(index, 1)].map(|answer| answer.and_then(verdict))),
                    false => Verdicts { winner: Verdict::Tie, orders: None },
                });
            }
            if self.mode != JudgeMode::Pairs {
                round.red.rating = Some(of(index, 2).and_then(rating));
                round.blue.rating = Some(of(index, 3).and_then(rating));
            }
        }
        results.judge = Some(JudgeSummary::of(teacher.name(), &results.rounds, usage));
        Ok(None)
    }

    /// All questions: of a round the turns 0 and 1 are about the pair, 2 and 3 about each answer.
    fn asks(&self, results: &Results) -> Vec<(Place, Ask)> {
        let mut asks = Vec::new();
        for (request, round) in results.rounds.iter().enumerate() {
            let mut add = |turn: usize, text: String| {
                let ask = Ask {
                    prompt: Prompt::Message(text),
                    max_tokens: self.max_tokens,
                    temperature: 0.0,
                    top_p: 1.0,
                    stop: Vec::new(),
                    seed: 0,
                };
                asks.push((Place { request, turn }, ask));
            };
            let (red, blue) = (&round.red.text, &round.blue.text);
            if self.mode != JudgeMode::Scores && asks_about_pair(round) {
                add(0, about_pair(&round.conversation, red, blue));
                add(1, about_pair(&round.conversation, blue, red));
            }
            if self.mode != JudgeMode::Pairs {
                add(2, about_one(&round.conversation, red));
                add(3, about_one(&round.conversation, blue));
            }
        }
        asks
    }
}

/// Equal answers are a tie without a question.
fn asks_about_pair(round: &Round) -> bool {
    round.red.text != round.blue.text
}

fn about_pair(conversation: &str, first: &str, second: &str) -> String {
    format!(
        "Compare two answers to what a user asked. Which of them does more of what the user wants, and does it better: helpful, \
         correct, to the point, and as detailed as it should be? Neither their order nor their lengths are to count. Give your \
         reasons in a few sentences, and end with your verdict in exactly this form: [[A]] if answer A is better, [[B]] if answer \
         B is better, [[C]] if they are equally good.\n\n[What the user asked]\n{conversation}\n\n[Beginning of answer \
         A]\n{first}\n[End of answer A]\n\n[Beginning of answer B]\n{second}\n[End of answer B]"
    )
}

fn about_one(conversation: &str, answer: &str) -> String {
    format!(
        "Rate an answer to what a user asked. Does it do what the user wants: is it helpful, correct, to the point, and as detailed \
         as it should be? Give your reasons in a few sentences, and end with your rating, a number from 1 (useless) to 10 \
         (excellent), in exactly this form: [[5]].\n\n[What the user asked]\n{conversation}\n\n[Beginning of the \
         answer]\n{answer}\n[End of the answer]"
    )
}

/// What stands between double brackets.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    text.split("[[").skip(1).filter_map(|rest| Some(rest.split_once("]]")?.0))
}

/// The one value that is marked in an answer: none when it broke off, has no mark, or has several that differ.
fn only<T: PartialEq>(answer: &Completion, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut found = marked(&answer.text).filter_map(read);
    let first = found.next().filter(|_| !answer.cut)?;
    found.all(|other| other == first).then_some(first)
}

/// Which place is better: A, B or C, which is neither.
fn verdict(answer: &Completion) -> Option<char> {
    only(answer, |mark| match mark {
        "A" | "B" | "C" => mark.chars().next(),
        _ => None,
    })
}

/// A rating from 1 to 10.
fn rating(answer: &Completion) -> Option<f64> {
    let is_number = |mark: &str| mark.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = only(answer, |mark| mark.parse::<f64>().ok().filter(|_| is_number(mark)))?;
    (1.0..=10.0).contains(&value).then_some(value)
}

impl Verdicts {
    /// That of what is said with the red answer in the first place, and in the second.
    fn of(said: [Option<char>; 2]) -> Self {
        let [first, second] = said;
        let named = |said: Option<char>, a: Verdict, b: Verdict| match said {
            Some('A') => a,
            Some('B') => b,
            Some(_) => Verdict::Tie,
            None => Verdict::Unread,
        };
        let orders = [named(first, Verdict::Red, Verdict::Blue), named(second, Verdict::Blue, Verdict::Red)];
        let winner = match orders {
            [Verdict::Unread, _] | [_, Verdict::Unread] => Verdict::Unread,
            [first, second] if first == second => first,
            _ => Verdict::Tie,
        };
        Self { winner, orders: Some(orders) }
    }
}

impl JudgeSummary {
    fn of(judge: &str, rounds: &[Round], usage: Usage) -> Self {
        let verdicts: Vec<Verdicts> = rounds.iter().filter_map(|round| round.verdict).collect();
        let count = |wanted: &dyn Fn(&Verdicts) -> bool| verdicts.iter().filter(|one| wanted(one)).count();
        let won = |winner: Verdict| count(&|one| one.winner == winner);
        let unread = won(Verdict::Unread);
        let rate = |winner: Verdict| Rate::new(won(winner), verdicts.len() - unread);
        let in_place = |orders: [Verdict; 2]| count(&|one| one.orders == Some(orders));
        let ratings = |side: &dyn Fn(&Round) -> Option<Option<f64>>| {
            let all: Vec<Option<f64>> = rounds.iter().filter_map(side).collect();
            let read: Vec<f64> = all.iter().flatten().copied().collect();
            let mean = (!read.is_empty()).then(|| read.iter().sum::<f64>() / read.len() as f64);
            (!all.is_empty()).then_some(Ratings { mean, count: read.len(), unread: all.len() - read.len() })
        };
        let [red, blue] = [ratings(&|round| round.red.rating), ratings(&|round| round.blue.rating)];
        Self {
            judge: judge.to_string(),
            pairs: (!verdicts.is_empty()).then(|| PairCounts {
                blue_wins: rate(Verdict::Blue),
                red_wins: rate(Verdict::Red),
                ties: won(Verdict::Tie),
                same_place: [in_place([Verdict::Red, Verdict::Blue]), in_place([Verdict::Blue, Verdict::Red])],
                unread,
            }),
            ratings: red.zip(blue).map(|(red, blue)| [red, blue]),
            usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Completion {
        Completion { text: text.to_string(), cut: false, usage: None }
    }

    #[test]
    fn only_one_clear_verdict_is_read() {
        for (text, expected) in [
            ("A is longer. [[A]]", Some('A')),
            ("[[B]]", Some('B')),
            ("So, [[C]], that is: [[C]].", Some('C')),
            ("[[A]] at first, but [[B]]", None),
            ("A is better", None),
            ("[A]", None),
            ("[[a]]", None),
            ("[[D]]", None),
            ("[[A or B]]", None),
            ("[[A", None),
            ("The answer cites [[Paris]]. [[A]]", Some('A')),
            ("", None),
        ] {
            assert_eq!(verdict(&said(text)), expected, "{text}");
        }
        assert_eq!(verdict(&Completion { cut: true, ..said("[[A]]") }), None);
    }

    #[test]
    fn only_one_rating_from_1_to_10_is_read() {
        for (text, expected) in [
            ("Good. [[7]]", Some(7.0)),
            ("[[7.5]]/10", Some(7.5)),
            ("[[10]] [[10]]", Some(10.0)),
            ("[[0]]", None),
            ("[[11]]", None),
            ("[[7]] or [[8]]", None),
            ("[[1e0]]", None),
            ("[[-3]]", None),
            ("[[NaN]]", None),
            ("[[rating]]", None),
            ("7", None),
        ] {
            assert_eq!(rating(&said(text)), expected, "{text}");
        }
    }

    #[test]
    fn both_orders_must_agree() {
        let winner = |first, second| Verdicts::of([first, second]).winner;
        assert_eq!(winner(Some('A'), Some('B')), Verdict::Red);
        assert_eq!(winner(Some('B'), Some('A')), Verdict::Blue);
        assert_eq!(winner(Some('A'), Some('A')), Verdict::Tie, "whatever stands first");
        assert_eq!(winner(Some('A'), Some('C')), Verdict::Tie);
        assert_eq!(winner(Some('C'), Some('C')), Verdict::Tie);
        assert_eq!(winner(Some('A'), None), Verdict::Unread);
    }
}
