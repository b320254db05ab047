//! Checkpoints of a run: a model's folder with the state of its training beside it.

mod find;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::weights::safetensors::read_header;
use paddock_engine::weights::{Encoding, Source, dequantize};
use paddock_learn::lora::adapter_parameters;
use paddock_learn::objective::Sft;
use paddock_learn::tape::{Named, ParameterId, ParameterInfo, named};
use paddock_learn::{Adjoint, Moment, Store, Tape, Trainer};
use pollster::block_on;
use serde::{Deserialize, Serialize};

use crate::files::{
    AtomicFolder, Description, Dtype, FolderSource, TensorSpec, file_sha256, read_adapters, write_adapters, write_file,
    write_safetensors, write_weights,
};
use crate::run::SftSettings;
use crate::{Error, Result};
pub use find::{Newest, newest, of_step};

/// First and second moments of every parameter.
const OPTIMIZER: &str = "optimizer.safetensors";
/// How far the run was.
const STATE: &str = "trainer_state.json";
/// What the run is made of.
const ORIGIN: &str = "run.json";
/// SHA-256 of every other file, written last: a folder without it is not complete.
const HASHES: &str = "hashes.json";
/// Suffixes of a parameter's moments, as PyTorch calls them.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];
/// Suffix of the f32 values of a parameter that the model holds in bf16.
const MASTER: &str = "master";

/// How far a run was when it was saved. The order of the data and the learning rate follow from this and the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
}

/// What a run is made of. Its checkpoints hold it, so that another run does not continue them unnoticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The run's settings.
    pub settings: SftSettings,
    /// SHA-256 of its examples, as tokens.
    pub examples: String,
}

impl Origin {
    /// That of the run that saved the checkpoint at `path`; `None` when it does not tell.
    pub fn of(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path.join(ORIGIN)).ok()?).ok()
    }
}

/// Writes the model, the optimiser's moments and `state` as `output/checkpoint-<step>`, which appears whole or not at
/// all, and removes all but the newest `keep` of the checkpoints up to this step. Of several ranks only the first writes;
/// checkpoints do not depend on the number of ranks.
///
/// # Errors
/// When a weight is no longer finite, the disk refuses, or a rank has ended.
pub async fn save<B: Adjoint, S: Store<B>>(
    output: &Path,
    trainer: &Trainer<B, Sft<B, S>, S>,
    description: &Description,
    state: State,
    origin: &Origin,
) -> Result<()> {
    if !trainer.leads() {
        give_model(trainer).await?;
        return give_states(trainer.tape()).await;
    }
    let folder = AtomicFolder::create(&output.join(format!("checkpoint-{}", state.step)))?;
    let path = folder.path();
    save_model(path, trainer, description).await?;
    with_file(&path.join(OPTIMIZER), |file| write_states(file, trainer.tape()))?;
    write_file(&path.join(STATE), &json(&state)?)?;
    write_file(&path.join(ORIGIN), &json(origin)?)?;
    write_file(&path.join(HASHES), &json(&hashes(path)?)?)?;
    folder.commit()?;
    find::remove_old(output, state.step, origin.settings.keep)
}

/// Writes the tuned model, or the adapters, into the run's folder; it takes the place of one that is there only when all
/// of it is on the disk. Of several ranks only the first writes.
///
/// # Errors
/// As [`save`].
pub async fn save_result<B: Adjoint, S: Store<B>>(
    output: &Path,
    trainer: &Trainer<B, Sft<B, S>, S>,
    description: &Description,
) -> Result<()> {
    if !trainer.leads() {
        return give_model(trainer).await;
    }
    let folder = AtomicFolder::create(&output.join("model"))?;
    save_model(folder.path(), trainer, description).await?;
    folder.commit_into(output)
}

/// Writes the model, or the adapters that were trained on it, into `folder`. Of several ranks only the first writes.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
async fn save_model<B: Adjoint, S: Store<B>>(
    folder: &Path,
    trainer: &Trainer<B, Sft<B, S>, S>,
    description: &Description,
) -> Result<()> {
    if !trainer.leads() {
        return give_model(trainer).await;
    }
    let tape = trainer.tape();
    if let Some(lora) = trainer.objective().lora() {
        write_adapters(lora, tape, description.source(), folder).await?;
        return description.write_tokenizer(folder);
    }
    let named = named(trainer.objective().config().params(), tape)?;
    let params: Vec<_> = named.iter().map(|named| named.param.clone()).collect();
    let mut held: Option<(ParameterId, Vec<f32>)> = None;
    write_weights(folder, &params, description.dtype(), |index| {
        let named: &Named = &named[index];
        if held.as_ref().is_none_or(|(parameter, _)| *parameter != named.parameter) {
            held = Some((named.parameter, block_on(tape.read_parameter(named.parameter))?));
        }
        let values = held.as_ref().map(|(_, values)| named.values(values).to_vec()).unwrap_or_default();
        finite(&named.param.name, &values)?;
        Ok(values)
    })?;
    description.write(folder)
}

