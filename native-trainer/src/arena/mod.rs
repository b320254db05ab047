//! Two models on the same prompts, judged by a reward and a cost model (PKU-Alignment/safe-rlhf, `evaluate/arena.py`), or by a
//! language model.

mod judges;
mod report;
mod summary;
mod verdicts;

use std::path::{Path, PathBuf};

use paddock_engine::backend::{Cache, Operations, Sample};
use paddock_engine::model::CausalLm;
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use serde::Serialize;

use crate::files::{open_model, read_prompts};
use crate::ppo::{Prompt, Sampler, end_scores};
use crate::{Error, Result};
use judges::judge;
pub use report::{refuse_existing, write_report};
pub use summary::{Rate, Summary};
pub use verdicts::{JudgeMode, JudgeSummary, Judging, PairCounts, Ratings, Verdict, Verdicts};

/// A model that answers.
#[derive(Debug, Clone)]
pub struct Corner {
    /// The model: a folder or a .gguf file.
    pub model: PathBuf,
    /// An adapter that is added to it.
    pub adapter: Option<PathBuf>,
}

impl Corner {
    /// What it is called in a report.
    fn name(&self) -> String {
        let path = self.adapter.as_ref().unwrap_or(&self.model);
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }
}

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Contest {
    /// The model that is compared with.
    pub red: Corner,
    /// The model that is to be better.
    pub blue: Corner,
    /// Prompts, as of `paddock ppo`.
    pub prompts: PathBuf,
    /// The model that rewards answers; an adapter with a head is put on the red model.
    pub reward_model: Option<PathBuf>,
    /// The model that tells safe answers, whose cost is at most 0, from others.
    pub cost_model: Option<PathBuf>,
    /// How prompts become text.
    pub template: TemplateKind,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// How many prompts are asked, from the first on.
    pub limit: Option<usize>,
    /// Seed of the draws; both models draw with the same noise.
    pub seed: u64,
    /// Documents are scored together up to this many tokens.
    pub batch_tokens: usize,
}

/// An answer and its scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What the model wrote.
    pub text: String,
    /// Its reward, where there is a model for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Its cost, where there is a model for it.
    pub cost: Option<f64>,
    /// The judge's rating from 1 to 10, where it was asked for one; `None` in it when there was none to be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rating: Option<Option<f64>>,
}

/// A prompt with both answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// The last message of the prompt.
    pub prompt: String,
    /// The answer of the model that is compared with.
    pub red: Judged,
    /// The other's.
    pub blue: Judged,
    /// What the judge says of both, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdicts>,
    /// The whole prompt, for the judge.
    #[serde(skip)]
    pub conversation: String,
}

/// All rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// Name of the model that is compared with.
    pub red: String,
    /// Name of the other.
    pub blue: String,
    /// What came of it by the score models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What came of it by the judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeSummary>,
    /// Prompt by prompt.
    pub rounds: Vec<Round>,
}

/// Lets both models answer, one after the other, and has the answers scored; of all models only one is loaded at a time.
/// `note` is told what happens.
///
/// # Errors
/// When a file or a model cannot be read, a model is not of the kind that is wanted, or the device fails.
pub async fn hold<B: Operations + Cache + Sample>(
    backend: &B,
    contest: &Contest,
    note: &mut dyn FnMut(&str),
) -> Result<Results> {
    let (mut conversations, left_out) = read_prompts(&contest.prompts)?.checked(false)?;
    left_out.iter().for_each(|text| note(text));
    conversations.truncate(contest.limit.unwrap_or(usize::MAX));
    let mut answers = Vec::new();
    for corner in [&contest.red, &contest.blue] {
        note(&format!("{} answers {} prompts", corner.name(), conversations.len()));
        answers.push(answer(backend, contest, corner, &conversations).await?);
    }
    let all = |texts: &[Vec<String>]| -> Vec<(usize, String)> {
        texts.iter().flat_map(|texts| texts.iter().cloned().enumerate()).collect()
    };
    let documents = all(&answers);
    let mut all_scores = Vec::new();
    for (name, path) in [("reward", &contest.reward_model), ("cost", &contest.cost_model)] {
        all_scores.push(match path {
            Some(path) => {
                note(&format!("the {name} model scores the answers"));
                Some(scores(backend, contest, path, &conversations, &documents).await?)
            }
            None => None,
        });
    }
    let count = conversations.len();
    let judged = |side: usize, index: usize| Judged {
        text: answers[side][index].clone(),
        reward: all_scores[0].as_ref().map(|rewards| rewards[side * count + index]),
        cost: all_scores[1].as_ref().map(|costs| costs[side * count + index]),
        rating: None,
    };
    let question = |messages: &Vec<Message>| messages.last().map(|last| last.content.clone()).unwrap_or_default();
    let rounds: Vec<Round> = conversations
        .iter()
        .enumerate()
        .map(|(index, messages)| Round {
            prompt: question(messages),
            red: judged(0, index),
            blue: judged(1, index),
            verdict: None,
            conversation: spoken(messages),
        })
        .collect();
    let summary = contest.reward_model.is_some().then(|| Summary::of(&rounds));
    Ok(Results { red: contest.red.name(), blue: contest.blue.name(), summary, judge: None, rounds })
}

