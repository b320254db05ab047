//! What a run asks, as a function of its settings and the number of the request alone.

use paddock_engine::backend::pcg_hash;
use serde::{Deserialize, Serialize};

use super::alpaca::{self, Wording};
use super::{Ask, Completion, Dropped, Prompt, Row, evolve, magpie};

/// How instructions are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Stanford Alpaca's: lists of tasks that begin with three seed tasks.
    Alpaca,
    /// Magpie's: the teacher writes users' turns; without seeds.
    Magpie,
    /// Evol-Instruct's: the teacher rewrites seed tasks.
    Evolve,
}

/// What decides on a run's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How instructions are made.
    pub method: Method,
    /// Wording of Alpaca's request.
    pub wording: Wording,
    /// Randomness of instructions.
    pub temperature: f32,
    /// Of instructions, too.
    pub top_p: f32,
    /// Most tokens of an answer to an instruction.
    pub max_tokens: usize,
    /// Seed of every choice.
    pub seed: u32,
    /// People's tasks.
    #[serde(skip)]
    pub seeds: Vec<Row>,
}

/// What follows an answer.
pub(super) enum Next {
    Ask(Ask),
    Rows(Vec<Row>),
}

impl Plan {
    /// The first thing that request `index` asks.
    pub(super) fn first(&self, index: usize) -> Ask {
        let Self { temperature, top_p, .. } = *self;
        let seed = self.draw(index, 0);
        match self.method {
            Method::Alpaca => {
                let examples: Vec<&Row> = self.examples(index).into_iter().map(|seed| &self.seeds[seed]).collect();
                alpaca::ask(self.wording, &examples, temperature, top_p, seed)
            }
            Method::Magpie => magpie::ask(temperature, top_p, seed),
            Method::Evolve => {
                let way = self.draw(index, 1) as usize;
                evolve::ask(&self.seeds[self.examples(index)[0]], way, temperature, top_p, seed)
            }
        }
    }

    /// What follows when request `index` has been given `answers`; what is left out is counted in `dropped`.
    pub(super) fn next(&self, index: usize, answers: &[&Completion], dropped: &mut Dropped) -> Next {
        let instruction = match (self.method, answers) {
            (Method::Alpaca, [completion, ..]) => {
                return Next::Rows(alpaca::tasks(&completion.text, completion.cut, dropped));
            }
            (Method::Magpie, [completion, ..]) => magpie::instruction(completion),
            (Method::Evolve, [completion, ..]) => evolve::instruction(completion, &self.seeds[self.examples(index)[0]]),
            (_, []) => return Next::Ask(self.first(index)),
        };
        let instruction = match instruction {
            Ok(instruction) => instruction,
            Err(reason) => {
                dropped.count(reason);
                return Next::Rows(Vec::new());
            }
        };
        let Some(answer) = answers.get(1) else {
            // The answer is the most probable one, as in Magpie.
            let ask = Ask::of(Prompt::Message(instruction.to_string()));
            return Next::Ask(Ask { temperature: 0.0, max_tokens: self.max_tokens, seed: self.draw(index, 2), ..ask });
        };
        let output = answer.text.trim();
        if answer.cut || output.is_empty() {
            dropped.count(if answer.cut { "an answer cut off at the greatest length" } else { "an empty answer" });
            return Next::Rows(Vec::new());
        }
        Next::Rows(vec![Row { instruction: instruction.to_string(), input: String::new(), output: output.to_string() }])
    }

    /// Requests after which it is asked whether there are enough: Alpaca's come five at a time.
    pub(super) fn requests_at_once(&self) -> usize {
        if self.method == Method::Alpaca { 5 } else { 1 }
    }

    /// The seed tasks that request `index` shows, in its order.
    pub(super) fn examples(&self, index: usize) -> Vec<usize> {
        let count = match self.method {
            Method::Alpaca => alpaca::EXAMPLES.min(self.seeds.len()),
            Method::Magpie => 0,
            Method::Evolve => 1,
        };
        let mut chosen = Vec::with_capacity(count);
        let mut turn = 16;
        while chosen.len() < count {
            let seed = self.draw(index, turn) as usize % self.seeds.len();
            if !chosen.contains(&seed) {
                chosen.push(seed);
            }
            turn += 1;
        }
        chosen
    }

    fn draw(&self, index: usize, purpose: u32) -> u32 {
        pcg_hash(purpose ^ pcg_hash(index as u32 ^ pcg_hash(self.seed)))
    }
}
