//! How a reward or cost model scores preference data, or RewardBench 2's.

use std::path::{Path, PathBuf};

use paddock_engine::backend::{Operations, Segments};
use paddock_engine::config::{HeadSpec, Normalization};
use paddock_engine::model::{Fresh, ScoreModel};
use paddock_engine::prompt::{Message, Role, Template};
use paddock_engine::records::{Judgement, Record, Turn};
use paddock_engine::score::template_kind;
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::data::Encoder;
use serde::Serialize;
use serde_json::Value;

use super::pairs::{Encoding, PairKind, Pairs};
use super::report::ScoreReport;
use super::reward_bench::{BenchReport, BenchRow};
use super::score_model::{scored, write_report};
use crate::files::{open_model, read_rows};
use crate::run::RunSettings;
use crate::training::Observer;
use crate::{Error, Result};

/// What a score model is evaluated on, and how.
#[derive(Debug, Clone, Default)]
pub struct EvaluationSettings {
    /// Model, data, template, greatest length and tokens that run together are those of `run`.
    pub run: RunSettings,
    /// An adapter on the model.
    pub adapter: Option<PathBuf>,
    /// Whether the answers are in the order of their safety; `None` leaves it to the model's type.
    pub is_cost: Option<bool>,
    /// A folder for the report and a picture of the distribution of the scores.
    pub output: Option<PathBuf>,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScoreEvaluation {
    /// On pairs of answers.
    Pairs(Box<ScoreReport>),
    /// On rows of RewardBench 2.
    RewardBench(BenchReport),
}

/// Evaluates a score model.
///
/// # Errors
/// When the model or the data cannot be read, or the device or the disk fails.
pub async fn evaluate<B: Operations>(
    backend: &B,
    settings: &EvaluationSettings,
    observer: &mut dyn Observer,
) -> Result<ScoreEvaluation> {
    let run = &settings.run;
    let mut checkpoint = open_model(&run.model, settings.adapter.as_deref())?;
    checkpoint.notes().iter().for_each(|note| observer.note(note));
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let model = ScoreModel::load(backend, &mut checkpoint, &mut |at| observer.loading(at)).await?;
    let head = model.head().clone();
    let mut run = run.clone();
    run.template = template_kind(run.template, head.family, &tokenizer);
    let config = checkpoint.config();
    let encoding =
        Encoding { tokenizer: &tokenizer, vocab: config.vocab_size, context: config.max_position_embeddings };
    let scorer = Scores { backend, model: &model, head: &head, tokens: run.memory.micro_batch_tokens };
    if is_reward_bench(&run.data)? {
        let (rows, note) = bench_rows(&run, encoding)?;
        observer.note(&note);
        let ids: Vec<&[u32]> = rows.iter().flat_map(|(_, ids)| ids.iter().map(Vec::as_slice)).collect();
        let mut scores = scorer.of(&ids).await?.into_iter();
        let rows = rows.iter().map(|(row, ids)| (row, scores.by_ref().take(ids.len()).collect()));
        return Ok(ScoreEvaluation::RewardBench(BenchReport::new(&rows.collect::<Vec<_>>())));
    }
    let is_cost = settings.is_cost.unwrap_or(head.normalization == Normalization::Scale);
    let kind = PairKind::Compared(if is_cost { Judgement::Safer } else { Judgement::Better });
    let pairs = Pairs::read(&run.data, kind, &run, encoding, observer)?;
    let ids: Vec<&[u32]> = pairs.all().iter().flat_map(|pair| pair.ids.iter().map(Vec::as_slice)).collect();
    let ends = scorer.of(&ids).await?;
    let report = ScoreReport::new(&scored(&pairs, &ends), is_cost);
    if let Some(folder) = &settings.output {
        std::fs::create_dir_all(folder).map_err(Error::path("create", folder))?;
        write_report(folder, "evaluation", if is_cost { "cost" } else { "reward" }, &report)?;
    }
    Ok(ScoreEvaluation::Pairs(Box::new(report)))
}

/// Scores conversations, several at a time.
struct Scores<'a, B: Operations> {
    backend: &'a B,
    model: &'a ScoreModel<B>,
    head: &'a HeadSpec,
    /// Tokens that run together.
    tokens: usize,
}

impl<B: Operations> Scores<'_, B> {
    /// The end score of each conversation; the first, where a model gives several.
    async fn of(&self, ids: &[&[u32]]) -> Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(ids.len());
        let mut rest = ids;
        while !rest.is_empty() {
            let (mut count, mut sum) = (0, 0);
            while count < rest.len() && (count == 0 || sum + rest[count].len() <= self.tokens) {
                sum += rest[count].len();
                count += 1;
            }
            let (batch, after) = rest.split_at(count);
            rest = after;
            let segments = Segments::documents(&batch.iter().map(|ids| ids.len()).collect::<Vec<_>>());
            let x = self.model.trunk().forward(&self.backend.tokens(&batch.concat())?, &segments, &mut Fresh)?;
            let mut start = 0;
            let ends: Vec<usize> = batch
                .iter()
                .map(|ids| {
                    let end = start + self.head.end_position(ids);
                    start += ids.len();
                    end
                })
                .collect();
            let values = self.model.scores(&self.backend.select_rows(&x, &ends)?)?;
            let mut values = self.backend.read(&values).await?;
            if self.head.do_normalize {
                self.head.normalize(&mut values);
            }
            scores.extend(values.chunks(self.head.score_dim.max(1)).map(|row| f64::from(row[0])));
        }
        Ok(scores)
    }
}

/// Whether the first row of a file has lists of texts for answers, as RewardBench 2 has.
fn is_reward_bench(path: &Path) -> Result<bool> {
    let of_bench =
        |row: &Value| Ok(vec![row["chosen"].as_array().is_some_and(|list| list.iter().all(Value::is_string))]);
    Ok(read_rows(path, of_bench)?.usable.first().is_some_and(|(_, of_bench)| *of_bench))
}

/// A row, and the tokens of each of its answers.
type EncodedRow = (BenchRow, Vec<Vec<u32>>);

/// The rows of RewardBench 2's file with the tokens of each answer, and how many are used.
fn bench_rows(run: &RunSettings, encoding: Encoding) -> Result<(Vec<EncodedRow>, String)> {
    let Encoding { tokenizer, context, .. } = encoding;
    let length = run.max_length.min(context);
    let encoder = Encoder::new(tokenizer, Template::new(run.template, tokenizer)?, length)?;
    let conversation = |row: &BenchRow, answer: &str| {
        let turn = |role, text: &str, learned| Turn { message: Message::new(role, text), learned };
        let record =
            Record::Conversation(vec![turn(Role::User, &row.prompt, false), turn(Role::Assistant, answer, true)]);
        let example = encoder.encode(&record).map_err(|error| error.to_string())?;
        if example.ids.is_empty() {
            return Err("an answer has no token".to_string());
        }
        Ok(example.ids)
    };
    let encoded = |row: &BenchRow| {
        let ids = row.answers.iter().map(|answer| conversation(row, answer)).collect::<Result<Vec<_>, String>>()?;
        Ok((row.clone(), ids))
    };
    let rows = read_rows(&run.data, |row| BenchRow::parse(row).map(|row| vec![row]))?;
    Ok(rows.and_then(encoded).counted(run.strict)?)
}
