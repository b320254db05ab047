//! `paddock dpo`: a chat model that learns from preferences, without a reward model.

use std::path::{Path, PathBuf};

use paddock_engine::model::CausalLm;
use paddock_engine::records::Judgement;
use paddock_learn::data::{Extent, PairShare};
use paddock_learn::loss::{PreferenceKind, PreferenceLoss};
use paddock_learn::objective::{Measured, PairSet, Preference, PreferenceBatch, PreferenceOptions, Reference};
use paddock_learn::{Adjoint, Store, Tape};

use super::pairs::{PairKind, Pairs};
use super::reference_file::{self, ReferenceSums};
use super::score_model::PairData;
use super::show::show_pairs;
use crate::files::open_model;
use crate::run::checkpoint::{Kept, TrainedModel};
use crate::run::memory::{MemoryEstimate, Recipe};
use crate::run::{PreferenceSettings, ReferenceKind};
use crate::sft::tape_options;
use crate::training::{Evaluated, Kind, Observer, Place, Runs, StartModel, Step, Stepped, Task};
use crate::{Error, Result};

/// `paddock dpo`.
#[derive(Debug)]
pub struct PreferenceRun;

impl Kind for PreferenceRun {
    type Settings = PreferenceSettings;
    type Task<B: Runs, S: Store<B>> = PreferenceTask<B, S>;

    fn show_examples(settings: &PreferenceSettings, count: usize) -> Result<(String, Option<String>)> {
        show_pairs(&settings.run, kind(settings), count)
    }
}

fn kind(settings: &PreferenceSettings) -> PairKind {
    match settings.loss {
        PreferenceKind::Kto => PairKind::Judged { among: settings.run.batch_size },
        _ => PairKind::Compared(Judgement::Better),
    }
}

/// A model that is learning from preferences.
pub struct PreferenceTask<B: Adjoint, S: Store<B>> {
    trained: TrainedModel<B, Preference<B, S>, S>,
    micro_batch_tokens: usize,
    extent: Extent,
    data: PairData,
    /// The reference.
    path: PathBuf,
    /// Whether the model is still the reference.
    is_reference: bool,
}

impl<B: Adjoint, S: Store<B>> Kept for PreferenceTask<B, S> {
    fn leads(&self) -> bool {
        self.trained.leads()
    }

    async fn write_model(&self, folder: Option<&Path>) -> Result<()> {
        self.trained.write_model(folder).await
    }

    async fn write_state(&self, folder: Option<&Path>) -> Result<()> {
        if let (Some(folder), Reference::Known(known)) = (folder, self.trained.trainer.objective().reference()) {
            let known = known.borrow();
            let sums = |(set, pairs): (PairSet, &Pairs)| ReferenceSums {
                digest: pairs.digest(),
                sums: known[set as usize].clone(),
            };
            reference_file::write(folder, &self.sets().map(sums).collect::<Vec<_>>())?;
        }
        self.trained.write_state(folder).await
    }

    async fn read_state(&mut self, folder: &Path) -> Result<()> {
        self.is_reference = false;
        if let Reference::Known(known) = self.trained.trainer.objective().reference() {
            // Those of other data are computed anew.
            for ReferenceSums { digest, sums } in reference_file::read(folder)? {
                if let Some((set, _)) = self.sets().find(|(_, pairs)| pairs.digest() == digest) {
                    known.borrow_mut()[set as usize] = sums;
                }
            }
        }
        self.trained.read_state(folder).await
    }
}

impl<B: Runs, S: Store<B>> Task<B, S> for PreferenceTask<B, S> {
    type Settings = PreferenceSettings;
    type Data = PairData;