/// Refuses to save values that no run could go on with.
fn finite(name: &str, values: &[f32]) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::Request(format!(
        "the run has come apart: {name} holds NaN or infinity and is not saved; lower --learning-rate"
    )))
}

/// Puts the optimiser's state of the checkpoint at `path` in the place of the trainer's, and the adapters', which a
/// checkpoint holds instead of a model.
///
/// # Errors
/// When a tensor is missing or has another size.
pub async fn load_state<B: Adjoint, S: Store<B>>(path: &Path, trainer: &Trainer<B, Sft<B, S>, S>) -> Result<()> {
    let tape = trainer.tape();
    if trainer.objective().lora().is_some() {
        read_adapters(tape, path).await?;
    }
    let source = FolderSource::open(path)?;
    let entries = read_header(&source, OPTIMIZER).await?;
    for info in tape.parameters() {
        let size = info.len();
        // A rank reads what it holds.
        let part = tape.sharding().map_or(0..size, |sharding| sharding.part(size));
        for state in states(&info) {
            let name = state.name(&info);
            let entry = entries.iter().find(|entry| entry.name == name && entry.bytes == 4 * size as u64);
            let entry = entry.ok_or_else(|| {
                Error::Request(format!("{}: {name} is not of this model; resume another run", path.display()))
            })?;
            let range = entry.offset + 4 * part.start as u64..entry.offset + 4 * part.end as u64;
            let mut values = vec![0.0; part.len()];
            dequantize(Encoding::F32, &source.read(OPTIMIZER, range).await?, &mut values)?;
            match state {
                SavedState::Moment(moment) => tape.write_moment(info.id, moment, part.start, &values)?,
                SavedState::Master => tape.write_parameter(info.id, part.start, &values)?,
            }
        }
    }
    Ok(())
}

/// What a rank does while the first one writes the model: gives its parts, in the order in which they are written.
async fn give_model<B: Adjoint, S: Store<B>>(trainer: &Trainer<B, Sft<B, S>, S>) -> Result<()> {
    let tape = trainer.tape();
    let of_adapters = trainer.objective().lora().is_some();
    let adapters: Vec<ParameterId> = adapter_parameters(tape).iter().map(|info| info.id).collect();
    for info in tape.parameters().iter().filter(|info| adapters.contains(&info.id) == of_adapters) {
        tape.read_parameter(info.id).await?;
    }
    Ok(())
}

/// A tensor of the optimiser's state.
#[derive(Debug, Clone, Copy)]
enum SavedState {
    Moment(Moment),
    /// The values of a parameter that the model holds in fewer bits.
    Master,
}

impl SavedState {
    /// Its name in the file.
    fn name(self, info: &ParameterInfo) -> String {
        let suffix = match self {
            Self::Moment(moment) => MOMENTS[moment as usize],
            Self::Master => MASTER,
        };
        format!("{}.{suffix}", info.label)
    }

    /// Its whole values, of which every rank gives its part.
    async fn read<B: Adjoint, S: Store<B>>(self, tape: &Tape<B, S>, id: ParameterId) -> Result<Vec<f32>> {
        Ok(match self {
            Self::Moment(moment) => tape.read_moment(id, moment).await?,
            Self::Master => tape.read_master(id).await?,
        })
    }
}

/// What is saved of a parameter beside its values.
fn states(info: &ParameterInfo) -> Vec<SavedState> {
    let mut states = Vec::new();
    if info.trained {
        states.extend([Moment::First, Moment::Second].map(SavedState::Moment));
    }
    if info.has_master {
        states.push(SavedState::Master);
    }
    states
}

/// What a rank does while the first one writes the optimiser's state.
async fn give_states<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>) -> Result<()> {
    for info in tape.parameters() {
        for state in states(&info) {
            state.read(tape, info.id).await?;
        }
    }
    Ok(())
}

fn write_states<B: Adjoint, S: Store<B>>(file: &mut impl Write, tape: &Tape<B, S>) -> Result<()> {
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    for info in tape.parameters() {
        for state in states(&info) {
            entries.push(TensorSpec { name: state.name(&info), shape: info.shape.to_vec(), dtype: Dtype::F32 });
            places.push((info.id, state));
        }
    }
    write_safetensors(file, &entries, |entry| {
        let (id, state) = places[entry];
        block_on(state.read(tape, id))
    })
}

/// Names and digests of the files at `path`, except the file of digests itself.
fn hashes(path: &Path) -> Result<Vec<(String, String)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::path("read", path))? {
        let name = entry.map_err(Error::path("read", path))?.file_name().to_string_lossy().into_owned();
        if name != HASHES {
            names.push(name);
        }
    }
    names.sort();
    names.into_iter().map(|name| file_sha256(&path.join(&name)).map(|digest| (name, digest))).collect()
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::Request(format!("cannot write a checkpoint: {error}")))
}

fn with_file(path: &Path, action: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).map_err(Error::path("create", path))?);
    action(&mut file).map_err(|error| match error {
        Error::Output(error) => Error::path("write", path)(error),
        other => other,
    })?;
    file.flush().map_err(Error::path("write", path))
}
