//! Answers that were sampled, and what they are answers to.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use paddock_engine::prompt::Template;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::hexadecimal;
use paddock_learn::data::Example;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::PpoSettings;
use crate::files::{file_sha256, read_prompts};
use crate::training::{Data, Observer};
use crate::{Error, Result};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// By itself.
    Eos,
    /// It was cut.
    Length,
}

/// A prompt and an answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The prompt as the model sees it.
    pub prompt: String,
    /// Its tokens.
    pub prompt_ids: Vec<u32>,
    /// The answer's tokens; the one that ends it, too.
    pub response_ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Rollout {
    /// The prompt and the answer, whose tokens are the targets.
    pub fn example(&self) -> Rc<Example> {
        let ids = [&self.prompt_ids[..], &self.response_ids].concat();
        Rc::new(Example { targets: (self.prompt_ids.len()..ids.len()).collect(), ids })
    }
}

/// A file of rollouts.
#[derive(Debug, Deserialize)]
struct File {
    iterations: Vec<Vec<Rollout>>,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub text: String,
    pub ids: Vec<u32>,
}

/// What a run answers, or the answers that it is given.
#[derive(Debug)]
pub(super) enum Source {
    Prompts(Vec<Prompt>),
    Given(Vec<Vec<Rollout>>),
}

/// What a run learns from.
pub struct PpoData {
    pub(super) source: Source,
    digest: String,
    batch_size: usize,
}

impl PpoData {
    /// Reads the prompts, or the rollouts, of `settings`. Prompts that leave no room for an answer in the model's `context`
    /// are left out and reported.
    pub(super) fn read(
        settings: &PpoSettings,
        tokenizer: &Tokenizer,
        context: usize,
        vocab_size: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let path = &settings.run.data;
        let (batch_size, shown) = (settings.run.batch_size, path.display());
        if let Some(iterations) = given(path)? {
            let known = |rollout: &Rollout| {
                let ids = || rollout.prompt_ids.iter().chain(&rollout.response_ids);
                let len = ids().count();
                !rollout.prompt_ids.is_empty()
                    && !rollout.response_ids.is_empty()
                    && len <= context
                    && ids().all(|id| (*id as usize) < vocab_size)
            };
            for (iteration, rollouts) in iterations.iter().enumerate() {
                if let Some(index) = rollouts.iter().position(|rollout| !known(rollout)) {
                    return Err(Error::Request(format!(
                        "{shown}: rollout {} of iteration {} is empty, longer than the model's context of {context} tokens, \
                         or has tokens that the model does not know",
                        index + 1,
                        iteration + 1
                    )));
                }
            }
            let digest = file_sha256(path)?;
            return Ok(Self { source: Source::Given(iterations), digest, batch_size });
        }
        let template = Template::new(settings.run.template, tokenizer)?;
        let records = read_prompts(path)?.and_then(|messages| {
            let prompt = template.render(messages).map_err(|error| error.to_string())?;
            let ids = tokenizer.encode(&prompt.text, prompt.add_special).map_err(|error| error.to_string())?;
            let most = context.saturating_sub(settings.max_new_tokens).min(settings.run.max_length);
            if ids.is_empty() || ids.len() > most {
                return Err(format!("the prompt has {} tokens, expected 1 to {most}", ids.len()));
            }
            Ok(Prompt { text: prompt.text, ids })
        });
        let (prompts, left_out) = records.checked(settings.run.strict)?;
        left_out.iter().for_each(|note| observer.note(note));
        let mut hasher = Sha256::new();
        for Prompt { ids, .. } in &prompts {
            hasher.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
        }
        Ok(Self { source: Source::Prompts(prompts), digest: hexadecimal(&hasher.finalize()), batch_size })
    }
}

/// The rollouts in a file, if it is one of rollouts.
fn given(path: &Path) -> Result<Option<Vec<Vec<Rollout>>>> {
    let bytes = fs::read(path).map_err(Error::path("read", path))?;
    let named =
        serde_json::from_slice::<serde_json::Value>(&bytes).ok().filter(|json| json.get("iterations").is_some());
    let Some(json) = named else { return Ok(None) };
    let file: File = serde_json::from_value(json).map_err(|error| {
        Error::Request(format!("{}: it does not hold rollouts as expected: {error}", path.display()))
    })?;
    if file.iterations.iter().any(Vec::is_empty) || file.iterations.is_empty() {
        return Err(Error::Request(format!("{}: there is an iteration without rollouts", path.display())));
    }
    Ok(Some(file.iterations))
}

impl Data for PpoData {
    /// Of given rollouts, each iteration counts as a step's worth of prompts.
    fn len(&self) -> usize {
        match &self.source {
            Source::Prompts(prompts) => prompts.len(),
            Source::Given(iterations) => iterations.len() * self.batch_size,
        }
    }

    fn tokens(&self) -> u64 {
        match &self.source {
            Source::Prompts(prompts) => prompts.iter().map(|prompt| prompt.ids.len() as u64).sum(),
            Source::Given(iterations) => {
                let lengths = iterations.iter().flatten().map(|one| one.prompt_ids.len() + one.response_ids.len());
                lengths.sum::<usize>() as u64
            }
        }
    }

    fn digest(&self) -> String {
        self.digest.clone()
    }
}
