//! Checkpoints of a run: a model's folder with the state of its training beside it.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use paddock_engine::weights::safetensors::read_header;
use paddock_engine::weights::{Encoding, Source, dequantize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Named, Trainer, named};
use crate::autograd::Adjoint;
use crate::weights::{
    AtomicFile, AtomicFolder, Description, Entry, FolderSource, WEIGHTS, write_safetensors, write_weights,
};
use crate::{Error, Result};

/// First and second moments of every parameter.
const OPTIMIZER: &str = "optimizer.safetensors";
/// Where the run was.
const STATE: &str = "trainer_state.json";
/// SHA-256 of every other file, written last: a folder without it is not complete.
const HASHES: &str = "hashes.json";
/// Suffixes of a parameter's moments, as PyTorch calls them.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

/// Where a run was when it was saved. The order of the data and the learning rate follow from it and the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
}

/// Writes the model, the optimiser's moments and `state` as `output/checkpoint-<step>`, which appears whole or not at
/// all, and removes all but the newest `keep` checkpoints.
///
/// # Errors
/// When the disk refuses.
pub fn save<B: Adjoint>(
    output: &Path,
    trainer: &mut Trainer<B>,
    description: &Description,
    state: State,
    keep: usize,
) -> Result<()> {
    let folder = AtomicFolder::create(&output.join(format!("checkpoint-{}", state.step)))?;
    let path = folder.path();
    with_file(&path.join(WEIGHTS), |file| write_model(file, trainer))?;
    with_file(&path.join(OPTIMIZER), |file| write_moments(file, trainer))?;
    for (name, contents) in description.files() {
        write(&path.join(name), &contents)?;
    }
    write(&path.join(STATE), &json(&state)?)?;
    write(&path.join(HASHES), &json(&hashes(path)?)?)?;
    folder.commit()?;
    let checkpoints = list(output)?;
    for (_, old) in checkpoints.iter().rev().skip(keep.max(1)) {
        fs::remove_dir_all(old).map_err(Error::path("remove", old))?;
    }
    Ok(())
}

/// Writes the finished model into `output` itself.
///
/// # Errors
/// When the disk refuses.
pub fn save_model<B: Adjoint>(output: &Path, trainer: &Trainer<B>, description: &Description) -> Result<()> {
    let mut file = AtomicFile::create(&output.join(WEIGHTS))?;
    write_model(&mut file, trainer)?;
    file.commit()?;
    for (name, contents) in description.files() {
        let mut file = AtomicFile::create(&output.join(name))?;
        file.write_all(contents.as_bytes())?;
        file.commit()?;
    }
    Ok(())
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

/// Reads the optimiser's moments of the checkpoint at `path`.
///
/// # Errors
/// When a moment is missing or has another size.
pub async fn load_moments<B: Adjoint>(path: &Path, trainer: &mut Trainer<B>) -> Result<()> {
    let source = FolderSource::open(path)?;
    let entries = read_header(&source, OPTIMIZER).await?;
    let labels = labels(trainer)?;
    let backend = trainer.tape().inner().clone();
    for (label, moments) in labels.iter().zip(trainer.optimizer().moments()) {
        let Some(moments) = moments else { continue };
        for (suffix, moment) in MOMENTS.iter().zip(moments) {
            let name = format!("{label}.{suffix}");
            let [rows, cols] = backend.param_shape(moment);
            let entry = entries.iter().find(|entry| entry.name == name && entry.bytes == (4 * rows * cols) as u64);
            let entry = entry.ok_or_else(|| {
                Error::Request(format!("{}: {name} is not of this model; resume another run", path.display()))
            })?;
            let bytes = source.read(OPTIMIZER, entry.offset..entry.offset + entry.bytes).await?;
            let mut values = vec![0.0; rows * cols];
            dequantize(Encoding::F32, &bytes, &mut values)?;
            backend.write_param(moment, 0, &values)?;
        }
    }
    Ok(())
}

fn write_model<B: Adjoint>(file: &mut impl Write, trainer: &Trainer<B>) -> Result<()> {
    let named = named(trainer.config().params(), trainer.tape())?;
    let params: Vec<_> = named.iter().map(|named| named.param.clone()).collect();
    let mut held: Option<(usize, Vec<f32>)> = None;
    write_weights(file, &params, |index| {
        let named: &Named = &named[index];
        if held.as_ref().is_none_or(|(parameter, _)| *parameter != named.parameter) {
            held = Some((named.parameter, read(trainer, named.parameter)?));
        }
        Ok(held.as_ref().map(|(_, values)| named.values(values).to_vec()).unwrap_or_default())
    })
}

fn read<B: Adjoint>(trainer: &Trainer<B>, wanted: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    trainer.tape().visit(|index, parameter| {
        if index == wanted {
            values = trainer.tape().inner().read_param(&parameter.value)?;
        }
        Ok(())
    })?;
    Ok(values)
}

fn labels<B: Adjoint>(trainer: &Trainer<B>) -> Result<Vec<String>> {
    let mut labels = Vec::new();
    trainer.tape().visit(|_, parameter| {
        labels.push(parameter.label.clone());
        Ok(())
    })?;
    Ok(labels)
}

fn write_moments<B: Adjoint>(file: &mut impl Write, trainer: &mut Trainer<B>) -> Result<()> {
    let labels = labels(trainer)?;
    let backend = trainer.tape().inner().clone();
    let mut entries = Vec::new();
    let mut moments = Vec::new();
    for (label, pair) in labels.iter().zip(trainer.optimizer().moments()) {
        for (suffix, moment) in MOMENTS.iter().zip(pair.iter().flatten()) {
            entries.push(Entry { name: format!("{label}.{suffix}"), shape: backend.param_shape(moment).to_vec() });
            moments.push(moment);
        }
    }
    write_safetensors(file, &entries, |index| Ok(backend.read_param(moments[index])?))
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
    names.into_iter().map(|name| digest(&path.join(&name)).map(|digest| (name, digest))).collect()
}

fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::path("read", path))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk).map_err(Error::path("read", path))? {
            0 => break,
            len => hasher.update(&chunk[..len]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::Request(format!("cannot write a checkpoint: {error}")))
}

fn with_file(path: &Path, action: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).map_err(Error::path("create", path))?);
    action(&mut file)?;
    file.flush().map_err(Error::path("write", path))
}

fn write(path: &Path, contents: &str) -> Result<()> {
    fs::write(path, contents).map_err(Error::path("write", path))
}