/// A conversation as a text: its only message, or all with who says them.
fn spoken(messages: &[Message]) -> String {
    let speaker = |role: Role| match role {
        Role::System => "System",
        Role::User => "User",
        Role::Assistant => "Assistant",
    };
    match messages {
        [only] => only.content.clone(),
        all => {
            let turns: Vec<String> =
                all.iter().map(|turn| format!("{}: {}", speaker(turn.role), turn.content)).collect();
            turns.join("\n\n")
        }
    }
}

/// A model's answers.
async fn answer<B: Operations + Cache + Sample>(
    backend: &B,
    contest: &Contest,
    corner: &Corner,
    conversations: &[Vec<Message>],
) -> Result<Vec<String>> {
    let mut checkpoint = open_model(&corner.model, corner.adapter.as_deref())?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let config = checkpoint.config().clone();
    let template = Template::new(contest.template, &tokenizer)?;
    let mut prompts = Vec::with_capacity(conversations.len());
    for messages in conversations {
        let prompt = template.render(messages)?;
        let ids = tokenizer.encode(&prompt.text, prompt.add_special)?;
        if ids.is_empty() || ids.len() + contest.max_new_tokens > config.max_position_embeddings {
            return Err(Error::Request(format!(
                "a prompt has {} tokens, and {} takes {} with {} for the answer; leave it out, or lower --max-new-tokens",
                ids.len(),
                corner.name(),
                config.max_position_embeddings,
                contest.max_new_tokens
            )));
        }
        prompts.push(Prompt { text: prompt.text, ids });
    }
    let model = CausalLm::load(backend, &mut checkpoint, &mut |_| {}).await?;
    let sampler = Sampler {
        ends: config.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect(),
        max_new_tokens: contest.max_new_tokens,
        seed: contest.seed,
        slots: 32,
    };
    let asked: Vec<&Prompt> = prompts.iter().collect();
    let sampled = sampler.answers(&model, &asked, 1, 0, [0, 1]).await?;
    sampled.iter().map(|one| Ok(tokenizer.decode(&one.rollout.response_ids, true)?)).collect()
}

/// The scores of answers by the model at `path`, in its own tokens: each is of the conversation with its number.
async fn scores<B: Operations>(
    backend: &B,
    contest: &Contest,
    path: &Path,
    conversations: &[Vec<Message>],
    answers: &[(usize, String)],
) -> Result<Vec<f64>> {
    let (model, tokenizer) = judge(backend, path, &contest.red.model).await?;
    let template = Template::new(contest.template, &tokenizer)?;
    let eos = tokenizer.eos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
    let mut documents = Vec::with_capacity(answers.len());
    for (conversation, text) in answers {
        let whole = template.render_answered(&conversations[*conversation], text, &eos)?;
        documents.push(tokenizer.encode(&whole.text, whole.add_special)?);
    }
    let mut all = Vec::with_capacity(documents.len());
    let mut rest = &documents[..];
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = |ids: &&Vec<u32>| {
            sum += ids.len();
            sum <= contest.batch_tokens
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (own, others) = rest.split_at(count);
        rest = others;
        let mut scores = end_scores(&model, own).await?;
        if model.head().do_normalize {
            model.head().normalize(&mut scores);
        }
        all.extend(scores.into_iter().map(f64::from));
    }
    Ok(all)
}
