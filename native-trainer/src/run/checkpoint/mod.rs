//! Checkpoints of a run: a model's folder with the state of its training beside it.

mod find;
pub mod optimizer;
mod trained_model;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{AtomicFolder, file_sha256, write_file};
use crate::run::Settings;
use crate::{Error, Result};
pub use find::{Newest, clear_removed, newest, of_step};
pub use trained_model::{TrainedModel, count_parameters};

/// How far the run was.
const STATE: &str = "trainer_state.json";
/// What the run is made of.
const ORIGIN: &str = "run.json";
/// SHA-256 of every other file, written last: a folder without it is not complete.
const HASHES: &str = "hashes.json";

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
#[serde(bound = "T: Settings")]
pub struct Origin<T> {
    /// The command of the run.
    #[serde(default = "first_command")]
    pub command: String,
    /// The run's settings.
    pub settings: T,
    /// SHA-256 of its examples, as tokens.
    pub examples: String,
    /// Digests of models and files that the run reads and its checkpoints do not hold, by the names of their settings.
    #[serde(default)]
    pub models: BTreeMap<String, String>,
}

/// The command of checkpoints that do not name theirs.
fn first_command() -> String {
    "sft".to_string()
}

impl<T: Settings> Origin<T> {
    /// That of a run of `settings` on examples and models with these digests.
    pub fn new(settings: T, examples: String, models: BTreeMap<String, String>) -> Self {
        Self { command: T::COMMAND.to_string(), settings, examples, models }
    }

    /// That of the run that saved the checkpoint at `path`; `None` when it does not tell.
    pub fn of(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path.join(ORIGIN)).ok()?).ok()
    }
}

/// The command of the run that saved the checkpoint at `path`; `None` when it does not tell.
pub fn command_of(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(default = "first_command")]
        command: String,
    }
    let told: Told = serde_json::from_slice(&fs::read(path.join(ORIGIN)).ok()?).ok()?;
    Some(told.command)
}

/// What checkpoints of a run hold, and its result.
///
/// Of several ranks only the first writes. It is asked with a folder, and the others at the same time without one: they
/// give their parts of what it writes, in the order in which it writes it.
#[allow(async_fn_in_trait, reason = "one thread, which blocks on it")]
pub trait Kept {
    /// Whether this rank is the one that writes.
    fn leads(&self) -> bool;

    /// Writes the model, or the adapters that were trained on it, in a form that other programs read.
    ///
    /// # Errors
    /// When a weight is no longer finite, the disk refuses, or a rank has ended.
    async fn write_model(&self, folder: Option<&Path>) -> Result<()>;

    /// Writes what else a run needs to go on: the optimiser's state, and whatever its next step depends on.
    ///
    /// # Errors
    /// When the disk refuses, or a rank has ended.
    async fn write_state(&self, folder: Option<&Path>) -> Result<()>;

    /// Puts what is in the checkpoint at `folder` in the place of what was loaded before the first step. A model that is
    /// trained as a whole has been loaded from there.
    ///
    /// # Errors
    /// When something is missing or has another size.
    async fn read_state(&mut self, folder: &Path) -> Result<()>;
}

/// Writes the model, the state of its training and `state` as `output/checkpoint-<step>`, which appears whole or not at
/// all, and removes all but the newest of the checkpoints up to this step. Checkpoints do not depend on the number of
/// ranks.
///
/// # Errors
/// When a weight is no longer finite, the disk refuses, or a rank has ended.
pub async fn save<T: Settings>(output: &Path, kept: &impl Kept, state: State, origin: &Origin<T>) -> Result<()> {
    if !kept.leads() {
        kept.write_model(None).await?;
        return kept.write_state(None).await;
    }
    let folder = AtomicFolder::create(&output.join(format!("checkpoint-{}", state.step)))?;
    let path = folder.path();
    kept.write_model(Some(path)).await?;
    kept.write_state(Some(path)).await?;
    write_file(&path.join(STATE), &json(&state)?)?;
    write_file(&path.join(ORIGIN), &json(origin)?)?;
    write_file(&path.join(HASHES), &json(&hashes(path)?)?)?;
    folder.commit()?;
    find::remove_old(output, state.step, origin.settings.run().keep)
}

/// Writes the trained model into the run's folder; it takes the place of one that is there only when all of it is on the
/// disk.
///
/// # Errors
/// As [`save`].
pub async fn save_result(output: &Path, kept: &impl Kept) -> Result<()> {
    if !kept.leads() {
        return kept.write_model(None).await;
    }
    let folder = AtomicFolder::create(&output.join("model"))?;
    kept.write_model(Some(folder.path())).await?;
    folder.commit_into(output)
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
