//! The pairs of a run: preference data, read and encoded.

use std::path::Path;

use paddock_engine::prompt::{Message, Role, Template};
use paddock_engine::records::{Comparison, Judged, Judgement, Record, Turn};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::hexadecimal;
use paddock_learn::data::{Encoder, Example, Extent, PairExample, PairShare};
use sha2::{Digest, Sha256};

use crate::files::read_rows;
use crate::run::RunSettings;
use crate::training::Observer;
use crate::{Error, Result};

/// What the rows of a file are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairKind {
    /// Two answers, of which one is better or safer.
    Compared(Judgement),
    /// Single answers that are wanted or not. Each is paired with the answer to another prompt: that of the row before it
    /// among so many rows, as in TRL's KTO.
    Judged {
        /// Rows among which answers go round.
        among: usize,
    },
}

/// The pairs of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs(Vec<PairExample>);

/// How pairs become tokens.
#[derive(Clone, Copy)]
pub struct Encoding<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The size of its vocabulary.
    pub vocab: usize,
    /// Its longest sequence.
    pub context: usize,
}

impl Pairs {
    /// Reads and encodes a file, and notes how many rows it has, and how many are left out and why.
    ///
    /// # Errors
    /// When it cannot be read or holds no usable row, or `run.strict` and a row is not usable.
    pub fn read(
        path: &Path,
        kind: PairKind,
        run: &RunSettings,
        encoding: Encoding,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (pairs, note) = Self::of_file(path, kind, run, encoding)?;
        observer.note(&note);
        Ok(pairs)
    }

    /// The pairs of a file, and how many rows it has, and how many are left out and why.
    ///
    /// # Errors
    /// As [`Pairs::read`].
    pub fn of_file(path: &Path, kind: PairKind, run: &RunSettings, encoding: Encoding) -> Result<(Self, String)> {
        let Encoding { tokenizer, vocab, context } = encoding;
        let length = run.max_length.min(context);
        let encoder = Encoder::new(tokenizer, Template::new(run.template, tokenizer)?, length)?;
        let encode = |messages: &[Message], answer: &str| encode(&encoder, messages, answer, length);
        let (pairs, note) = match kind {
            PairKind::Compared(judgement) => {
                let rows = read_rows(path, |row| Comparison::parse(row, judgement).map(|row| vec![row]))?;
                let pair = |row: &Comparison| {
                    let (messages, margin) = (&row.pair.messages, row.margin.unwrap_or_default());
                    let answers = [encode(messages, &row.pair.better)?, encode(messages, &row.pair.worse)?];
                    pair(answers, margin, row.safe.unwrap_or([true, false]), length)
                };
                rows.and_then(pair).counted(run.strict)?
            }
            PairKind::Judged { among } => {
                let rows = read_rows(path, Judged::parse)?;
                let own = |row: &Judged| Ok((row.clone(), encode(&row.messages, &row.answer)?));
                let (rows, note) = rows.and_then(own).counted(run.strict)?;
                let rounds = rows.chunks(among.max(1)).flat_map(|block| (0..block.len()).map(move |at| (block, at)));
                let mismatched = rounds.map(|(block, at)| {
                    let (row, own) = &block[at];
                    let (before, _) = &block[(at + block.len() - 1) % block.len()];
                    let other = encode(&row.messages, &before.answer).map_err(Error::Request)?;
                    let Example { ids, targets } = own.clone();
                    Ok(PairExample {
                        ids: [ids, other.ids],
                        targets: [targets, other.targets],
                        margin: 0.0,
                        safe: [row.wanted, false],
                    })
                });
                (mismatched.collect::<Result<Vec<_>>>()?, note)
            }
        };
        // Checked here, so that a run does not fail in its middle.
        if let Some(id) = pairs.iter().flat_map(|pair| pair.ids.iter().flatten()).find(|id| **id as usize >= vocab) {
            return Err(Error::Request(format!(
                "the tokenizer gives token {id}, and the model knows {vocab} tokens; use the model's own tokenizer"
            )));
        }
        Ok((Self(pairs), note))
    }

    /// The pairs.
    pub fn all(&self) -> &[PairExample] {
        &self.0
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tokens of all answers with their prompts.
    pub fn tokens(&self) -> u64 {
        self.0.iter().map(|pair| pair.tokens() as u64).sum()
    }

    /// The pairs without their margins.
    #[must_use]
    pub fn without_margins(mut self) -> Self {
        self.0.iter_mut().for_each(|pair| pair.margin = 0.0);
        self
    }

    /// SHA-256 of all that is learned from them, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for PairExample { ids, targets, margin, safe } in &self.0 {
            for (ids, targets) in ids.iter().zip(targets) {
                hasher.update((ids.len() as u64).to_le_bytes());
                ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
                hasher.update((targets.len() as u64).to_le_bytes());
                targets.iter().for_each(|target| hasher.update((*target as u64).to_le_bytes()));
            }
            hasher.update(margin.to_le_bytes());
            hasher.update(safe.map(u8::from));
        }
        hexadecimal(&hasher.finalize())
    }

    /// The part of the pairs `numbers`, of which `extent` counts, that the rank at `place` computes.
    pub fn share(&self, numbers: &[usize], extent: Extent, place: [usize; 2], tokens: usize) -> PairShare {
        let batch = numbers.iter().filter_map(|&number| Some((number, self.0.get(number)?)));
        PairShare::new(&batch.collect::<Vec<_>>(), extent, place, tokens)
    }

    /// [`Pairs::share`] of all pairs.
    pub fn share_of_all(&self, extent: Extent, place: [usize; 2], tokens: usize) -> PairShare {
        self.share(&(0..self.len()).collect::<Vec<_>>(), extent, place, tokens)
    }
}

/// A conversation with an answer at its end, which alone is to be learned.
fn encode(encoder: &Encoder, messages: &[Message], answer: &str, length: usize) -> Result<Example, String> {
    let turn = |message: &Message| Turn { message: message.clone(), learned: false };
    let answer = Turn { message: Message::new(Role::Assistant, answer), learned: true };
    let record = Record::Conversation(messages.iter().map(turn).chain([answer]).collect());
    let example = encoder.encode(&record).map_err(|error| error.to_string())?;
    if example.targets.is_empty() {
        return Err(format!("nothing of an answer is left after the cut at {length} tokens"));
    }
    Ok(example)
}

fn pair(answers: [Example; 2], margin: f64, safe: [bool; 2], length: usize) -> Result<PairExample, String> {
    let [first, second] = answers;
    if first.ids == second.ids {
        return Err(format!("both answers are the same in their first {length} tokens"));
    }
    Ok(PairExample { ids: [first.ids, second.ids], targets: [first.targets, second.targets], margin, safe })
}
