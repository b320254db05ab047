//! Checkpoints of a run: a model's folder with the state of its training beside it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use paddock_engine::weights::safetensors::read_header;
use paddock_engine::weights::{Encoding, Source, dequantize};
use serde::{Deserialize, Serialize};

use crate::files::{
    AtomicFolder, Description, Dtype, FolderSource, TensorSpec, file_sha256, read_adapters, write_adapters, write_file,
    write_safetensors, write_weights,
};
use crate::{Error, Result};
use paddock_learn::tape::{Named, Parameter, named};
use paddock_learn::{Adjoint, Tape, Trainer};

/// First and second moments of every parameter.
const OPTIMIZER: &str = "optimizer.safetensors";
/// Where the run was.
const STATE: &str = "trainer_state.json";
/// SHA-256 of every other file, written last: a folder without it is not complete.
const HASHES: &str = "hashes.json";
/// Suffixes of a parameter's moments, as PyTorch calls them.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];
/// Suffix of the f32 values of a parameter that the model holds in bf16.
const MASTER: &str = "master";

/// Where a run was when it was saved. The order of the data and the learning rate follow from it and the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
}

/// Writes the model, the optimiser's moments and `state` as `output/checkpoint-<step>`, which appears whole or not at
/// all, and removes all but the newest `keep` checkpoints. Of several ranks the first writes; a checkpoint does not tell
/// how many they were.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
pub fn save<B: Adjoint>(
    output: &Path,
    trainer: &mut Trainer<B>,
    description: &Description,
    state: State,
    keep: usize,
) -> Result<()> {
    if !trainer.leads() {
        give_model(trainer)?;
        return give_moments(trainer);
    }
    let folder = AtomicFolder::create(&output.join(format!("checkpoint-{}", state.step)))?;
    let path = folder.path();
    save_model(path, trainer, description)?;
    with_file(&path.join(OPTIMIZER), |file| write_moments(file, trainer))?;
    write_file(&path.join(STATE), &json(&state)?)?;
    write_file(&path.join(HASHES), &json(&hashes(path)?)?)?;
    folder.commit()?;
    let checkpoints = list(output)?;
    for (_, old) in checkpoints.iter().rev().skip(keep.max(1)) {
        fs::remove_dir_all(old).map_err(Error::path("remove", old))?;
    }
    Ok(())
}

