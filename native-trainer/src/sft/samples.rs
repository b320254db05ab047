//! Answers of the model while it is trained.

use std::fs;
use std::path::Path;

use paddock_engine::backend::{Cache, Device, Sample, SampleRow, Sampling, Segments};
use paddock_engine::model::CausalLm;
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::objective::{Sft, Tuned};
use paddock_learn::tape::Tape;
use paddock_learn::{Adjoint, Store};

use crate::{Error, Result};

/// Tokens of an answer.
const TOKENS: usize = 64;

/// Prompts that are answered again and again, with the most probable tokens.
pub(super) struct Samples {
    /// The texts, and their tokens in the model's format.
    prompts: Vec<(String, Vec<u32>)>,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
}

impl Samples {
    /// Reads a file with a prompt a line, which are asked in `format`. Prompts and answers must fit in `context` tokens.
    pub fn read(
        path: &Path,
        format: TemplateKind,
        tokenizer: &Tokenizer,
        ends: &[u32],
        context: usize,
    ) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
        let template = Template::new(format, tokenizer)?;
        let mut prompts = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let prompt = template.render(&[Message::new(Role::User, line)])?;
            let ids = tokenizer.encode(&prompt.text, prompt.add_special)?;
            if ids.is_empty() || ids.len() + TOKENS > context {
                return Err(Error::Request(format!(
                    "{}: \"{line}\" has {} tokens, and the model's context is {context} with {TOKENS} for the answer",
                    path.display(),
                    ids.len()
                )));
            }
            prompts.push((line.to_string(), ids));
        }
        let ends = ends.iter().copied().chain(tokenizer.eos()).collect();
        Ok(Self { prompts, tokenizer: tokenizer.clone(), ends })
    }

    /// Prompts with the model's answers. All ranks must ask.
    pub async fn answers<B, S>(&self, objective: &Sft<B, S>) -> Result<Vec<(&str, String)>>
    where
        B: Adjoint + Cache + Sample,
        S: Store<B>,
    {
        let mut answers = Vec::new();
        let pause = objective.model().backend().pause();
        for (prompt, ids) in &self.prompts {
            let answer = decode(objective.model(), objective.config().vocab_size, ids).await?;
            // Ranks take as many steps as each other, so an answer is cut at its end afterwards.
            let end = answer.iter().position(|id| self.ends.contains(id)).unwrap_or(answer.len());
            answers.push((prompt.as_str(), self.tokenizer.decode(&answer[..end], true)?));
        }
        drop(pause);
        Ok(answers)
    }
}

/// The tokens that most probably follow `prompt`.
async fn decode<B, S>(model: &CausalLm<Tape<B, S>>, vocab: usize, prompt: &[u32]) -> Result<Vec<u32>>
where
    B: Adjoint + Cache + Sample,
    S: Store<B>,
{
    let tape = model.backend();
    let (layers, heads) = (model.config().num_hidden_layers, model.trunk().heads());
    let mut cache = tape.kv_cache(layers, heads, 1, prompt.len() + TOKENS)?;
    let mut sampler = tape.sampler(vocab, 1)?;
    let (mut next, mut past) = (tape.tokens(prompt)?, 0);
    let mut answer = Vec::new();
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    for step in 0..TOKENS {
        let rows = if step == 0 { prompt.len() } else { 1 };
        let logits = model.forward_cached(&next, &Segments::continuation(rows, past, 0), &mut cache)?;
        past += rows;
        next = tape.sample(&logits, &mut sampler, &[SampleRow { slot: 0, position: past as u32, sampling }])?;
        answer.extend(tape.read_tokens(std::slice::from_ref(&next)).await?);
    }
    Ok(answer)
}
