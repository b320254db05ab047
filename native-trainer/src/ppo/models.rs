//! The models that a run leaves: the actor and its critics, whole or as adapters in PEFT's files.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::config::{Param, ScoreFamily};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::lora::ADAPTER_CONFIG;
use paddock_learn::objective::Objective;
use paddock_learn::tape::{ParameterId, named};
use paddock_learn::{Adjoint, Store, Tape};
use pollster::block_on;
use serde_json::Value;

use super::PpoSettings;
use super::roles::{CriticKind, Roles, TrainedCritic, params};
use super::rollout::{PpoData, Source};
use super::state::trained_parameters;
use crate::files::{
    ADAPTER_WEIGHTS, AtomicFolder, Description, Dtype, ModelSource, TensorSpec, write_file, write_safetensors,
    write_weights,
};
use crate::{Error, Result};

/// Writes the actor into `folder`; a rank without one gives its parts instead.
///
/// # Errors
/// When a weight is not finite, the disk refuses, or a rank has ended.
pub(super) fn write_actor<B: Adjoint, S: Store<B>>(
    folder: Option<&Path>,
    settings: &PpoSettings,
    roles: &Roles<B, S>,
    description: &Description,
) -> Result<()> {
    let (tape, objective) = (roles.actor.tape(), roles.actor.objective());
    let Some(folder) = folder else { return give(tape, objective.trained()) };
    if let Some(lora) = &settings.run.memory.adapters.lora {
        let config = match &settings.actor_adapter {
            Some(adapter) => adapter_config(adapter)?,
            None => lora.to_json(&whole_path(&settings.run.model), &[]),
        };
        write_adapter(folder, tape, objective.trained(), &config)?;
        return description.write_tokenizer(folder);
    }
    write_whole(folder, tape, objective.model().config().params(), &[], description)
}

/// Writes the critics into the run's folder, as `reward-critic` and `cost-critic`.
///
/// # Errors
/// When a weight is not finite, or the disk refuses.
pub(super) fn write_critics<B: Adjoint, S: Store<B>>(settings: &PpoSettings, roles: &Roles<B, S>) -> Result<()> {
    for (name, critic) in [("reward-critic", &roles.reward_critic), ("cost-critic", &roles.cost_critic)] {
        let Some(TrainedCritic { trainer, kind }) = critic else { continue };
        let (tape, objective) = (trainer.tape(), trainer.objective());
        if !trainer.leads() {
            give(tape, objective.trained())?;
            continue;
        }
        let folder = AtomicFolder::create(&settings.run.output.join(name))?;
        match kind {
            CriticKind::Whole(description) => {
                let head = objective.model().head();
                let mut further = Vec::new();
                if head.statistics && head.family == ScoreFamily::SafeRlhf {
                    let param = |name: &str| Param { name: name.to_string(), shape: [1, head.score_dim] };
                    further.push((param("normalizer.mean"), head.mean.clone()));
                    further.push((param("normalizer.var"), head.var.clone()));
                }
                let params = params(objective.model().trunk().config());
                write_whole(folder.path(), tape, params, &further, description)?;
            }
            CriticKind::Adapter(adapter) => {
                write_adapter(folder.path(), tape, objective.trained(), &adapter_config(adapter)?)?;
            }
            CriticKind::NewAdapter(base) => {
                let lora = settings.run.memory.adapters.lora.clone().unwrap_or_default();
                let config = lora.to_json(&whole_path(base), &["classifier", "score"].map(str::to_string));
                write_adapter(folder.path(), tape, objective.trained(), &config)?;
            }
        }
        folder.commit()?;
    }
    Ok(())
}

/// This rank's parts of what another one writes: the same parameters in the same order.
fn give<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>, trained: Option<&[ParameterId]>) -> Result<()> {
    trained_parameters(tape, trained).iter().try_for_each(|info| Ok(block_on(tape.read_parameter(info.id)).map(drop)?))
}

fn write_whole<B: Adjoint, S: Store<B>>(
    folder: &Path,
    tape: &Tape<B, S>,
    params: Vec<Param>,
    further: &[(Param, Vec<f32>)],
    description: &Description,
) -> Result<()> {
    let tensors = named(params, tape)?;
    let own = tensors.iter().map(|tensor| &tensor.param);
    let all: Vec<Param> = own.chain(further.iter().map(|(param, _)| param)).cloned().collect();
    // A parameter of several tensors is read once, as by `give`.
    let mut held: Option<(ParameterId, Vec<f32>)> = None;
    write_weights(folder, &all, description.dtype(), |index| {
        let values = match tensors.get(index) {
            Some(tensor) => {
                if held.as_ref().is_none_or(|(parameter, _)| *parameter != tensor.parameter) {
                    held = Some((tensor.parameter, block_on(tape.read_parameter(tensor.parameter))?));
                }
                held.as_ref().map(|(_, values)| tensor.values(values).to_vec()).unwrap_or_default()
            }
            None => further[index - tensors.len()].1.clone(),
        };
        finite(&all[index].name, values)
    })?;
    description.write(folder)
}

