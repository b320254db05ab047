//! Checkpoints of a run: a model's folder with the state of its training beside it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

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
use crate::{Error, Result};

/// First and second moments of every parameter.
const OPTIMIZER: &str = "optimizer.safetensors";
/// How far the run was.
const STATE: &str = "trainer_state.json";
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

/// Writes the model, the optimiser's moments and `state` as `output/checkpoint-<step>`, which appears whole or not at
/// all, and removes all but the newest `keep` checkpoints. Of several ranks only the first writes; checkpoints do not
/// depend on the number of ranks.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
pub async fn save<B: Adjoint, S: Store<B>>(
    output: &Path,
    trainer: &Trainer<B, Sft<B, S>, S>,
    description: &Description,
    state: State,
    keep: usize,
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
    write_file(&path.join(HASHES), &json(&hashes(path)?)?)?;
    folder.commit()?;
    let checkpoints = list(output)?;
    for (_, old) in checkpoints.iter().rev().skip(keep.max(1)) {
        fs::remove_dir_all(old).map_err(Error::path("remove", old))?;
    }
    Ok(())
}

/// Writes the model, or the adapters that were trained on it, into `folder`. Of several ranks only the first writes.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
pub async fn save_model<B: Adjoint, S: Store<B>>(
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
        Ok(held.as_ref().map(|(_, values)| named.values(values).to_vec()).unwrap_or_default())
    })?;
    description.write(folder)
}

/// The newest checkpoint in `output` whose files are all there and undamaged, with its state.
///
/// # Errors
/// When the folder cannot be read.
pub fn latest(output: &Path) -> Result<Option<(PathBuf, State)>> {
    for (_, path) in list(output)?.into_iter().rev() {
        if let Some(state) = complete(&path)? {
            return Ok(Some((path, state)));
        }
    }
    Ok(None)
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

/// Checkpoints in `output` by their step, oldest first.
fn list(output: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(output).map_err(Error::path("read", output))? {
        let entry = entry.map_err(Error::path("read", output))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("checkpoint-")).and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The state of the checkpoint at `path`, if every file matches its digest.
fn complete(path: &Path) -> Result<Option<State>> {
    let expected = fs::read(path.join(HASHES)).ok();
    let expected = expected.and_then(|bytes| serde_json::from_slice::<Vec<(String, String)>>(&bytes).ok());
    let Some(expected) = expected else {
        return Ok(None);
    };
    if hashes(path)? != expected {
        return Ok(None);
    }
    Ok(fs::read(path.join(STATE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
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
    action(&mut file)?;
    file.flush().map_err(Error::path("write", path))
}
