//! `paddock reward` and `paddock cost`: score models from pairs of answers.

use std::path::{Path, PathBuf};

use paddock_engine::config::{HeadSpec, Normalization, ScoreFamily};
use paddock_engine::prompt::{Template, TemplateKind};
use paddock_engine::records::Judgement;
use paddock_learn::data::{Extent, PairExample};
use paddock_learn::lora::adapter_parameters;
use paddock_learn::loss::{ScoreLoss, ScoreMeaning};
use paddock_learn::objective::{SCORE_SQUARES, SCORE_SUM, ScoreOptions, ScoreTraining, Tuned};
use paddock_learn::{Adjoint, Store, Tape};
use serde_json::{Map, Value, json};

use super::histogram::histogram;
use super::normalizer::{Normalizer, NormalizerKind};
use super::pairs::{Encoding, PairKind, Pairs};
use super::report::{ScoreReport, ScoredPair};
use super::show::show_pairs;
use crate::files::{write_bytes, write_file};
use crate::run::checkpoint::{Kept, TrainedModel, count_parameters};
use crate::run::{LossType, MeantSettings, RunSettings, ScoreSettings};
use crate::sft::tape_options;
use crate::training::{Data, Evaluated, Kind, Observer, Place, Runs, StartModel, Step, Stepped, Task};
use crate::{Error, Result};

/// `paddock reward` or, with `COST`, `paddock cost`.
#[derive(Debug)]
pub struct ScoreRun<const COST: bool>;

impl<const COST: bool> Kind for ScoreRun<COST> {
    type Settings = MeantSettings<COST>;
    type Task<B: Runs, S: Store<B>> = ScoreTask<B, S, COST>;

    fn show_examples(settings: &MeantSettings<COST>, count: usize) -> Result<(String, Option<String>)> {
        show_pairs(&settings.0.run, kind::<COST>(), count)
    }
}

/// What the rows of the data say that is learned.
fn kind<const COST: bool>() -> PairKind {
    PairKind::Compared(if COST { Judgement::Safer } else { Judgement::Better })
}

/// The pairs of a run, and those that it is evaluated on.
pub struct PairData {
    pub(super) pairs: Pairs,
    pub(super) eval: Option<Pairs>,
}

impl PairData {
    /// Reads what `run` names, and makes the template in which it is asked that of the trained model.
    pub(super) async fn read<B: Adjoint, S: Store<B>>(
        run: &RunSettings,
        kind: PairKind,
        model: &mut StartModel,
        place: &Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (context, vocab) = (model.context(), model.checkpoint.config().vocab_size);
        keep_template(run.template, model)?;
        if context < run.max_length {
            observer.note(&format!("conversations are cut after {context} tokens, which is the model's context"));
        }
        let encoding = Encoding { tokenizer: &model.tokenizer, vocab, context };
        let mut read = |path: &Path| Pairs::read(path, kind, run, encoding, observer);
        place
            .first_rank_first(|| {
                Ok(Self { pairs: read(&run.data)?, eval: run.eval_data.as_deref().map(&mut read).transpose()? })
            })
            .await
    }
}

/// Makes the template of the data the one that the trained model is asked in, with the token that ends an answer.
fn keep_template(template: TemplateKind, model: &mut StartModel) -> Result<()> {
    let begins = model.tokenizer.encode("", true)?.first().copied();
    if let Some(template) = template.jinja(begins.is_some() && begins == model.tokenizer.bos()) {
        model.description.set_chat_template(&template);
    }
    Ok(())
}

impl Data for PairData {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn tokens(&self) -> u64 {
        self.pairs.tokens()
    }

    fn digest(&self) -> String {
        self.pairs.digest()
    }
}

/// A score model that is being trained.
pub struct ScoreTask<B: Adjoint, S: Store<B>, const COST: bool> {
    trained: TrainedModel<B, ScoreTraining<B, S>, S>,
    settings: ScoreSettings,
    data: PairData,
    normalizer: Normalizer,
    /// The token that transformers' classifiers pass over at the end.
    pad: Option<u32>,
    /// Whether EOS ends the answers.
    append_eos: bool,
    /// Where pictures and reports go.
    output: PathBuf,
}