/// `adapter_config.json` of the adapter that a role began with.
fn adapter_config(folder: &Path) -> Result<Value> {
    let path = folder.join(ADAPTER_CONFIG);
    let bytes = fs::read(&path).map_err(Error::path("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Request(format!("{}: {error}", path.display())))
}

/// So that PEFT opens the base from wherever it runs.
fn whole_path(base: &Path) -> String {
    base.canonicalize().unwrap_or_else(|_| base.to_path_buf()).display().to_string()
}

/// Writes the matrices of one role as PEFT names them, described by `config`.
fn write_adapter<B: Adjoint, S: Store<B>>(
    folder: &Path,
    tape: &Tape<B, S>,
    trained: Option<&[ParameterId]>,
    config: &Value,
) -> Result<()> {
    let infos = trained_parameters(tape, trained);
    let spec = |label: &str, shape: [usize; 2]| {
        // "role/name of PEFT", and a head's "role/score.weight".
        let own = label.split_once('/').map_or(label, |(_, own)| own);
        let name = if own.starts_with("score.") { format!("base_model.model.{own}") } else { own.to_string() };
        TensorSpec { name, shape: shape.to_vec(), dtype: Dtype::F32 }
    };
    let specs: Vec<TensorSpec> = infos.iter().map(|info| spec(&info.label, info.shape)).collect();
    let path = folder.join(ADAPTER_WEIGHTS);
    let mut file = BufWriter::new(File::create(&path).map_err(Error::path("create", &path))?);
    write_safetensors(&mut file, &specs, |index| {
        finite(&specs[index].name, block_on(tape.read_parameter(infos[index].id))?)
    })?;
    file.flush().map_err(Error::path("write", &path))?;
    write_file(&folder.join(ADAPTER_CONFIG), &format!("{config:#}\n"))
}

fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(values);
    }
    Err(Error::Request(format!(
        "the run has come apart: {name} holds NaN or infinity and is not saved; lower --learning-rate"
    )))
}

/// The first prompts as the actor will see them.
///
/// # Errors
/// When they cannot be read.
pub(super) fn show_prompts(settings: &PpoSettings, count: usize) -> Result<(String, Option<String>)> {
    let mut checkpoint = block_on(Checkpoint::open(ModelSource::open(&settings.run.model)?))?;
    let tokenizer = Tokenizer::from_files(&block_on(checkpoint.tokenizer_files())?)?;
    let config = checkpoint.config();
    let mut notes = Notes(Vec::new());
    let data = PpoData::read(settings, &tokenizer, config.max_position_embeddings, config.vocab_size, &mut notes)?;
    let mut text = String::new();
    let mut show = |prompt: &str, ids: &[u32], answer: &str| {
        let _ = writeln!(text, "{prompt}[[{answer}]]\n{ids:?}\n");
    };
    match &data.source {
        Source::Prompts(prompts) => prompts.iter().take(count).for_each(|prompt| show(&prompt.text, &prompt.ids, "…")),
        Source::Given(iterations) => {
            for rollout in iterations.iter().flatten().take(count) {
                let answer = tokenizer.decode(&rollout.response_ids, false)?;
                show(&rollout.prompt, &rollout.prompt_ids, &answer);
            }
        }
    }
    Ok((text, notes.0.into_iter().next()))
}

/// Keeps what a reader notes.
pub(super) struct Notes(Vec<String>);

impl crate::training::Observer for Notes {
    fn loading(&mut self, _progress: paddock_engine::model::LoadProgress) {}
    fn begin(&mut self, _overview: &crate::training::Overview) {}
    fn note(&mut self, text: &str) {
        self.0.push(text.to_string());
    }
    fn step(&mut self, _metrics: &crate::run::Metrics, _total: u64) {}
    fn evaluated(&mut self, _metrics: &crate::run::Metrics) {}
    fn sample(&mut self, _step: u64, _prompt: &str, _answer: &str) {}
    fn stop(&self) -> Option<crate::signals::Signal> {
        None
    }
}