    async fn read(
        settings: &PreferenceSettings,
        model: &mut StartModel,
        place: &Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<PairData> {
        PairData::read(&settings.run, kind(settings), model, place, observer).await
    }

    /// With the reference, where it is a model of its own.
    fn memory(settings: &PreferenceSettings, model: &StartModel, recipe: &Recipe) -> Result<MemoryEstimate> {
        let mut estimate = MemoryEstimate::new(model.checkpoint.config(), recipe)?;
        if settings.reference_of_run() == Some(ReferenceKind::Model) {
            estimate.weights *= 2;
        }
        Ok(estimate)
    }

    async fn load(
        settings: &PreferenceSettings,
        mut model: StartModel,
        data: PairData,
        place: Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let run = &settings.run;
        let reference_kind = settings.reference_of_run();
        let options = PreferenceOptions {
            tape: tape_options(run),
            lora: run.memory.adapters.lora.clone(),
            seed: run.seed,
            loss: PreferenceLoss {
                kind: settings.loss,
                beta: settings.beta,
                label_smoothing: settings.label_smoothing,
                gamma: settings.simpo_gamma,
                length_normalized: settings.length_normalize,
                weights: [settings.desirable_weight, settings.undesirable_weight],
            },
            sft_weight: settings.sft_weight(),
            without_adapters: reference_kind == Some(ReferenceKind::AdapterOff),
        };
        let extent = extent(settings, &model)?;
        let Place { backend, store, sharding } = place;
        let path = settings.reference_model.as_ref().unwrap_or(&run.model);
        let reference = match reference_kind {
            None | Some(ReferenceKind::AdapterOff) => Reference::None,
            Some(ReferenceKind::Model) => {
                let mut checkpoint = open_model(path, None)?;
                let mut progress = |at| observer.loading(at);
                Reference::Model(CausalLm::load(&backend, &mut checkpoint, &mut progress).await?)
            }
            Some(ReferenceKind::Cached | ReferenceKind::Auto) => Reference::Known(Default::default()),
        };
        let mut progress = |at| observer.loading(at);
        let on = (backend, store, sharding);
        let trainer = Preference::load(on, &mut model.checkpoint, options, reference, &mut progress).await?;
        let trained = TrainedModel { trainer, description: model.description };
        Ok(Self {
            trained,
            micro_batch_tokens: run.memory.micro_batch_tokens,
            extent,
            data,
            path: path.clone(),
            is_reference: settings.reference_model.is_none(),
        })
    }

    fn tape(&self) -> &Tape<B, S> {
        self.trained.trainer.tape()
    }

    fn parameters(&self) -> [u64; 2] {
        self.trained.parameters()
    }

    async fn step(&mut self, step: &Step) -> Result<Stepped> {
        self.know_reference().await?;
        self.is_reference = false;
        let share = self.data.pairs.share(&step.examples, self.extent, self.trained.place(), self.micro_batch_tokens);
        let (pairs, tokens) = (share.pairs, share.tokens);
        let batch = PreferenceBatch { set: PairSet::Train, share };
        let report = self.trained.trainer.step(&batch, &step.optimizer).await?;
        Ok(Stepped {
            loss: (pairs > 0).then_some(report.loss),
            grad_norm: report.grad_norm,
            tokens,
            values: named(report.values),
        })
    }

    async fn evaluate(&mut self, _step: u64, _observer: &mut dyn Observer) -> Result<Option<Evaluated>> {
        self.know_reference().await?;
        let Some(eval) = &self.data.eval else { return Ok(None) };
        let share = eval.share_of_all(self.extent, self.trained.place(), self.micro_batch_tokens);
        let batch = PreferenceBatch { set: PairSet::Eval, share };
        let trainer = &self.trained.trainer;
        let measured = trainer.objective().measure(trainer.tape(), &batch).await?;
        let Measured { loss, values } = trainer.total(measured).await?;
        Ok(Some(Evaluated { loss, values: named(values) }))
    }
}

impl<B: Adjoint, S: Store<B>> PreferenceTask<B, S> {
    /// The pairs of the run, by what they are for.
    fn sets(&self) -> impl Iterator<Item = (PairSet, &Pairs)> {
        let eval = self.data.eval.as_ref().map(|pairs| (PairSet::Eval, pairs));
        [(PairSet::Train, &self.data.pairs)].into_iter().chain(eval)
    }
}

impl<B: Runs, S: Store<B>> PreferenceTask<B, S> {
    /// Computes what is not yet known of a reference that is to be known.
    async fn know_reference(&self) -> Result<()> {
        let trainer = &self.trained.trainer;
        let Reference::Known(known) = trainer.objective().reference() else { return Ok(()) };
        for (set, pairs) in self.sets() {
            if known.borrow()[set as usize].len() == 2 * pairs.len() {
                continue;
            }
            let share = pairs.share_of_all(self.extent, self.trained.place(), self.micro_batch_tokens);
            let sums = if self.is_reference {
                trainer.objective().sums(trainer.tape(), &share, pairs.len()).await?
            } else {
                let backend = trainer.tape().inner();
                let mut checkpoint = open_model(&self.path, None)?;
                let model = CausalLm::load(backend, &mut checkpoint, &mut |_| {}).await?;
                let mut sums = log_prob_sums(backend, &model, &share, pairs.len()).await?;
                if let Some(sharding) = trainer.tape().sharding() {
                    sharding.ranks.sum(&mut sums).await?;
                }
                sums
            };
            known.borrow_mut()[set as usize] = sums;
        }
        Ok(())
    }
}

/// Which tokens count.
fn extent(settings: &PreferenceSettings, model: &StartModel) -> Result<Extent> {
    if !settings.upstream_slice {
        return Ok(if settings.from_divergence { Extent::Divergence } else { Extent::Answers });
    }
    let pad = model.description.config()["pad_token_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let pad = pad.ok_or_else(|| {
        Error::Request(
            "upstream-slice needs the model's padding token; its config.json has no pad_token_id".to_string(),
        )
    })?;
    Ok(Extent::Upstream { pad })
}

/// The sums of the log-probabilities of both answers of every pair that this rank has, at twice the pair's number and after
/// it.
async fn log_prob_sums<B: Runs>(backend: &B, model: &CausalLm<B>, share: &PairShare, pairs: usize) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; 2 * pairs];
    for (batch, _) in share.passes.iter().filter(|(_, counts)| *counts) {
        let (ids, targets) = (backend.tokens(&batch.ids)?, backend.tokens(&batch.targets)?);
        let values = backend.read(&model.token_logprobs(&ids, &batch.segments, &batch.rows, &targets)?).await?;
        for pair in &batch.pairs {
            for (side, rows) in pair.rows.iter().enumerate() {
                sums[2 * pair.number + side] = values[rows.clone()].iter().copied().map(f64::from).sum();
            }
        }
    }
    Ok(sums)
}

fn named(values: Vec<(&'static str, f64)>) -> Vec<(String, f64)> {
    values.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