impl<B: Adjoint, S: Store<B>, const COST: bool> Kept for ScoreTask<B, S, COST> {
    fn leads(&self) -> bool {
        self.trained.leads()
    }

    async fn write_model(&self, folder: Option<&Path>) -> Result<()> {
        let (class, fields) = self.head_config();
        let description = self.trained.description.with_class(class, &fields);
        self.trained.write_described(folder, &description).await
    }

    async fn write_state(&self, folder: Option<&Path>) -> Result<()> {
        if let Some(folder) = folder {
            self.normalizer.write(folder)?;
        }
        self.trained.write_state(folder).await
    }

    async fn read_state(&mut self, folder: &Path) -> Result<()> {
        self.normalizer = Normalizer::read(folder)?;
        self.trained.read_state(folder).await
    }
}

impl<B: Runs, S: Store<B>, const COST: bool> Task<B, S> for ScoreTask<B, S, COST> {
    type Settings = MeantSettings<COST>;
    type Data = PairData;

    async fn read(
        settings: &MeantSettings<COST>,
        model: &mut StartModel,
        place: &Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<PairData> {
        let MeantSettings(settings) = settings;
        let data = PairData::read(&settings.run, kind::<COST>(), model, place, observer).await?;
        Ok(match settings.margin {
            true => data,
            false => PairData { pairs: data.pairs.without_margins(), eval: data.eval },
        })
    }

    async fn load(
        settings: &MeantSettings<COST>,
        mut model: StartModel,
        data: PairData,
        place: Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let MeantSettings(settings) = settings;
        let normalization = if COST { Normalization::Scale } else { Normalization::Affine };
        let append_eos = Template::new(settings.run.template, &model.tokenizer)?.ends_with_eos();
        // What transformers' classifiers pass over is said by the chat model's own configuration.
        let pad = model.description.config()["pad_token_id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let head = HeadSpec::new(settings.head.family(), normalization, pad);
        let options = ScoreOptions {
            tape: tape_options(&settings.run),
            lora: settings.run.memory.adapters.lora.clone(),
            seed: settings.run.seed,
            head,
            init: settings.head_init,
            loss: ScoreLoss {
                meaning: if COST { ScoreMeaning::Cost } else { ScoreMeaning::Reward },
                regularization: settings.regularization,
                centering: settings.center_rewards_coefficient,
            },
        };
        let Place { backend, store, sharding } = place;
        let mut progress = |at| observer.loading(at);
        let trainer =
            ScoreTraining::load(backend, store, sharding, &mut model.checkpoint, options, &mut progress).await?;
        let head = trainer.objective().config().score_head();
        let pad = head.and_then(|head| head.pad_token_id);
        let normalizer = head.map_or(Normalizer { mean: 0.0, var: 1.0, count: 0 }, Normalizer::of);
        let trained = TrainedModel { trainer, description: model.description };
        let output = settings.run.output.clone();
        Ok(Self { trained, settings: settings.clone(), data, normalizer, pad, append_eos, output })
    }

    fn tape(&self) -> &Tape<B, S> {
        self.trained.trainer.tape()
    }

    fn parameters(&self) -> [u64; 2] {
        let beside = adapter_parameters(self.tape());
        let adapters: u64 = beside.iter().map(|info| info.len() as u64).sum();
        // The head is among both.
        let head: u64 = beside.iter().filter(|info| !info.label.contains(".lora_")).map(|info| info.len() as u64).sum();
        let objective = self.trained.trainer.objective();
        let model = count_parameters(objective.config());
        [model + adapters - head, if objective.lora().is_some() { adapters } else { model }]
    }

    async fn step(&mut self, step: &Step) -> Result<Stepped> {
        let extent = match self.settings.loss_type {
            LossType::SequenceWise => Extent::Ends { pad: self.pad },
            LossType::TokenWise => Extent::Shared,
        };
        let tokens = self.settings.run.memory.micro_batch_tokens;
        let share = self.data.pairs.share(&step.examples, extent, self.trained.place(), tokens);
        let report = self.trained.trainer.step(&share, &step.optimizer).await?;
        let value =
            |name: &str| report.values.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, value)| *value);
        let ScoreSettings { normalizer, momentum, .. } = self.settings;
        let count = 2 * share.pairs as u64;
        self.normalizer.update(normalizer, momentum, count, value(SCORE_SUM), value(SCORE_SQUARES));
        let shown = report.values.into_iter().filter(|(name, _)| ![SCORE_SUM, SCORE_SQUARES].contains(name));
        Ok(Stepped {
            loss: (share.pairs > 0).then_some(report.loss),
            grad_norm: report.grad_norm,
            tokens: share.tokens,
            values: shown.map(|(name, value)| (name.to_string(), value)).collect(),
        })
    }