/// Writes the model, or the adapters that were trained on it, into `folder`. Of several ranks the first writes.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
pub fn save_model<B: Adjoint>(folder: &Path, trainer: &Trainer<B>, description: &Description) -> Result<()> {
    if !trainer.leads() {
        return give_model(trainer);
    }
    if let Some(lora) = trainer.lora() {
        write_adapters(lora, trainer.tape(), description.source(), folder)?;
        return description.write_tokenizer(folder);
    }
    let named = named(trainer.config().params(), trainer.tape())?;
    let params: Vec<_> = named.iter().map(|named| named.param.clone()).collect();
    let mut held: Option<(usize, Vec<f32>)> = None;
    write_weights(folder, &params, description.dtype(), |index| {
        let named: &Named = &named[index];
        if held.as_ref().is_none_or(|(parameter, _)| *parameter != named.parameter) {
            held = Some((named.parameter, read(trainer, named.parameter)?));
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
pub async fn load_state<B: Adjoint>(path: &Path, trainer: &mut Trainer<B>) -> Result<()> {
    if trainer.lora().is_some() {
        read_adapters(trainer.tape(), path).await?;
    }
    let source = FolderSource::open(path)?;
    let entries = read_header(&source, OPTIMIZER).await?;
    let tape = trainer.tape().clone();
    let moments = trainer.optimizer().moments();
    tape.visit(|index, parameter| {
        let (label, size) = (parameter.label.clone(), parameter.len());
        let restore = |suffix: &str, place: &mut B::Param| -> Result<()> {
            let name = format!("{label}.{suffix}");
            let entry = entries.iter().find(|entry| entry.name == name && entry.bytes == 4 * size as u64);
            let entry = entry.ok_or_else(|| {
                Error::Request(format!("{}: {name} is not of this model; resume another run", path.display()))
            })?;
            let part = tape.sharding().map_or(0..size, |sharding| sharding.part(size));
            let range = entry.offset + 4 * part.start as u64..entry.offset + 4 * part.end as u64;
            let mut values = vec![0.0; part.len()];
            dequantize(Encoding::F32, &pollster::block_on(source.read(OPTIMIZER, range))?, &mut values)?;
            Ok(tape.write_part(place, size, part.start, &values)?)
        };
        let Some(Some([first, second])) = moments.get_mut(index) else { return Ok(()) };
        restore(MOMENTS[0], first)?;
        restore(MOMENTS[1], second)?;
        if tape.inner().read_master(&parameter.value)?.is_some() {
            restore(MASTER, &mut parameter.value)?;
        }
        Ok(())
    })
}

/// The whole values of a parameter, of which every rank gives its part.
fn read<B: Adjoint>(trainer: &Trainer<B>, wanted: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    trainer.tape().visit(|index, parameter| {
        if index == wanted {
            values = trainer.tape().read_whole(&parameter.value, parameter.len())?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(values)
}

/// What a rank does while the first one writes the model: gives its parts, in the order in which they are written.
fn give_model<B: Adjoint>(trainer: &Trainer<B>) -> Result<()> {
    let named = named(trainer.config().params(), trainer.tape())?;
    let last_of_model = named.last().map_or(0, |named| named.parameter);
    trainer.tape().visit(|index, parameter| {
        if (index <= last_of_model) == trainer.lora().is_none() {
            trainer.tape().read_whole(&parameter.value, parameter.len())?;
        }
        Ok(())
    })
}

/// What is written of the optimiser's state of parameter `index`: moments, and `None` for the parameter's master.
fn states<B: Adjoint>(
    tape: &Tape<B>,
    moments: Option<&Option<[B::Param; 2]>>,
    parameter: &Parameter<B>,
) -> Result<Vec<Option<usize>>> {
    let Some(Some(pair)) = moments else { return Ok(Vec::new()) };
    let mut states: Vec<Option<usize>> = (0..pair.len()).map(Some).collect();
    if tape.inner().read_master(&parameter.value)?.is_some() {
        states.push(None);
    }
    Ok(states)
}

/// The whole values of one of [`states`], of which every rank gives its part.
fn read_state<B: Adjoint>(
    tape: &Tape<B>,
    moments: Option<&Option<[B::Param; 2]>>,
    parameter: &Parameter<B>,
    state: Option<usize>,
) -> Result<Vec<f32>> {
    let size = parameter.len();
    match (state, moments) {
        (Some(moment), Some(Some(pair))) => Ok(tape.read_whole(&pair[moment], size)?),
        _ => Ok(tape.whole(tape.inner().read_master(&parameter.value)?.unwrap_or_default(), size)?),
    }
}

/// What a rank does while the first one writes the optimiser's state.
fn give_moments<B: Adjoint>(trainer: &mut Trainer<B>) -> Result<()> {
    let tape = trainer.tape().clone();
    let moments = trainer.optimizer().moments();
    tape.visit(|index, parameter| {
        for state in states(&tape, moments.get(index), parameter)? {
            read_state(&tape, moments.get(index), parameter, state)?;
        }
        Ok(())
    })
}

fn write_moments<B: Adjoint>(file: &mut impl Write, trainer: &mut Trainer<B>) -> Result<()> {
    let tape = trainer.tape().clone();
    let moments = trainer.optimizer().moments();
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    tape.visit(|index, parameter| {
        for state in states(&tape, moments.get(index), parameter)? {
            let name = format!("{}.{}", parameter.label, state.map_or(MASTER, |moment| MOMENTS[moment]));
            entries.push(TensorSpec { name, shape: parameter.shape.to_vec(), dtype: Dtype::F32 });
            places.push((index, state));
        }
        Ok::<_, Error>(())
    })?;
    write_safetensors(file, &entries, |entry| {
        let (wanted, state) = places[entry];
        let mut values = Vec::new();
        tape.visit(|index, parameter| {
            if index == wanted {
                values = read_state(&tape, moments.get(index), parameter, state)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(values)
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

/// The state of the checkpoint at `path`, when every file of it is what its hashes say.
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

/// Names and digests of the files at `path`, but for the digests' own.
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