    async fn evaluate(&mut self, step: u64, _observer: &mut dyn Observer) -> Result<Option<Evaluated>> {
        let Some(eval) = &self.data.eval else { return Ok(None) };
        let tokens = self.settings.run.memory.micro_batch_tokens;
        let share = eval.share_of_all(Extent::Ends { pad: self.pad }, self.trained.place(), tokens);
        let (trainer, kind) = (&self.trained.trainer, if COST { "cost" } else { "reward" });
        let ends = trainer.objective().end_scores(trainer.tape(), &share, eval.len()).await?;
        let loss = trainer.evaluate(&share).await?;
        let report = ScoreReport::new(&scored(eval, &ends), COST);
        if self.leads() {
            write_report(&self.output, &format!("evaluation-{step}"), kind, &report)?;
        }
        Ok(Some(Evaluated { loss, values: report.values(kind) }))
    }
}

impl<B: Adjoint, S: Store<B>, const COST: bool> ScoreTask<B, S, COST> {
    /// The end of the class's name, and what `config.json` says about the head.
    fn head_config(&self) -> (&'static str, Map<String, Value>) {
        let ScoreSettings { normalizer, momentum, normalize, .. } = self.settings;
        let head = self.trained.trainer.objective().config().score_head();
        let (class, fields) = match head.map(|head| (head.family, head.bias)) {
            Some((ScoreFamily::SequenceClassification, _)) | None => {
                let fields =
                    json!({ "id2label": { "0": "LABEL_0" }, "label2id": { "LABEL_0": 0 }, "num_labels": null });
                ("ForSequenceClassification", fields)
            }
            Some((ScoreFamily::SafeRlhf, bias)) => {
                let statistics =
                    (normalizer != NormalizerKind::None).then_some([self.normalizer.mean, self.normalizer.var]);
                let average = normalizer == NormalizerKind::ExponentialMovingAverage;
                let fields = json!({
                    "score_dim": 1,
                    "score_bias": bias,
                    "score_type": if COST { "cost" } else { "reward" },
                    "do_normalize": normalize,
                    "normalizer_type": normalizer.name(),
                    "momentum": average.then_some(momentum),
                    "mean": statistics.map(|[mean, _]| [mean]),
                    "var": statistics.map(|[_, var]| [var]),
                });
                ("ForScore", fields)
            }
        };
        let mut all = Map::from_iter([("append_eos".to_string(), self.append_eos.then_some(true).into())]);
        if let Value::Object(fields) = fields {
            all.extend(fields);
        }
        (class, all)
    }
}

/// The end scores of `pairs` with their lengths.
pub(super) fn scored(pairs: &Pairs, ends: &[f64]) -> Vec<ScoredPair> {
    let ends = ends.as_chunks::<2>().0.iter();
    let pair = |(pair, ends): (&PairExample, &[f64; 2])| ScoredPair {
        ends: *ends,
        lengths: [pair.targets[0].len(), pair.targets[1].len()],
        safe: pair.safe,
    };
    pairs.all().iter().zip(ends).map(pair).collect()
}

/// Writes a report as JSON, and the distribution of its scores as a picture.
pub(super) fn write_report(folder: &Path, name: &str, kind: &str, report: &ScoreReport) -> Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::Request(error.to_string()))?;
    write_file(&folder.join(format!("{name}.json")), &text)?;
    let title = format!("{kind} of {} pairs, accuracy {:.3}", report.pairs, report.accuracy);
    write_bytes(&folder.join(format!("{name}.png")), &histogram(&title, &report.distribution)?)
}
